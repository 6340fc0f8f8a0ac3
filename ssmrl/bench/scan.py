"""`ssmrl bench scan`: the affine scan against other ways to write it, and against memory.

The recurrence is that of an S5 layer in recurrent PPO: complex64, the linear part constant
in time, `(P,)`, and episodes that begin inside the sequence. No program can be faster than
reading its input and writing its output once, so the unit is one pass over memory, `x * 2`.
"""

import importlib
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ssmrl.bench.timing import Program, Row, compiled, interleaved, ratio
from ssmrl.memory.scan import affine_scan
from ssmrl.shapes import TB, TBP, Array

Scan = Callable[[Array, TBP, TB], TBP]  # (a, b, reset) -> all states
OURS = ("sequential", "associative", "chunked")
EPISODE = 50  # mean length in steps: POPGym's card games last 51


def three_operands(a: Array, b: TBP, reset: TB) -> TBP:
    """Associative scan of (a, b, c), c a float flag: resettable S5 (Lu et al. 2023, sec. 4.1).

    The operator of the paper, which masks by products with `1 - c`, on a linear part that is
    written out for every step and sequence, as in the authors' popjaxrl.
    """

    def compose(first: tuple[Array, ...], then: tuple[Array, ...]) -> tuple[Array, ...]:
        a1, b1, c1 = first
        a2, b2, c2 = then
        keep = 1 - c2
        return a2 * a1 * keep + a2 * c2, (a2 * b1 + b2) * keep + b2 * c2, c1 * keep + c2

    flag = reset.astype(b.real.dtype)[..., None]
    return lax.associative_scan(compose, (jnp.broadcast_to(a, b.shape), b, flag))[1]


def two_operands(a: Array, b: TBP, reset: TB) -> TBP:
    """Associative scan of (a, b), resets as zeros in a: the operator of S5, H.2, unchanged."""

    def compose(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
        a1, b1 = first
        a2, b2 = then
        return a2 * a1, a2 * b1 + b2

    return lax.associative_scan(compose, (jnp.where(reset[..., None], 0, a), b))[1]


def memax_scan() -> Scan | None:
    """The scan of memax's LRU with its reset wrapper, None if memax is not installed."""
    try:
        groups = importlib.import_module("memax.equinox.groups")
        scans = importlib.import_module("memax.equinox.scans")
        lru = importlib.import_module("memax.equinox.semigroups.lru")
    except ImportError:
        return None

    def scan(a: Array, b: TBP, reset: TB) -> TBP:
        algebra = groups.Resettable(lru.LRUSemigroup(a.shape[0]))
        carry = algebra.initialize_carry()

        def one(b: Array, reset: Array) -> Array:
            inputs = ((jnp.broadcast_to(a, b.shape), b), reset)
            return scans.semigroup_scan(algebra, carry, inputs)[0][1]

        return jax.vmap(one, in_axes=1, out_axes=1)(b, reset)

    return scan


def forward_backward(scan: Scan, a: Array, b: TBP, reset: TB, g: TBP) -> tuple[TBP, Array, TBP]:
    """All states, and the gradients of a and b for a gradient g of the states."""
    x, pull_back = jax.vjp(lambda a, b: scan(a, b, reset), a, b)
    return x, *pull_back(g)


def ours() -> dict[str, Scan]:
    """`affine_scan` on each of its backends, by the name of its row."""

    def scan(a: Array, b: TBP, reset: TB, backend: str) -> TBP:
        return affine_scan(a, b, reset=reset, backend=backend)

    return {f"ssmrl {backend}": partial(scan, backend=backend) for backend in OURS}


def contenders() -> dict[str, Scan]:
    """Ours and the others, by the name of their row; memax only where it is installed."""
    others: dict[str, Scan] = {
        "three operands (a, b, reset), associative": three_operands,
        "two operands (a, b), associative": two_operands,
    }
    if (memax := memax_scan()) is not None:
        others["memax"] = memax
    return ours() | others


def problem(T: int, B: int, P: int) -> tuple[Array, TBP, TB, TBP]:
    """`(a, b, reset, g)`: |a| in [0.95, 0.9995] as S5 starts with, episodes of 50 steps."""
    radius, angle, b_key, g_key, reset_key = jax.random.split(jax.random.key(0), 5)
    a = jax.random.uniform(radius, (P,), minval=0.95, maxval=0.9995) * jnp.exp(
        1j * jax.random.uniform(angle, (P,), maxval=2 * jnp.pi)
    )
    b = jax.random.normal(b_key, (T, B, P), jnp.complex64)
    g = jax.random.normal(g_key, (T, B, P), jnp.complex64)
    return a, b, jax.random.bernoulli(reset_key, 1 / EPISODE, (T, B)), g


def run(
    T: int = 1024, B: int = 64, P: int = 128, *, repetitions: int = 7, scaling: bool = False
) -> list[Row]:
    """One row per contender: milliseconds, multiples of a memory pass, compile time, memory.

    Args:
        T, B, P: steps, sequences, complex entries of the state.
        repetitions: rounds; times and ratios are medians over them.
        scaling: instead of comparing, run ours at T, 4 T and 16 T with B / 8 sequences: the
            columns that grow with T must grow linearly, and `compile_s` not at all.

    Returns:
        Rows with `what`, `T`, `B`, `P`, `compile_s` (forward+backward, seconds),
        `forward_ms`, `forward_backward_ms`, both again as multiples of `x * 2` on one
        `(T, B, P)` complex64 array, and `temp_MiB` (forward+backward, see `Program`).
    """
    if not scaling:
        return _rows(contenders(), T, B, P, repetitions)
    sizes = (T, 4 * T, 16 * T)
    return [row for t in sizes for row in _rows(ours(), t, max(B // 8, 1), P, repetitions)]


def _rows(scans: dict[str, Scan], T: int, B: int, P: int, repetitions: int) -> list[Row]:
    a, b, reset, g = problem(T, B, P)
    memory_pass = compiled(lambda x: x * 2, b)
    forward = {name: compiled(scan, a, b, reset) for name, scan in scans.items()}
    both = {
        name: compiled(partial(forward_backward, scan), a, b, reset, g)
        for name, scan in scans.items()
    }
    calls: dict[str, Callable[[], Any]] = {"memory pass": memory_pass.call}
    for name in scans:
        calls |= {f"{name}/forward": forward[name].call, f"{name}/both": both[name].call}
    seconds = interleaved(calls, repetitions)
    unit = seconds["memory pass"]

    def row(name: str, program: Program, forward_s: list[float], both_s: list[float]) -> Row:
        return {
            "what": name,
            "T": T,
            "B": B,
            "P": P,
            "compile_s": round(program.compile_s, 2),
            "forward_ms": round(1e3 * median(forward_s), 2),
            "forward_backward_ms": round(1e3 * median(both_s), 2),
            "x_memory_pass_forward": round(ratio(forward_s, unit), 2),
            "x_memory_pass_forward_backward": round(ratio(both_s, unit), 2),
            "temp_MiB": None if program.temp_MiB is None else round(program.temp_MiB, 2),
        }

    rows = [row("memory pass (x * 2)", memory_pass, unit, unit)]
    return rows + [
        row(name, both[name], seconds[f"{name}/forward"], seconds[f"{name}/both"])
        for name in scans
    ]
