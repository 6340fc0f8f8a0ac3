"""Which inputs an output depends on: the attention that is hidden in a recurrence."""

from functools import partial

import jax
import jax.numpy as jnp

from ssmrl.memory.diagnostics.trajectories import batch_of
from ssmrl.memory.spec import Memory
from ssmrl.shapes import TB, TBF, Array, PyTree


@partial(jax.jit, static_argnums=0)
def contributions(mem: Memory, params: PyTree, u: TBF, reset: TB | None = None) -> Array:
    """The derivative of every output by every input of one sequence, `(T, H, T, F)`.

    For a memory that is linear in its input these are the products of decays themselves, and
    `einsum("ihjf,jf->ih", contributions, u)` is its output but for a bias. Takes T H backward
    passes: for short sequences.

    Args:
        mem: the memory.
        params: its parameters.
        u: `(T, F)`.
        reset: `(T,)` bool, or None.
    """
    carry = mem.init_carry(batch_of(u))
    return jax.jacrev(lambda u: mem.apply(params, carry, u, reset)[1])(u)


def hidden_attention(mem: Memory, params: PyTree, u: TBF, reset: TB | None = None) -> Array:
    """How much output i depends on input j: `(T, T)` norms of the blocks of `contributions`.

    Zero above the diagonal, and exactly zero across resets, so block diagonal (the maps of Ali
    et al. 2024, "The hidden attention of Mamba models", for any memory by derivatives).

    Args:
        mem: the memory.
        params: its parameters.
        u: `(T, F)`.
        reset: `(T,)` bool, or None. For batches, `jax.vmap` over axis 1.
    """
    return jnp.sqrt(jnp.sum(contributions(mem, params, u, reset) ** 2, axis=(1, 3)))
