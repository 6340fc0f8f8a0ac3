"""`ssmrl bench memory`: every registered memory against memax and against a plain loop.

A cell by itself, without the block that `make` puts around it, reads `(T, B, H)` with resets;
what is timed is the sum of squares of its outputs and the gradient of that for parameters and
inputs. The plain loop is `jax.lax.scan` of the cell's own `step`, what a user writes who has
a step function only.
"""

import importlib
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from ssmrl.bench.scan import EPISODE
from ssmrl.bench.timing import Row, compiled, interleaved, ratio
from ssmrl.errors import unknown
from ssmrl.memory import MEMORIES, Memory, make
from ssmrl.shapes import TB, TBF, TBH, Array, PyTree

Read = Callable[[PyTree, TBF, TB], TBH]  # (params, u, reset) -> outputs

STEPS = 200  # whose median is the time of a step
MEMAX = {
    "deltanet": "DeltaNet",
    "elman": "Elman",
    "ffm": "FFM",
    "gated_deltanet": "GDN",
    "gru": "GRU",
    "linear_attention": "FART",
    "lru": "LRU",
    "lstm": "LSTM",
    "s5": "LRU",
    "window_attention": "Attention",
}
"""Ours -> memax's class. Its S6 has one state per channel and no convolution: not a Mamba."""


def run(
    T: int = 1024,
    B: int = 16,
    H: int = 64,
    *,
    repetitions: int = 5,
    only: str | None = None,
    loop: bool = True,
) -> list[Row]:
    """One row per member.

    Args:
        T: steps.
        B: sequences.
        H: width; every other size is the member's default.
        repetitions: rounds; times and ratios are medians over them.
        only: names separated by `+`, None for all.
        loop: whether to run the plain loop too.

    Returns:
        Rows with `what`, `parameters`, `state_bytes` (of one sequence), `step_us` (one step of
        all B sequences), `forward_ms`, `forward_backward_ms`, `compile_s` (forward+backward), and
        `x_loop`, `x_memax`: how many times as fast as the plain loop and as memax's
        implementation, of equal state size, in the same run (forward+backward); None where
        there is no such thing.

    Raises:
        UsageError: a name in `only` that is not registered.
    """
    names = sorted(MEMORIES) if only is None else only.split("+")
    for name in names:
        if name not in MEMORIES:
            raise unknown("memory", name, MEMORIES)
    return [_row(name, T, B, H, repetitions, loop) for name in names]


def _row(name: str, T: int, B: int, H: int, repetitions: int, loop: bool) -> Row:
    memory = cell(name, H)
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.jit(memory.init, static_argnums=1)(keys[0], H)
    u = jax.random.normal(keys[1], (T, B, H))
    reset = jax.random.bernoulli(keys[2], 1 / EPISODE, (T, B))
    carry = memory.init_carry((B,))
    step = compiled(memory.step, memory.prepare(params), carry, u[0], reset[0])
    programs = {
        "forward": compiled(partial(whole, memory), params, u, reset),
        "both": compiled(partial(gradient, partial(whole, memory)), params, u, reset),
    }
    if loop:
        by_step = partial(gradient, partial(step_by_step, memory))
        programs["loop"] = compiled(by_step, params, u, reset)
    if (theirs := _memax(name, H, memory.state_bytes)) is not None:
        read, parameters = theirs
        programs["memax"] = compiled(partial(gradient, read), parameters, u, reset)
    seconds = interleaved({k: p.call for k, p in programs.items()}, repetitions)
    steps = interleaved({"step": step.call}, STEPS)["step"]  # one after the other, as in acting

    def times(side: str) -> float | None:
        return round(ratio(seconds[side], seconds["both"]), 2) if side in seconds else None

    return {
        "what": name,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "state_bytes": memory.state_bytes,
        "step_us": round(1e6 * median(steps)),
        "forward_ms": round(1e3 * median(seconds["forward"]), 2),
        "forward_backward_ms": round(1e3 * median(seconds["both"]), 2),
        "compile_s": round(programs["both"].compile_s, 2),
        "x_loop": times("loop"),
        "x_memax": times("memax"),
    }


def cell(name: str, H: int) -> Memory:
    """The bare cell of `make(name, features=H)`."""
    return make(name, features=H, layers=1).members[0].memory  # type: ignore[attr-defined]


def whole(memory: Memory, params: PyTree, u: TBF, reset: TB) -> TBH:
    """Outputs by one `apply`."""
    return memory.apply(params, memory.init_carry(u.shape[1:-1]), u, reset)[1]


def step_by_step(memory: Memory, params: PyTree, u: TBF, reset: TB) -> TBH:
    """Outputs by `lax.scan` of `step`."""
    prepared = memory.prepare(params)

    def step(carry: PyTree, at: tuple[Array, Array]) -> tuple[PyTree, Array]:
        return memory.step(prepared, carry, *at)

    return jax.lax.scan(step, memory.init_carry(u.shape[1:-1]), (u, reset))[1]


def gradient(read: Read, params: PyTree, u: TBF, reset: TB) -> tuple[PyTree, TBF]:
    """Gradients of the sum of squared outputs for parameters and inputs."""
    return jax.grad(lambda p, u: jnp.sum(read(p, u, reset) ** 2), argnums=(0, 1))(params, u)


def _memax(name: str, H: int, state_bytes: int) -> tuple[Read, PyTree] | None:
    """memax's layer with a state of about as many bytes; None if there is none or no memax."""
    if name not in MEMAX:
        return None
    try:
        # its annotations refuse a state that is not as wide as the input
        importlib.import_module("jaxtyping").config.update("jaxtyping_disable", True)
        equinox = importlib.import_module("equinox")
        layers = importlib.import_module("memax.equinox.train_utils")
    except ImportError:
        return None
    layer = getattr(layers, MEMAX[name])(**_sizes(name, H, state_bytes), key=jax.random.key(0))
    params, static = equinox.partition(layer, equinox.is_inexact_array)

    def read(params: Any, u: TBF, reset: TB) -> TBH:
        layer = equinox.combine(params, static)

        def one(u: Array, reset: Array) -> Array:
            return layer(layer.initialize_carry(), (u, reset))[1]

        return jax.vmap(one, in_axes=1, out_axes=1)(u, reset)

    return read, params


def _sizes(name: str, H: int, state_bytes: int) -> dict[str, Any]:
    """Constructor arguments that give memax's state as many entries as ours."""
    floats = state_bytes // 4
    side = max(round(floats**0.5), 1)
    sizes: dict[str, dict[str, Any]] = {
        "elman": {"hidden_size": H, "recurrent_size": H},
        "ffm": {"hidden_size": H, "context_size": max(floats // 8, 1), "trace_size": 4},
        "gru": {"recurrent_size": H},
        "lru": {"hidden_size": H, "recurrent_size": floats // 2},
        "lstm": {"recurrent_size": H},
        "s5": {"hidden_size": H, "recurrent_size": floats // 2},
        "window_attention": {
            "recurrent_size": H,
            "window_size": max(floats // (2 * H), 1),
            "positional_embedding": None,
        },
    }
    return sizes.get(name, {"hidden_size": H, "recurrent_size": side})
