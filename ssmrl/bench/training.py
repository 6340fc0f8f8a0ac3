"""Train steps of an agent, as `ssmrl train` compiles them, to be timed."""

import time
from collections.abc import Callable
from typing import Any

import jax

from ssmrl.run.program import compiled
from ssmrl.shapes import PyTree


def training(agent: Any, state: PyTree) -> tuple[Callable[[], Any], int, float]:
    """One train step as a call that goes on from the one before and returns its metrics; the
    number of parameters; seconds to compile it.

    state: of one seed; it is donated.
    """
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    start = time.perf_counter()
    train_step = compiled(agent.train_step, state)
    compile_s = time.perf_counter() - start

    def update() -> Any:
        nonlocal state
        state, metrics = train_step(state)
        return jax.block_until_ready(metrics)

    return update, parameters, compile_s
