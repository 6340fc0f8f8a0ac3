"""One compiled program per run: the train step of all seeds."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.shapes import Array, PyTree


class Program(NamedTuple):
    """The train step of S seeds as machine code.

    Attributes:
        step: state -> (state, metrics), every leaf of the state (S, ...) and the metrics
            float32 (number of names, S); the state that goes in is donated.
        names: of the metrics.
        compile_seconds: from tracing to machine code.
    """

    step: Callable[[PyTree], tuple[PyTree, Array]]
    names: tuple[str, ...]
    compile_seconds: float


def initial_state(agent: Any, seed: int, seeds: int) -> PyTree:
    """The state at update 0; seed i starts from `fold_in(key(seed), i)`. Trace it or jit it.

    It has no weak types: a state read from a checkpoint has none either, and both must be
    the input of the very same program.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), jnp.arange(seeds))
    return jax.tree.map(_strong, _over_seeds(agent.init, seeds)(keys))


def compile_train_step(agent: Any, like: PyTree, seeds: int) -> Program:
    """Compile `agent.train_step` ahead of time for a state like `like`.

    One seed is not vmapped, so it does not pay for what several need.
    """
    begin = time.perf_counter()
    train_step = _over_seeds(agent.train_step, seeds)
    names = tuple(sorted(jax.eval_shape(train_step, like)[1]))

    def step(state: PyTree) -> tuple[PyTree, Array]:
        state, metrics = train_step(state)
        stacked = jnp.stack([metrics[name].astype(jnp.float32) for name in names])
        return jax.tree.map(_strong, state), stacked

    compiled = jax.jit(step, donate_argnums=0).lower(like).compile()
    return Program(compiled, names, time.perf_counter() - begin)


def fetch(program: Program, metrics: Array) -> dict[str, np.ndarray]:
    """The metrics by name, (S,) each, in a single transfer from the device."""
    return dict(zip(program.names, np.asarray(metrics), strict=True))


def use_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was told of another."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "ssmrl" / "jax"))


def _over_seeds(function: Callable[[PyTree], Any], seeds: int) -> Callable[[PyTree], Any]:
    """`jax.vmap(function)`, or the same for a leading axis of length 1 without vmap."""
    if seeds > 1:
        return jax.vmap(function)

    def call(tree: PyTree) -> Any:
        return jax.tree.map(lambda x: x[None], function(jax.tree.map(lambda x: x[0], tree)))

    return call


def _strong(x: Any) -> Array:
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.asarray(x, dtype=x.dtype)
