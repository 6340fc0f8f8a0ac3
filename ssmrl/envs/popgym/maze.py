"""Mazes of popgym's labyrinths: mazelib 0.9.16's hunt-and-kill with random hunts, in JAX.

A walk carves passages from a cell to unvisited neighbours until it is stuck; then cells are
tried at random until one is found that is visited and has an unvisited neighbour, where the
next walk begins. The number of tries is limited, so that now and then a cell stays walled in.
Here the tries that fail are drawn as one geometric number and the one that succeeds uniformly
among the cells that can: the same distribution in one step per cell.
"""

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.draw import below
from ssmrl.shapes import Array, Key, Scalar

FREE, OBSTACLE, START, GOAL = range(4)


@struct.dataclass
class Maze:
    """n cells a side lie at odd rows and columns; walls and passages between and around them.

    squares: (2n+1, 2n+1) int8, FREE, OBSTACLE, START, GOAL. start: (2,) int32, row and column.
    open: () int32, how many squares are no obstacles.
    """

    squares: Array
    start: Array
    open: Scalar


def new_maze(key: Key, cells: int, goal: bool) -> Maze:
    """A maze of `cells` a side whose start and goal lie in opposite outer walls.

    The start is marked; the goal where `goal`, else it is a piece of wall.
    """
    key_walls, key_ends = jax.random.split(key)
    squares = _carve(key_walls, cells)
    words = jax.random.bits(key_ends, (3,))
    side = below(words[0], jnp.int32(4))
    here, there = (2 * below(word, jnp.int32(cells)) + 1 for word in words[1:])
    wall = jnp.where(side % 2 == 0, 0, 2 * cells)
    ends = jnp.stack([jnp.stack([wall, here]), jnp.stack([2 * cells - wall, there])])
    start, end = jnp.where(side < 2, ends, ends[:, ::-1])
    squares = squares.at[start[0], start[1]].set(START)
    if goal:
        squares = squares.at[end[0], end[1]].set(GOAL)
    return Maze(squares, start, jnp.sum(squares != OBSTACLE, dtype=jnp.int32))


def _carve(key: Key, cells: int) -> Array:
    """(2n+1, 2n+1) int8: FREE where walks went, else OBSTACLE."""
    everywhere = jnp.ones((cells, cells), bool)
    key_first, key_walks = jax.random.split(key)
    first = _pick(jax.random.bits(key_first), everywhere)
    words = jax.random.bits(key_walks, (cells**2 - 1, 3))
    nowhere = ~everywhere
    walk = (first, first, nowhere, nowhere, jnp.int32((2 * cells + 1) ** 2))
    (visited, _, across, down, _), _ = jax.lax.scan(_walk_on, walk, words)
    open_ = jnp.zeros((2 * cells + 1, 2 * cells + 1), bool)
    open_ = open_.at[1::2, 1::2].set(visited)
    open_ = open_.at[1::2, 2:-1:2].set(across[:, :-1]).at[2:-1:2, 1::2].set(down[:-1])
    return jnp.where(open_, FREE, OBSTACLE).astype(jnp.int8)


Walk = tuple[Array, Array, Array, Array, Scalar]


def _walk_on(walk: Walk, words: Array) -> tuple[Walk, None]:
    """Visit one more cell, after a hunt if the walk is stuck.

    walk: (n, n) bool each: cells visited, the one where the walk is, cells open to their right,
    cells open below them; () int32, how many tries are left. words: (3,) uint32.
    """
    visited, here, across, down, tries = walk
    wild = ~visited
    around = [_shift(wild, -d, axis) for d, axis in _DIRECTIONS]
    edge = visited & (around[0] | around[1] | around[2] | around[3])
    stuck = ~jnp.any(here & edge)
    tries = tries - jnp.where(stuck, _tries(words[0], edge), 0)
    here = jnp.where(stuck, _pick(words[1], edge), here)
    open_to = jnp.stack([jnp.any(here & near) for near in around])
    heading = _pick(words[2], open_to) & (tries >= 0)
    there = [_shift(here, *to) & h for to, h in zip(_DIRECTIONS, heading, strict=True)]
    right, left, below_, above = there
    across = across | (here & heading[0]) | left
    down = down | (here & heading[2]) | above
    moved = right | left | below_ | above
    return (visited | moved, jnp.where(jnp.any(heading), moved, here), across, down, tries), None


_DIRECTIONS = ((1, 1), (-1, 1), (1, 0), (-1, 0))  # right, left, down, up: step and axis


def _shift(mask: Array, step: int, axis: int) -> Array:
    """`mask: (n, n)` moved by one along `axis`; what leaves is lost, what enters False."""
    padding = [(0, 0), (0, 0)]
    padding[axis] = (1, 0) if step > 0 else (0, 1)
    start = [0, 0]
    start[axis] = 0 if step > 0 else 1
    n = mask.shape[0]
    return jnp.pad(mask, padding)[start[0] : start[0] + n, start[1] : start[1] + n]


def _pick(word: Scalar, mask: Array) -> Array:
    """One of the True entries of `mask`, drawn uniformly, alone; none where there is none."""
    rank = jnp.cumsum(mask.ravel().astype(jnp.int32))
    chosen = rank == below(word, rank[-1]) + 1
    return mask & chosen.reshape(mask.shape)


def _tries(word: Scalar, edge: Array) -> Scalar:
    """How many cells a hunt tries until it finds one of `edge`, () int32, at most 2**20."""
    chance = jnp.mean(edge.astype(jnp.float32))
    uniform = ((word >> 8).astype(jnp.float32) + 0.5) / 2**24
    failed = jnp.log(uniform) / jnp.log1p(-jnp.maximum(chance, 1e-6))
    return 1 + jnp.minimum(failed, 2.0**20).astype(jnp.int32)
