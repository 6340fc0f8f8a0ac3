"""The affine scan with a dense linear part: `x[t] = A[t] x[t-1] + b[t]`, resets included."""

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import TB, TBP, Array

LARGEST_PARALLEL = 32  # states beyond which products of matrices cost more than they save
BACKENDS = ("sequential", "associative")


def matrix_scan(
    a: Array,
    b: TBP,
    h0: Array | None = None,
    *,
    reset: TB | None = None,
    reset_to: Array | None = None,
    backend: str = "sequential",
) -> TBP:
    """All states of `x[t] = A[t] (reset_to if reset[t] else x[t-1]) + b[t]`, `x[-1] = h0`.

    Args:
        a: `(T, *B, ..., P, P)`, or with fewer axes constant in time: `(P, P)`, or
            `(H, P, P)` for b `(T, *B, H, P)`. Axes of size 1 broadcast.
        b: input part, `(T, *B, ..., P)`, of the dtype of a.
        h0: state before the first step, broadcastable to `b.shape[1:]`; zeros if None.
        reset: `(T, *B)` bool. True at t drops what came before step t.
        reset_to: state after a reset, broadcastable to `b.shape[1:]`; zeros if None.
        backend: `sequential`, a loop of T P^2 operations; `associative`, of logarithmic depth
            for T P^3 operations and T P^2 numbers, for P up to 32.

    Returns:
        All states, `(T, *B, ..., P)`.

    Raises:
        UsageError: unknown backend, shapes or dtypes that do not fit, `associative` for a
            state larger than 32.
    """
    if backend not in BACKENDS:
        raise unknown("matrix scan backend", backend, BACKENDS)
    a, b, h0, reset_to, reset = _checked(a, b, h0, reset, reset_to)
    if backend == "sequential":
        return _sequential(a, b, h0, reset, reset_to)
    if b.shape[-1] > LARGEST_PARALLEL:
        raise UsageError(
            f"the associative matrix scan is for states of at most {LARGEST_PARALLEL}, got "
            f"{b.shape[-1]}: leave backend out"
        )
    return _associative(a, b, h0, reset, reset_to)


def apply_matrix(a: Array, x: Array) -> Array:
    """`A x` for a `(..., P, P)` and x `(..., P)`, whose leading axes broadcast."""
    return jnp.matmul(a, x[..., None])[..., 0]


def _sequential(a: Array, b: TBP, h0: Array, reset: Array | None, reset_to: Array) -> TBP:
    constant = a.shape[0] == 1

    def step(h: Array, at: tuple[Array | None, Array, Array | None]) -> tuple[Array, Array]:
        a_t, b_t, reset_t = at
        if reset_t is not None:
            h = jnp.where(reset_t, reset_to, h)
        h = apply_matrix(a[0] if a_t is None else a_t, h) + b_t
        return h, h

    inputs = (None if constant else a, b, reset)
    if b.shape[0] == 1:
        return step(h0, jax.tree.map(lambda x: x[0], inputs))[1][None]
    return jax.lax.scan(step, h0, inputs)[1]


def _associative(a: Array, b: TBP, h0: Array, reset: Array | None, reset_to: Array) -> TBP:
    a = jnp.broadcast_to(a, (b.shape[0], *a.shape[1:]))
    if reset is not None:  # a reset is the constant map to A z + b; h0 enters unless it is first
        b = b + jnp.where(reset, apply_matrix(a, jnp.broadcast_to(reset_to, b.shape)), 0)
    entering = apply_matrix(a[:1], h0[None])[0]
    b = b.at[0].add(entering if reset is None else jnp.where(reset[0], 0, entering))
    flags = jnp.zeros(b.shape, bool) if reset is None else jnp.broadcast_to(reset, b.shape)

    def compose(first: tuple[Array, ...], then: tuple[Array, ...]) -> tuple[Array, ...]:
        (a1, b1, r1), (a2, b2, r2) = first, then
        return jnp.matmul(a2, a1), jnp.where(r2, b2, apply_matrix(a2, b1) + b2), r1 | r2

    return jax.lax.associative_scan(compose, (a, b, flags))[1]


def _checked(
    a: Array, b: Array, h0: Array | None, reset: Array | None, reset_to: Array | None
) -> tuple[Array, TBP, Array, Array, Array | None]:
    """a with the rank of b and one more, leading 1: constant in time; full initial states."""
    if a.dtype != b.dtype or not jnp.issubdtype(b.dtype, jnp.inexact):
        raise UsageError(
            f"matrix_scan needs floating point A and b of one dtype, got {a.dtype} and {b.dtype}"
        )
    if b.ndim < 2 or not 2 <= a.ndim <= b.ndim + 1:
        raise UsageError(
            f"A must be (P, P) to (T, *B, P, P) and b (T, *B, P); got {a.shape} and {b.shape}"
        )
    a = a.reshape((1,) * (b.ndim + 1 - a.ndim) + a.shape)
    if a.shape[-2:] != (b.shape[-1],) * 2 or any(
        n not in (1, m) for n, m in zip(a.shape[:-2], b.shape[:-1], strict=True)
    ):
        raise UsageError(f"A of shape {a.shape} does not fit b of shape {b.shape}")

    def state(h: Array | None, name: str) -> Array:
        h = jnp.zeros((), b.dtype) if h is None else h
        try:
            return jnp.broadcast_to(h.astype(b.dtype), b.shape[1:])
        except ValueError:
            message = f"{name} must broadcast to {b.shape[1:]}, one step of b; got {h.shape}"
            raise UsageError(message) from None

    if reset is not None:
        if reset.dtype != jnp.bool_ or reset.shape != b.shape[: reset.ndim]:
            raise UsageError(
                f"reset must be bool of shape (T, *B), the leading axes of b {b.shape}; got "
                f"{reset.dtype} {reset.shape}. Is the input batch-major? Time comes first"
            )
        reset = reset.reshape(reset.shape + (1,) * (b.ndim - reset.ndim))
    return a, b, state(h0, "h0"), state(reset_to, "reset_to"), reset
