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

from functools import partial

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.backends import BACKENDS, Recurrence
from ssmrl.shapes import TB, TBP, Array


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
    r, b = _checked(a, b, h0, reset, reset_to)
    if b.shape[0] > 1:
        return _scan(reverse, backend, r, b)
    before = r.h0[None]  # one step, as in acting, or none
    if r.reset is not None:
        before = jnp.where(r.reset, r.reset_to[None], before)
    return r.a * before + b


def _checked(
    a: Array, b: Array, h0: Array | None, reset: Array | None, reset_to: Array | None
) -> tuple[Recurrence, TBP]:
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
    return Recurrence(a.astype(dtype), h0, reset_to, reset), b.astype(dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(reverse: bool, backend: str, r: Recurrence, b: TBP) -> TBP:
    return BACKENDS[backend].solve(r, b, reverse)


def _scan_forward(
    reverse: bool, backend: str, r: Recurrence, b: TBP
) -> tuple[TBP, tuple[Recurrence, TBP]]:
    x = _scan(reverse, backend, r, b)
    return x, (r, x)


def _scan_backward(
    reverse: bool, backend: str, saved: tuple[Recurrence, TBP], g: TBP
) -> tuple[Recurrence, TBP]:
    r, x = saved
    grad_a, grad_b = BACKENDS[backend].gradient(r, x, g, reverse)
    first = -1 if reverse else 0
    grad_h0 = r.a[first if r.a.shape[0] > 1 else 0] * grad_b[first]
    grad_reset_to = jnp.zeros_like(r.h0)
    if r.reset is not None:
        grad_h0 = jnp.where(r.reset[first], 0, grad_h0)
        grad_reset_to = jnp.sum(jnp.where(r.reset, r.a * grad_b, 0), axis=0)
    return Recurrence(grad_a, grad_h0, grad_reset_to, None), grad_b


_scan.defvjp(_scan_forward, _scan_backward)
