"""A ring of the latest rows of every environment, read in windows of consecutive rows.

A row is whatever one observation brings with it (see `ssmrl.agents.r2i`). Every environment
has a ring and a write head of its own, so one that ends an episode may write two rows while
the others write one. Windows are consecutive in time: they cross episodes, never the write
head (R2I, Samsami et al. 2024, whose replay samples any start within two adjoining chunks).

The rows of an environment are numbered as they come. Numbers are all that is computed here; the
rows themselves lie in arrays on the device, or in files (`ssmrl.replay.disk`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.replay.disk import Disk
from ssmrl.replay.samplers import Sampler
from ssmrl.shapes import TB, Array, B, Key, PyTree


class Ring(NamedTuple):
    """Rows of B environments.

    Attributes:
        rows: a pytree of arrays `(capacity, B, ...)`, or the `Disk` that has them.
        head: `(B,)` int32, the number of the next row of each environment.
        size: `(B,)` int32, rows stored of each, at most the capacity.
    """

    rows: PyTree
    head: B
    size: B


def empty(row: PyTree, capacity: int, num_envs: int) -> Ring:
    """A ring without rows.

    Args:
        row: one row of one environment, arrays or `jax.ShapeDtypeStruct`s; or the `Disk` where
            rows are to lie, which has no arrays to be made.
        capacity: rows of each environment.
        num_envs: B.
    """
    blank = jax.tree.map(lambda x: jnp.zeros((capacity, num_envs, *x.shape), x.dtype), row)
    none = jnp.zeros(num_envs, jnp.int32)
    return Ring(blank, none, none)


def write(ring: Ring, rows: PyTree, valid: TB) -> Ring:
    """The ring after `rows`, `(n, B, ...)`, of which those that are not `valid` are left out.

    Raises:
        UsageError: more rows than the ring holds, so that some would be lost at once.
    """
    capacity = _capacity(ring)
    if valid.shape[0] > capacity:
        raise UsageError(f"{valid.shape[0]} rows do not fit a ring of capacity {capacity}")
    count = jnp.cumsum(valid.astype(jnp.int32), axis=0)
    number = ring.head + count - 1
    return Ring(
        rows=_put(ring.rows, rows, number, valid),
        head=ring.head + count[-1],
        size=jnp.minimum(ring.size + count[-1], capacity),
    )


def windows(ring: Ring, length: int) -> B:
    """How many windows of `length` rows each environment holds, `(B,)` int32."""
    return jnp.maximum(ring.size - length + 1, 0)


def sample(ring: Ring, key: Key, batch: int, length: int, sampler: Sampler) -> PyTree:
    """`batch` windows of `length` consecutive rows, oldest first: leaves `(length, batch, ...)`.

    An environment is drawn in proportion to the windows it holds, then `sampler` draws one of
    these; with the uniform sampler all windows are equally likely. There must be one at least
    (see `windows`): of an empty ring the rows are zeros.
    """
    key_env, key_start = jax.random.split(key)
    held = windows(ring, length)
    bounds = jnp.cumsum(held)
    drawn = jax.random.randint(key_env, (batch,), 0, jnp.maximum(bounds[-1], 1))
    env = jnp.minimum(jnp.searchsorted(bounds, drawn, side="right"), held.shape[0] - 1)
    start = sampler(key_start, jnp.maximum(held[env], 1))
    oldest = ring.head[env] - ring.size[env]
    return _take(ring.rows, oldest + start + jnp.arange(length)[:, None], env)


def _put(rows: PyTree, new: PyTree, number: TB, valid: TB) -> PyTree:
    """Where rows lie, once the `valid` ones of `new` have come to them by their `number`."""
    if isinstance(rows, Disk):
        rows.put(new, number, valid)
        return rows
    capacity = jax.tree.leaves(rows)[0].shape[0]
    slot = jnp.where(valid, number % capacity, capacity)  # out of bounds
    column = jnp.arange(valid.shape[1])
    return jax.tree.map(lambda x, y: x.at[slot, column].set(y, mode="drop"), rows, new)


def _take(rows: PyTree, number: Array, env: B) -> PyTree:
    """The rows of `number`, `(length, batch)`, and environment `env`: `(length, batch, ...)`."""
    if isinstance(rows, Disk):
        return rows.take(number, env)
    slot = number % jax.tree.leaves(rows)[0].shape[0]
    return jax.tree.map(lambda x: x.at[slot, env].get(mode="promise_in_bounds"), rows)


def _capacity(ring: Ring) -> int:
    if isinstance(ring.rows, Disk):
        return ring.rows.capacity
    return int(jax.tree.leaves(ring.rows)[0].shape[0])
