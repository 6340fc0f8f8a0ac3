"""The affine scan: every linear recurrence with resets, in one function.

A step of a linear recurrence is the affine map `x -> a x + b`. Maps compose,
`(a2, b2) . (a1, b1) = (a2 a1, a2 b1 + b2)`, and composition is associative, so all prefixes
can be had in logarithmic depth (Blelloch 1990; S5, Smith et al. 2023, appendix H). A reset
is a flag that makes the map forget its argument: it composes by *selection*, never by
multiplication, so that a NaN before a reset stays there (resettable S5, Lu et al. 2023,
section 4.1, whose operator multiplies).

The gradient of the recurrence is the same recurrence run backwards; the custom rule below
stores the states alone and runs on the same backend.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import TB, TBP, Array

CHUNK = 64  # steps solved in parallel by the chunked backend; also where `auto` starts to
# prefer the parallel form on an accelerator: below it a loop is launched as fast


def affine_scan(
    a: Array,
    b: TBP,
    h0: Array | None = None,
    *,
    reset: TB | None = None,
    reset_to: Array | None = None,
    reverse: bool = False,
    backend: str = "auto",
) -> TBP:
    """All states of `x[t] = a[t] * (reset_to if reset[t] else x[t-1]) + b[t]`, `x[-1] = h0`.

    Args:
        a: linear part, real or complex. `(T, *B, P)` or anything of b's rank that broadcasts
            against it; with fewer axes than b, e.g. `(P,)`, it is constant in time.
        b: input part, `(T, *B, P)`, or with more state axes, `(T, *B, P, Q, ...)`.
        h0: state before the first step, broadcastable to `b.shape[1:]`; zeros if None.
        reset: `(T, *B)` bool. True at t drops what came before step t, the input b[t] stays.
        reset_to: state after a reset, broadcastable to `b.shape[1:]`; zeros if None.
        reverse: run from the last step to the first (`x[t]` then depends on `x[t+1]`).
        backend: `sequential` (a loop), `associative` (logarithmic depth), `chunked`
            (associative within chunks of 64 steps, a loop over them), or `auto`: sequential
            on CPU, where it is several times faster, associative on accelerators when
            T >= 64. `auto` decides when the program is lowered for its platform.

    Returns:
        All states, `(T, *B, P)`, in the common dtype of a and b.

    Differentiable in a, b, h0 and reset_to, in reverse mode and once.

    Raises:
        UsageError: unknown backend, shapes that do not fit, a reset that is not bool, a
            complex h0 or reset_to for real a and b.
    """
    if backend not in BACKENDS:
        raise unknown("scan backend", backend, BACKENDS)
    a, b, h0, reset_to, reset = _checked(a, b, h0, reset, reset_to)
    if b.shape[0] == 0:
        return b
    return _scan(reverse, backend, a, b, h0, reset_to, reset)


def _checked(
    a: Array, b: Array, h0: Array | None, reset: Array | None, reset_to: Array | None
) -> tuple[Array, Array, Array, Array, Array | None]:
    """Common dtype; a with b's rank (leading 1: constant in time); states of b's step shape."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    dtype = jnp.result_type(a, b)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise UsageError(f"affine_scan needs floating point a and b, got {a.dtype} and {b.dtype}")
    if b.ndim == 0 or a.ndim > b.ndim:
        raise UsageError(f"a must have at most the axes of b (T, *B, P); got {a.shape}, {b.shape}")
    a = a.reshape((1,) * (b.ndim - a.ndim) + a.shape)
    if any(n not in (1, m) for n, m in zip(a.shape, b.shape, strict=True)):
        raise UsageError(f"a of shape {a.shape} does not broadcast against b of shape {b.shape}")

    def state(h: Array | None, name: str) -> Array:
        h = jnp.zeros((), dtype) if h is None else jnp.asarray(h)
        if jnp.iscomplexobj(h) and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise UsageError(f"{name} is complex ({h.dtype}) but a and b are real ({dtype})")
        try:
            return jnp.broadcast_to(h.astype(dtype), b.shape[1:])
        except ValueError:
            message = f"{name} must broadcast to {b.shape[1:]}, one step of b; got {h.shape}"
            raise UsageError(message) from None

    if reset is not None:
        reset = jnp.asarray(reset)
        if reset.dtype != jnp.bool_ or reset.shape != b.shape[: reset.ndim] or reset.ndim == 0:
            raise UsageError(
                f"reset must be bool of shape (T, *B), the leading axes of b {b.shape}; got "
                f"{reset.dtype} {reset.shape}. Is the input batch-major? Time comes first"
            )
        reset = reset.reshape(reset.shape + (1,) * (b.ndim - reset.ndim))
    h0, reset_to = state(h0, "h0"), state(reset_to, "reset_to")
    return a.astype(dtype), b.astype(dtype), h0, reset_to, reset


# ------------------------------------------------------------------------------ backends
# Each takes a (1 or T, ...), b (T, ...), h0, reset_to (...), reset (T, ...) or None and
# returns all states. A reset has b's rank here.


def _sequential(
    a: Array, b: Array, h0: Array, reset_to: Array, reset: Array | None, reverse: bool
) -> Array:
    constant = a.shape[0] == 1

    def step(h: Array, inputs: tuple[Any, Array, Any]) -> tuple[Array, Array]:
        a_t, b_t, reset_t = inputs
        if reset_t is not None:
            h = jnp.where(reset_t, reset_to, h)
        h = (a[0] if constant else a_t) * h + b_t
        return h, h

    return lax.scan(step, h0, (None if constant else a, b, reset), reverse=reverse)[1]


def _compose(first: tuple[Array, ...], then: tuple[Array, ...]) -> tuple[Array, ...]:
    """`then . first`. What a flagged element holds in its a slot never reaches a state, so
    the a slots ignore the flags: a constant a is not copied for every sequence of a batch."""
    a1, b1, *reset1 = first
    a2, b2, *reset2 = then
    b = a2 * b1 + b2
    if not reset1:
        return a2 * a1, b
    return a2 * a1, jnp.where(reset2[0], b2, b), reset1[0] | reset2[0]


def _associative(
    a: Array, b: Array, h0: Array, reset_to: Array, reset: Array | None, reverse: bool
) -> Array:
    first = -1 if reverse else 0
    a = jnp.broadcast_to(a, (b.shape[0], *a.shape[1:]))
    if reset is None:
        b = b.at[first].add(a[first] * h0)
        return lax.associative_scan(_compose, (a, b), reverse=reverse)[1]
    # A reset step is the constant map to a z + b; h0 enters unless the first step is one.
    b = b + jnp.where(reset, a * reset_to[None], 0)
    b = b.at[first].add(jnp.where(reset[first], 0, a[first] * h0))
    return lax.associative_scan(_compose, (a, b, reset), reverse=reverse)[1]


def _chunked(
    a: Array, b: Array, h0: Array, reset_to: Array, reset: Array | None, reverse: bool
) -> Array:
    steps = b.shape[0]
    chunks = -(-steps // CHUNK)
    late = chunks * CHUNK - steps  # padding comes last in scan order and is cut off again

    def split(x: Array) -> Array:
        if x.shape[0] == 1 and steps > 1:
            return jnp.broadcast_to(x, (chunks, *x.shape))
        width = ((late, 0) if reverse else (0, late), *((0, 0),) * (x.ndim - 1))
        return jnp.pad(x, width).reshape(chunks, CHUNK, *x.shape[1:])

    def chunk(h: Array, inputs: tuple[Any, Array, Any]) -> tuple[Array, Array]:
        x = _associative(inputs[0], inputs[1], h, reset_to, inputs[2], reverse)
        return x[0 if reverse else -1], x

    inputs = jax.tree.map(split, (a, b, reset))
    x = lax.scan(chunk, h0, inputs, reverse=reverse)[1].reshape(-1, *b.shape[1:])
    return x[late:] if reverse else x[:steps]


def _auto(
    a: Array, b: Array, h0: Array, reset_to: Array, reset: Array | None, reverse: bool
) -> Array:
    if b.shape[0] < CHUNK:
        return _sequential(a, b, h0, reset_to, reset, reverse)
    return lax.platform_dependent(
        a,
        b,
        h0,
        reset_to,
        reset,
        cpu=partial(_sequential, reverse=reverse),
        default=partial(_associative, reverse=reverse),
    )


BACKENDS: dict[str, Callable[..., Array]] = {
    "auto": _auto,
    "sequential": _sequential,
    "associative": _associative,
    "chunked": _chunked,
}


# ------------------------------------------------------------------------------ gradient


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(
    reverse: bool,
    backend: str,
    a: Array,
    b: Array,
    h0: Array,
    reset_to: Array,
    reset: Array | None,
) -> Array:
    return BACKENDS[backend](a, b, h0, reset_to, reset, reverse)


def _scan_forward(
    reverse: bool, backend: str, a: Array, b: Array, h0: Array, reset_to: Array, reset: Any
) -> tuple[Array, tuple[Any, ...]]:
    x = _scan(reverse, backend, a, b, h0, reset_to, reset)
    return x, (a, x, h0, reset_to, reset)


def _scan_backward(
    reverse: bool, backend: str, saved: tuple[Any, ...], g: Array
) -> tuple[Array, Array, Array, Array, None]:
    """With `l` the gradient of the states, `l[t] = g[t] + a[t+1] l[t+1]`, cut at resets."""
    a, x, h0, reset_to, reset = saved
    zero = jnp.zeros_like(h0)

    def shifted(y: Array, fill: Array, back: bool) -> Array:
        """y one step later (`back`: earlier) in scan order, `fill` at the open end."""
        fill = fill[None]
        return jnp.concatenate([y[1:], fill] if back != reverse else [fill, y[:-1]])

    later_a = a if a.shape[0] == 1 else shifted(a, jnp.zeros_like(a[0]), back=True)
    later_reset = None if reset is None else shifted(reset, jnp.zeros_like(reset[0]), back=True)
    grad_b = BACKENDS[backend](later_a, g, zero, zero, later_reset, not reverse)

    before = shifted(x, h0, back=False)
    if reset is not None:
        before = jnp.where(reset, reset_to[None], before)
    summed = tuple(i for i, n in enumerate(a.shape) if n == 1 and x.shape[i] != 1)
    grad_a = jnp.sum(grad_b * before, axis=summed, keepdims=True)

    first = -1 if reverse else 0
    grad_h0 = a[-1 if reverse and a.shape[0] > 1 else 0] * grad_b[first]
    grad_reset_to = zero
    if reset is not None:
        grad_h0 = jnp.where(reset[first], 0, grad_h0)
        grad_reset_to = jnp.sum(jnp.where(reset, a * grad_b, 0), axis=0)
    return grad_a, grad_b, grad_h0, grad_reset_to, None


_scan.defvjp(_scan_forward, _scan_backward)
