"""Time and memory of jitted programs, measured so that ratios survive a noisy machine.

Programs that are to be compared run in turns (A, B, A, B, ...) and a ratio is the median of
the ratios within a round: whatever else the machine does then slows both of its sides.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

Row = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A compiled program with its arguments.

    Attributes:
        call: runs it and waits for the result, which it returns.
        compile_s: seconds to trace, lower and compile it (less, if JAX was told to keep
            compiled programs on disk and finds it there).
        temp_mib: MiB it needs beside its arguments and results, as the compiler planned it;
            None where the platform does not tell.
    """

    call: Callable[[], Any]
    compile_s: float
    temp_mib: float | None


def compiled(function: Callable[..., Any], *args: Any) -> Program:
    """Compile `jax.jit(function)` for `args` and bind them."""
    start = time.perf_counter()
    executable = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    memory = executable.memory_analysis()
    temp = None if memory is None else memory.temp_size_in_bytes / 2**20
    return Program(lambda: jax.block_until_ready(executable(*args)), seconds, temp)


def interleaved(calls: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of every call in each of `repetitions` rounds, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repetitions):
        for name, call in calls.items():
            start = time.perf_counter()
            result = call()
            seconds[name].append(time.perf_counter() - start)
            del result  # giving its memory back takes time too, which is not the program's
    return seconds


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the rounds of `seconds / reference`, both as `interleaved` returns them."""
    return statistics.median(s / r for s, r in zip(seconds, reference, strict=True))
