"""Tasks that tell what a memory can do, by name.

    task = tasks.make("flip_flop", length=64)
    sequences = tasks.generate(task, key, batch=32)     # u, reset, target, scored, dt

The same tasks are environments: `ssmrl.envs.make("probe/FlipFlop", length=64)`.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from ssmrl.errors import unknown
from ssmrl.memory.diagnostics.tasks.base import (
    Sequences,
    Shown,
    Task,
    generate,
    score,
)
from ssmrl.memory.diagnostics.tasks.languages import (
    BoundedDyck,
    Counters,
    EvenLength,
    FlipFlop,
    GroupWord,
    ModularSum,
)
from ssmrl.memory.diagnostics.tasks.recall import AssociativeRecall, Copy, Induction, SelectiveCopy
from ssmrl.memory.diagnostics.tasks.signals import Belief, Delay

__all__ = [
    "TASKS",
    "AssociativeRecall",
    "Belief",
    "BoundedDyck",
    "Copy",
    "Counters",
    "Delay",
    "EvenLength",
    "FlipFlop",
    "GroupWord",
    "Induction",
    "ModularSum",
    "SelectiveCopy",
    "Sequences",
    "Shown",
    "Task",
    "generate",
    "make",
    "score",
]

TASKS: dict[str, Callable[..., Task]] = {
    "copy": Copy,
    "selective_copy": SelectiveCopy,
    "induction": Induction,
    "associative_recall": AssociativeRecall,
    "overwriting_recall": partial(AssociativeRecall, overwrite=True),
    "flip_flop": FlipFlop,
    "parity": ModularSum,
    "modular_sum": partial(ModularSum, modulus=5),
    "aa_star": EvenLength,
    "counters": Counters,
    "bounded_dyck": BoundedDyck,
    "group_word": GroupWord,
    "delay": Delay,
    "rate_jitter": partial(Delay, drop=0.3),
    "belief": Belief,
}
"""The constructors of the tasks; their keywords are the options."""


def make(name: str, **options: Any) -> Task:
    """The task of that name with some options changed.

    Raises:
        UsageError: unknown name or option, or an option out of range.
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    known = signature(TASKS[name]).parameters
    for option in options:
        if option not in known:
            raise unknown(f"option of task {name!r}", option, known)
    return TASKS[name](**options)
