"""How large a ring is, and whether the device can hold it: known before it is allocated."""

import os
from math import prod

import jax
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.shapes import PyTree

SHARE = 0.8  # of the device's memory that a replay may take


def nbytes(row: PyTree, capacity: int, num_envs: int) -> int:
    """Bytes of a ring of rows like `row` (arrays or `jax.ShapeDtypeStruct`s)."""
    each = sum(prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(row))
    return each * capacity * num_envs


def readable(size: int) -> str:
    """A number of bytes as people write it: `1.2 GB`."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def device_memory() -> int | None:
    """Bytes of the default device's memory (of the machine's where that is the CPU), or None."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        names = {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} & set(os.sysconf_names)
        return prod(os.sysconf(name) for name in names) if len(names) == 2 else None
    return (device.memory_stats() or {}).get("bytes_limit")


def check_fits(size: int, memory: int | None, advice: str) -> None:
    """Refuse a replay of `size` bytes on a device that cannot hold it.

    Raises:
        UsageError: it takes more than `SHARE` of `memory` bytes; ends in `advice`.
    """
    if memory is not None and size > SHARE * memory:
        raise UsageError(
            f"the replay needs {readable(size)}, more than {SHARE:.0%} of the device's "
            f"{readable(memory)}; {advice}"
        )
