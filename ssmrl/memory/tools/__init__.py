"""What is done to linear time-invariant memories before or after training; pure functions.

    kernel, fft_conv                                impulse response, and convolution with one
    realisation, balanced_truncation, as_lru        the same memory with fewer states
    distil                                          a convolution kernel as a diagonal memory
    tau, scale_by_tau, tau_penalty, bandlimit       scales and frequencies of a readout
    prophecy_readout                                a readout that predicts, without training

All take a bare cell, e.g. `ssmrl.memory.S5(...)`: norms and gates of a block are not linear.
"""

from ssmrl.memory.tools.distil import Distilled, distil
from ssmrl.memory.tools.kernel import fft_conv, kernel
from ssmrl.memory.tools.prophecy import prophecy_readout
from ssmrl.memory.tools.scaling import bandlimit, scale_by_tau, tau, tau_penalty
from ssmrl.memory.tools.truncation import (
    Realisation,
    Truncation,
    as_lru,
    balanced_truncation,
    realisation,
)

__all__ = [
    "Distilled",
    "Realisation",
    "Truncation",
    "as_lru",
    "balanced_truncation",
    "bandlimit",
    "distil",
    "fft_conv",
    "kernel",
    "prophecy_readout",
    "realisation",
    "scale_by_tau",
    "tau",
    "tau_penalty",
]
