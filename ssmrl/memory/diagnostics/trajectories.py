"""What the diagnostics have in common: memories seen through their protocol alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ssmrl.memory.spec import Memory
from ssmrl.shapes import TB, TBF, TBH, TBP, Array, PyTree


def batch_of(u: TBF) -> tuple[int, ...]:
    """The batch axes of u `(T, *B, F)`."""
    return tuple(u.shape[1:-1])


def real_vector(carry: PyTree, batch: tuple[int, ...]) -> Array:
    """All numbers of a carry side by side, float32; complex ones as real and imaginary part.

    Each leaf leads with the axes `batch`. Integers (counters) are left out.
    """
    parts = [jnp.zeros((*batch, 0))]
    for leaf in jax.tree.leaves(carry):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            flat = leaf.reshape(*batch, -1)
            parts += [flat.real, flat.imag] if jnp.iscomplexobj(flat) else [flat]
    return jnp.concatenate([p.astype(jnp.float32) for p in parts], axis=-1)


@partial(jax.jit, static_argnums=0)
def states(mem: Memory, params: PyTree, u: TBF, reset: TB | None = None) -> tuple[TBP, TBH]:
    """The carry after every step as real vectors `(T, *B, P)`, and the outputs `(T, *B, H)`."""
    prepared = mem.prepare(params)

    def step(carry: PyTree, inputs: tuple[Array, Any]) -> tuple[PyTree, tuple[Array, Array]]:
        carry, y = mem.step(prepared, carry, *inputs)
        return carry, (real_vector(carry, batch_of(u)), y)

    return jax.lax.scan(step, mem.init_carry(batch_of(u)), (u, reset))[1]


def state_size(mem: Memory) -> int:
    """Real numbers in the carry of one environment; a complex one counts twice."""
    leaves = jax.tree.leaves(jax.eval_shape(mem.init_carry))
    floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
    return sum(x.size * (2 if jnp.iscomplexobj(x) else 1) for x in floats)


@partial(jax.jit, static_argnums=0)
def read(mem: Memory, params: PyTree, u: TBF, reset: TB | None = None) -> TBH:
    """The outputs `(T, *B, H)` from the first carry on."""
    return mem.apply(params, mem.init_carry(batch_of(u)), u, reset)[1]
