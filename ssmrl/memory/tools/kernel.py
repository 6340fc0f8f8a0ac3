"""Convolution kernels of linear time-invariant memories."""

from functools import partial

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.spec import Memory
from ssmrl.shapes import TB, TBF, TBH, Array, PyTree


def kernel(mem: Memory, params: PyTree, in_dim: int, steps: int) -> Array:
    """K, `(steps, out_dim, in_dim)`: `y[t] = sum_k K[k] u[t - k]` from the first carry on.

    Reads one impulse for every input; differentiable in params.

    Raises:
        UsageError: the memory does not have the capability `lti`, or its inputs or outputs are
            gated (which is not noticed while it is traced, as in `jax.grad`).
    """
    check_lti(mem)
    together = jnp.linspace(1.0, 3.0, in_dim)[None]  # all impulses at once: the sum, if linear
    first = jnp.concatenate([jnp.eye(in_dim), together, jnp.zeros((1, in_dim))])
    u = jnp.concatenate([first[None], jnp.zeros((steps - 1, in_dim + 2, in_dim))])
    y = _outputs(mem, params, u)
    y = y[:, :-1] - y[:, -1:]  # without what biases alone do
    if not isinstance(y, jax.core.Tracer):
        want = jnp.einsum("tfh,f->th", y[:, :-1], together[0])
        if jnp.max(jnp.abs(y[:, -1] - want)) > 1e-3 * jnp.max(jnp.abs(want)):
            raise UsageError(
                f"{type(mem).__name__} is not linear: its response to a sum of impulses is not "
                "the sum of its responses. Its inputs or outputs are gated, so it has no kernel"
            )
    return jnp.swapaxes(y[:, :-1], 1, 2)


@partial(jax.jit, static_argnums=0)
def _outputs(mem: Memory, params: PyTree, u: TBF) -> TBH:
    return mem.apply(params, mem.init_carry(u.shape[1:-1]), u)[1]


def check_lti(mem: Memory) -> None:
    """Refuses what has no kernel."""
    if "lti" not in mem.capabilities:
        raise UsageError(
            f"{type(mem).__name__} is not linear and time-invariant, so it has no kernel; pass a "
            "bare cell with the capability 'lti', e.g. ssmrl.memory.S5(...)"
        )


def fft_conv(kernel: Array, u: TBF, reset: TB | None = None) -> TBH:
    """`y[t] = sum_k K[k] u[t - k]` for all t at once, in T log T operations.

    Args:
        kernel: `(L, H)`, one for every channel (then F = H), or `(L, H, F)`.
        u: `(T, *B, F)`, zero before the first step.
        reset: None. A product of spectra mixes all steps, whatever their episodes.

    Raises:
        UsageError: a reset is given, or the shapes do not fit.
    """
    if reset is not None:
        raise UsageError(
            "fft_conv cannot honour resets: it would carry one episode into the next. Read the "
            "sequence with mem.apply(params, carry, u, reset)"
        )
    if kernel.ndim not in (2, 3) or kernel.shape[-1] != u.shape[-1]:
        raise UsageError(
            f"kernel must be (L, H) or (L, H, F) with F = {u.shape[-1]} as in u {u.shape}; got "
            f"{kernel.shape}"
        )
    steps = u.shape[0]
    size = steps + min(steps, kernel.shape[0])  # padded: nothing wraps around
    k = jnp.fft.rfft(kernel[:steps], size, axis=0)
    spectrum = jnp.fft.rfft(u.reshape(steps, -1, u.shape[-1]), size, axis=0)
    rule = "fh,fbh->fbh" if kernel.ndim == 2 else "fhi,fbi->fbh"
    y = jnp.fft.irfft(jnp.einsum(rule, k, spectrum), size, axis=0)[:steps]
    return y.reshape(*u.shape[:-1], kernel.shape[1]).astype(u.dtype)
