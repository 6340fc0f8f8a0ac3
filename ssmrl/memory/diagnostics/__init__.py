"""What a memory can do and what it does: functions of `(mem, params, ...)`, for any memory.

    horizon, memory_function, perturbation_growth   how far back it reaches, how it forgets
    reset_leak, associativity_gap                   does anything cross a reset?
    hidden_attention, contributions                 which inputs an output depends on
    utilisation, half_lives, hankel_singular_values how much of its state it uses
    tasks                                           copying, counting, groups, ... by name
    fit.fit, fit.length_generalisation              train on a task, test on longer episodes;
                                                    `import ssmrl.memory.diagnostics.fit`

A trained *policy* is examined by `ssmrl.run.forced_reset`.
"""

from ssmrl.memory.diagnostics import tasks
from ssmrl.memory.diagnostics.attention import contributions, hidden_attention
from ssmrl.memory.diagnostics.horizon import (
    Horizon,
    MemoryFunction,
    horizon,
    memory_function,
    perturbation_growth,
)
from ssmrl.memory.diagnostics.resets import ResetLeak, associativity_gap, reset_leak
from ssmrl.memory.diagnostics.utilisation import (
    Utilisation,
    half_lives,
    hankel_singular_values,
    utilisation,
)

__all__ = [
    "Horizon",
    "MemoryFunction",
    "ResetLeak",
    "Utilisation",
    "associativity_gap",
    "contributions",
    "half_lives",
    "hankel_singular_values",
    "hidden_attention",
    "horizon",
    "memory_function",
    "perturbation_growth",
    "reset_leak",
    "tasks",
    "utilisation",
]
