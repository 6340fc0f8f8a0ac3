"""`ssmrl bench scan`: the affine scan against other ways to write it, and against memory.

The recurrence is that of an S5 layer in recurrent PPO: complex64, the linear part constant
in time, `(P,)`, a state carried in from the rollout before, episodes that begin inside the
sequence. No program is faster than reading its input and writing its output once, so the
unit of time is one pass over memory, `x * 2`.
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
from ssmrl.shapes import BP, TB, TBP, Array

Scan = Callable[[Array, TBP, BP, TB], TBP]  # (a, b, h0, reset) -> all states
Three = tuple[Array, Array, Array]
OURS = ("sequential", "associative", "chunked")
EPISODE = 50  # mean length in steps: POPGym's card games last 51


def _compose_with_flag(first: Three, then: Three) -> Three:
    """The operator of resettable S5 (Lu et al. 2023, section 4.1), masking by products."""
    a1, b1, c1 = first
    a2, b2, c2 = then
    keep = 1 - c2
    return a2 * a1 * keep + a2 * c2, (a2 * b1 + b2) * keep + b2 * c2, c1 * keep + c2


def three_operands(a: Array, b: TBP, h0: BP, reset: TB) -> TBP:
    """Associative scan of (a, b, float flag), a written out for every step and sequence.

    As in the authors' popjaxrl, h0 is one more element in front whose state is cut off again.
    """
    flag = reset.astype(b.real.dtype)[..., None]
    a = jnp.concatenate([jnp.ones_like(b[:1]), jnp.broadcast_to(a, b.shape)])
    flag = jnp.concatenate([jnp.zeros_like(flag[:1]), flag])
    b = jnp.concatenate([h0[None], b])
    return lax.associative_scan(_compose_with_flag, (a, b, flag))[1][1:]


def three_operands_folded(a: Array, b: TBP, h0: BP, reset: TB) -> TBP:
    """The same with h0 added to the first b: T elements instead of T + 1, and no copies."""
    flag = reset.astype(b.real.dtype)[..., None]
    b = b.at[0].add(jnp.where(reset[0][..., None], 0, a * h0))
    return lax.associative_scan(_compose_with_flag, (jnp.broadcast_to(a, b.shape), b, flag))[1]


def two_operands(a: Array, b: TBP, h0: BP, reset: TB) -> TBP:
    """Associative scan of (a, b), the operator of S5 (appendix H); a reset is a zero in a."""

    def compose(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
        a1, b1 = first
        a2, b2 = then
        return a2 * a1, a2 * b1 + b2

    a = jnp.where(reset[..., None], 0, a)
    return lax.associative_scan(compose, (a, b.at[0].add(a[0] * h0)))[1]


def memax_scan() -> Scan | None:
    """The scan of memax's LRU in its reset wrapper, None where memax is not installed."""
    try:
        groups = importlib.import_module("memax.equinox.groups")
        scans = importlib.import_module("memax.equinox.scans")
        lru = importlib.import_module("memax.equinox.semigroups.lru")
    except ImportError:
        return None

    def scan(a: Array, b: TBP, h0: BP, reset: TB) -> TBP:
        algebra = groups.Resettable(lru.LRUSemigroup(a.shape[0]))

        def one(b: Array, h0: Array, reset: Array) -> Array:
            carry = (jnp.ones_like(h0), h0), jnp.zeros((), bool)
            inputs = (jnp.broadcast_to(a, b.shape), b), reset
            return scans.semigroup_scan(algebra, carry, inputs)[0][1]

        return jax.vmap(one, in_axes=(1, 0, 1), out_axes=1)(b, h0, reset)

    return scan


def ours() -> dict[str, Scan]:
    """`affine_scan` on each of its backends, by the name of its row."""

    def scan(a: Array, b: TBP, h0: BP, reset: TB, backend: str) -> TBP:
        return affine_scan(a, b, h0, reset=reset, backend=backend)

    return {f"ssmrl, {backend}": partial(scan, backend=backend) for backend in OURS}


def contenders() -> dict[str, Scan]:
    """Ours and the others, by the name of their row; memax only where it is installed."""
    others: dict[str, Scan] = {
        "three operands, h0 in front (popjaxrl)": three_operands,
        "three operands, h0 folded in": three_operands_folded,
        "two operands": two_operands,
    }
    if (memax := memax_scan()) is not None:
        others["memax, LRU"] = memax
    return ours() | others


def forward_backward(
    scan: Scan, a: Array, b: TBP, h0: BP, reset: TB, g: TBP
) -> tuple[TBP, Array, TBP]:
    """All states, and the gradients of a and b for a gradient g of the states."""
    x, pull_back = jax.vjp(lambda a, b: scan(a, b, h0, reset), a, b)
    return x, *pull_back(g)


def problem(T: int, B: int, P: int) -> tuple[Array, TBP, BP, TB, TBP]:
    """`(a, b, h0, reset, g)`; |a| as S5 starts with, an episode begins every 50 steps."""
    keys = jax.random.split(jax.random.key(0), 6)
    radius = jax.random.uniform(keys[0], (P,), minval=0.95, maxval=0.9995)
    a = radius * jnp.exp(1j * jax.random.uniform(keys[1], (P,), maxval=2 * jnp.pi))
    b = jax.random.normal(keys[2], (T, B, P), jnp.complex64)
    h0 = jax.random.normal(keys[3], (B, P), jnp.complex64)
    reset = jax.random.bernoulli(keys[4], 1 / EPISODE, (T, B))
    return a, b, h0, reset, jax.random.normal(keys[5], (T, B, P), jnp.complex64)


def run(
    T: int = 1024, B: int = 64, P: int = 128, *, repetitions: int = 7, scaling: bool = False
) -> list[Row]:
    """One row per contender: milliseconds, multiples of a memory pass, compile time, memory.

    Args:
        T: steps.
        B: sequences.
        P: complex entries of the state.
        repetitions: rounds; times and ratios are medians over them.
        scaling: run ours alone, at T, 4 T and 16 T steps with B / 8 sequences: milliseconds
            and MiB must then grow like T, and seconds of compilation not at all.

    Returns:
        Rows with `what`, `T`, `B`, `P`, `compile_s` (forward+backward, seconds),
        `forward_ms`, `forward_backward_ms`, the same two as multiples of `x * 2` on a
        `(T, B, P)` complex64 array that ran just before, and `temp_MiB` (forward+backward,
        beside arguments and results).
    """
    if not scaling:
        return _rows(contenders(), T, B, P, repetitions)
    sizes = (T, 4 * T, 16 * T)
    return [row for t in sizes for row in _rows(ours(), t, max(B // 8, 1), P, repetitions)]


def _rows(scans: dict[str, Scan], T: int, B: int, P: int, repetitions: int) -> list[Row]:
    *inputs, g = problem(T, B, P)
    programs = {"memory pass, x * 2": compiled(lambda x: x * 2, g)}
    unit = programs["memory pass, x * 2"]
    calls: dict[str, Callable[[], Any]] = {}

    def add(name: str, program: Program) -> None:
        # A pass that follows a program which frees much memory is slow: one goes uncounted.
        calls.update({f"{name}/settle": unit.call, f"{name}/unit": unit.call, name: program.call})

    for name, scan in scans.items():
        programs[name] = compiled(partial(forward_backward, scan), *inputs, g)
        add(f"{name}/forward", compiled(scan, *inputs))
        add(f"{name}/both", programs[name])
    for part in ("forward", "both"):
        add(f"memory pass, x * 2/{part}", unit)
    seconds = interleaved(calls, repetitions)

    def row(name: str, program: Program) -> Row:
        forward, both = (seconds[f"{name}/{part}"] for part in ("forward", "both"))
        forward_unit, both_unit = (seconds[f"{name}/{part}/unit"] for part in ("forward", "both"))
        return {
            "what": name,
            "T": T,
            "B": B,
            "P": P,
            "compile_s": round(program.compile_s, 2),
            "forward_ms": round(1e3 * median(forward), 2),
            "forward_backward_ms": round(1e3 * median(both), 2),
            "x_memory_pass_forward": round(ratio(forward, forward_unit), 2),
            "x_memory_pass_forward_backward": round(ratio(both, both_unit), 2),
            "temp_MiB": None if program.temp_mib is None else round(program.temp_mib, 2),
        }

    return [row(name, program) for name, program in programs.items()]
