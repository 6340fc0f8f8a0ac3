"""Pulling straight the U-shaped detours of corridors, as labmaze does after filling dead ends.

A detour that goes round a block of walls of length k is replaced by the way along the block's
edge. The original walks through lengths 1, 2, ... and mends one detour of a length, as far as
it goes; after one of a length above 1 it begins again at 1. Which detours are left follows from
that order, so it is kept.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.shapes import Array, Scalar

_TURNS = (2, 0, 1, 3)  # quarter turns that bring a detour's far side up: down, up, right, left


class _Search(NamedTuple):
    """corridor, wall: (n, n) bool. length: () int32. at: (n, n) bool, where to look on after a
    detour was mended, nowhere if everywhere.
    """

    corridor: Array
    wall: Array
    length: Scalar
    at: Array


def straighten(corridor: Array, wall: Array) -> Array:
    """`corridor: (n, n)` bool without detours; `wall: (n, n)` bool, doors and rooms are neither."""
    n = corridor.shape[0]
    start = _Search(corridor, wall, jnp.int32(1), jnp.zeros_like(wall))
    return jax.lax.while_loop(lambda s: s.length < n - 3, _mend, start).corridor


def _mend(search: _Search) -> _Search:
    """Look for a detour, and mend it if there is one."""
    corridor, wall, length, at = search
    going_on = jnp.any(at)
    found = [
        jnp.rot90(_detours(jnp.rot90(corridor, k), jnp.rot90(wall, k), length), -k) for k in _TURNS
    ]
    every = jnp.stack(found, axis=-1) & (at | ~going_on)[..., None]
    first = (jnp.cumsum(every.ravel().astype(jnp.int32)) == 1) & every.ravel()
    first = first.reshape(every.shape)
    mended = jnp.any(first)
    opened = filled = below_ = jnp.zeros_like(wall)
    for turn, here in zip(_TURNS, jnp.moveaxis(first, -1, 0), strict=True):
        block, far, next_ = (
            jnp.rot90(x, -turn) for x in _replacement(jnp.rot90(here, turn), length)
        )
        opened, filled, below_ = opened | block, filled | far, below_ | next_
    again = going_on & (length > 1)
    after = jnp.where(going_on, jnp.where(again, 1, length + 1), length + 1)
    return _Search(
        (corridor | opened) & ~filled,
        (wall | filled) & ~opened,
        jnp.where(mended, length, after),
        below_,
    )


def _detours(corridor: Array, wall: Array, length: Scalar) -> Array:
    """Left ends of walls of `length` that a corridor goes round above: (n, n) bool."""

    def along(good: Array, first: int, last: Scalar | int) -> Array:
        """Whether `good` holds at all columns from `first` to `last`, counted from each."""
        total = jnp.cumsum(jnp.pad(~good, ((0, 0), (1, 0))).astype(jnp.int32), axis=1)
        return _left(total, last + 1)[:, :-1] == _left(total, first)[:, :-1]

    def up(x: Array, rows: int) -> Array:
        return jnp.roll(x, rows, axis=0)

    n = wall.shape[0]
    corridor, wall = jnp.pad(corridor, n), jnp.pad(wall, n, constant_values=True)
    fits = (
        along(wall & up(wall, -1), 0, length - 1)
        & along(up(corridor, 1), -1, length)
        & along(up(wall, 2), -1, length)
        & _left(up(wall, 1), -2)
        & _left(up(wall, 1), length + 1)
        & _left(corridor, -1)
        & _left(corridor, length)
    )
    return fits[n : 2 * n, n : 2 * n]


def _replacement(here: Array, length: Scalar) -> tuple[Array, Array, Array]:
    """For a detour at `here`, (n, n) bool: cells to open, to fill, and where to look on."""

    def stretch(x: Array, count: Scalar) -> Array:
        total = jnp.cumsum(x.astype(jnp.int32), axis=1)
        return (total - _right(total, count)) > 0

    above = jnp.roll(jnp.roll(here, -1, axis=0), -1, axis=1)
    return stretch(here, length), stretch(above, length + 2), jnp.roll(here, 1, axis=0)


def _left(x: Array, columns: Scalar | int) -> Array:
    """`x` moved left by `columns`, around the edge."""
    return jnp.roll(x, -columns, axis=1)


def _right(x: Array, columns: Scalar | int) -> Array:
    """`x: (n, m)` moved right by `columns`, zeros coming in."""
    moved = jnp.roll(x, columns, axis=1)
    return jnp.where(jnp.arange(x.shape[1]) < columns, 0, moved)
