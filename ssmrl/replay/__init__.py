"""Trajectory replay, on the device or on disk: rings of rows, and samplers of windows."""

from ssmrl.replay.disk import Disk
from ssmrl.replay.memory import check_fits, device_memory, nbytes, readable
from ssmrl.replay.ring import Ring, empty, sample, windows, write
from ssmrl.replay.samplers import SAMPLERS, sampler

__all__ = [
    "SAMPLERS",
    "Disk",
    "Ring",
    "check_fits",
    "device_memory",
    "empty",
    "nbytes",
    "readable",
    "sample",
    "sampler",
    "windows",
    "write",
]
