"""The ways to evaluate an affine scan and its gradient; `affine_scan` chooses among them.

Each backend is a pair of functions. `solve(r, b, reverse)` returns all states. `gradient(r, x,
g, reverse)` returns the gradients of a and b, given the states x and their gradients g. With
`l` the gradient of the states with respect to all that follows, which is also that of b,
`l[t] = g[t] + a[t+1] l[t+1]`, cut at resets: the same recurrence, backwards in time.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.backend import backends

from ssmrl.shapes import TBP, Array

CHUNK = 64  # steps solved in parallel by the chunked backend; also where `auto` starts to
# prefer the parallel form on an accelerator: below it a loop is launched as fast


class Recurrence(NamedTuple):
    """`x[t] = a[t] (reset_to if reset[t] else x[t-1]) + b[t]` without b; all of b's rank."""

    a: Array  # (1 or T, ...), constant in time if its first axis is 1
    h0: Array  # (...), one step of b
    reset_to: Array  # (...)
    reset: Array | None  # (T, ...) bool


# ------------------------------------------------------------------------------ sequential


def sequential(r: Recurrence, b: TBP, reverse: bool) -> TBP:
    """A loop that writes the states over b.

    In a larger program b is a temporary that nothing else needs, so no array is allocated and
    cleared, which costs more than the arithmetic. The state is carried beside the array: read
    back from it, the compiler would copy the whole array at every step.
    """
    steps = b.shape[0]

    def step(i: Array, carry: tuple[TBP, Array]) -> tuple[TBP, Array]:
        x, h = carry
        t = steps - 1 - i if reverse else i
        if r.reset is not None:
            h = jnp.where(_at(r.reset, t), r.reset_to, h)
        h = (r.a[0] if r.a.shape[0] == 1 else _at(r.a, t)) * h + _at(x, t)
        return _put(x, h, t), h

    return lax.fori_loop(0, steps, step, (b, r.h0))[0]


def sequential_gradient(r: Recurrence, x: TBP, g: TBP, reverse: bool) -> tuple[Array, TBP]:
    """For a constant a, one loop that writes b's gradient over g and adds up a's as it goes.

    The product of two `(T, *B, P)` arrays is never held.
    """
    if r.a.shape[0] != 1:
        return gradient_by(sequential, r, x, g, reverse)
    steps, zero = x.shape[0], jnp.zeros_like(r.h0)
    later_reset = None if r.reset is None else _shifted(r.reset, not reverse)

    def add(total: Array, l: Array, before: Array, reset: Array | None) -> Array:
        return total + l * (before if reset is None else jnp.where(reset, r.reset_to, before))

    def step(i: Array, carry: tuple[TBP, Array, Array]) -> tuple[TBP, Array, Array]:
        grad_b, l, total = carry  # l belongs to the step after t
        t = i if reverse else steps - 1 - i
        reset = None if later_reset is None else _at(later_reset, t)
        total = add(total, l, _at(x, t), reset)
        l = r.a[0] * (l if reset is None else jnp.where(reset, 0, l)) + _at(grad_b, t)
        return _put(grad_b, l, t), l, total

    grad_b, l, total = lax.fori_loop(0, steps, step, (g, zero, zero))
    total = add(total, l, r.h0, None if r.reset is None else r.reset[-1 if reverse else 0])
    return _sum_to(total[None], r.a), grad_b


# ------------------------------------------------------------------------------ parallel


def compose(first: tuple[Array, ...], then: tuple[Array, ...]) -> tuple[Array, ...]:
    """`then . first` for affine maps (a, b) or (a, b, reset).

    What a map that forgets holds in its a slot never reaches a state, so the a slots ignore
    the flags: a constant a is not copied for every sequence of a batch.
    """
    a1, b1, *reset1 = first
    a2, b2, *reset2 = then
    b = a2 * b1 + b2
    if not reset1:
        return a2 * a1, b
    return a2 * a1, jnp.where(reset2[0], b2, b), reset1[0] | reset2[0]


@partial(jax.jit, static_argnames="reverse", inline=True)  # traced once for layers alike
def associative(r: Recurrence, b: TBP, reverse: bool) -> TBP:
    """All prefixes of the composition, in logarithmic depth."""
    first = -1 if reverse else 0
    a = jnp.broadcast_to(r.a, (b.shape[0], *r.a.shape[1:]))
    if r.reset is None:
        b = b.at[first].add(a[first] * r.h0)
        return lax.associative_scan(compose, (a, b), reverse=reverse)[1]
    # A reset step is the constant map to a z + b; h0 enters unless the first step is one.
    b = b + jnp.where(r.reset, a * r.reset_to[None], 0)
    b = b.at[first].add(jnp.where(r.reset[first], 0, a[first] * r.h0))
    return lax.associative_scan(compose, (a, b, r.reset), reverse=reverse)[1]


def chunked(r: Recurrence, b: TBP, reverse: bool) -> TBP:
    """`associative` within chunks, a loop over them: less memory on long sequences."""
    steps = b.shape[0]
    chunks = -(-steps // CHUNK)
    late = chunks * CHUNK - steps  # padding comes last in scan order and is cut off again

    def split(x: Array) -> Array:
        if x.shape[0] == 1 and steps > 1:
            return jnp.broadcast_to(x, (chunks, *x.shape))
        width = ((late, 0) if reverse else (0, late), *((0, 0),) * (x.ndim - 1))
        return jnp.pad(x, width).reshape(chunks, CHUNK, *x.shape[1:])

    def chunk(h: Array, inputs: tuple[Array, TBP, Any]) -> tuple[Array, TBP]:
        a, b, reset = inputs
        x = associative(Recurrence(a, h, r.reset_to, reset), b, reverse)
        return x[0 if reverse else -1], x

    inputs = jax.tree.map(split, (r.a, b, r.reset))
    x = lax.scan(chunk, r.h0, inputs, reverse=reverse)[1].reshape(-1, *b.shape[1:])
    return x[late:] if reverse else x[:steps]


def gradient_by(
    solve: Callable[[Recurrence, TBP, bool], TBP], r: Recurrence, x: TBP, g: TBP, reverse: bool
) -> tuple[Array, TBP]:
    """The gradients by a backend's own `solve`, in the other direction of time."""
    zero = jnp.zeros_like(r.h0)
    a = r.a if r.a.shape[0] == 1 else _shifted(r.a, not reverse)
    reset = None if r.reset is None else _shifted(r.reset, not reverse)
    grad_b = solve(Recurrence(a, zero, zero, reset), g, not reverse)
    before = _shifted(x, reverse, r.h0)
    if r.reset is not None:
        before = jnp.where(r.reset, r.reset_to[None], before)
    return _sum_to(grad_b * before, r.a), grad_b


# ------------------------------------------------------------------------------ choice


def only_cpu() -> bool:
    """Whether this process has no accelerator that a program could be lowered for."""
    return set(backends()) <= {"cpu", "interpreter"}


def by_platform(cpu: Callable[..., Any], default: Callable[..., Any], *arguments: Any) -> Any:
    """`cpu(*arguments)` where the program is lowered for a CPU or is short, else `default`.

    The last argument is static, the one before it leads with T. In a process without an
    accelerator the other form is not even traced: it takes a while.
    """
    *arrays, reverse = arguments
    if arrays[-1].shape[0] < CHUNK or only_cpu():
        return cpu(*arguments)
    return lax.platform_dependent(
        *arrays, cpu=partial(cpu, reverse=reverse), default=partial(default, reverse=reverse)
    )


class Backend(NamedTuple):
    """A way to evaluate a scan, and one to evaluate its gradient."""

    solve: Callable[[Recurrence, TBP, bool], TBP]
    gradient: Callable[[Recurrence, TBP, TBP, bool], tuple[Array, TBP]]


_SEQUENTIAL = Backend(sequential, sequential_gradient)
_ASSOCIATIVE = Backend(associative, partial(gradient_by, associative))

BACKENDS: dict[str, Backend] = {
    "auto": Backend(*map(partial, (by_platform, by_platform), _SEQUENTIAL, _ASSOCIATIVE)),
    "sequential": _SEQUENTIAL,
    "associative": _ASSOCIATIVE,
    "chunked": Backend(chunked, partial(gradient_by, chunked)),
}


def _at(x: Array, t: Array) -> Array:
    # t is never negative; making sure of it would cost a third of a short step.
    return lax.dynamic_index_in_dim(x, t, 0, keepdims=False, allow_negative_indices=False)


def _put(x: Array, step: Array, t: Array) -> Array:
    return lax.dynamic_update_index_in_dim(x, step, t, 0, allow_negative_indices=False)


def _shifted(y: Array, later: bool, fill: Array | None = None) -> Array:
    """`y[t + 1]` (`later`) or `y[t - 1]` at t; `fill` or zeros at the open end."""
    end = (jnp.zeros_like(y[0]) if fill is None else fill)[None]
    return jnp.concatenate([y[1:], end] if later else [end, y[:-1]])


def _sum_to(x: Array, like: Array) -> Array:
    """Sums the axes of x that were broadcast from size 1 in `like`, of the same rank."""
    axes = tuple(i for i, n in enumerate(like.shape) if n == 1 and x.shape[i] != 1)
    return jnp.sum(x, axis=axes, keepdims=True)
