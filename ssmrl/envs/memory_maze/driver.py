"""Scripted drivers that see the whole maze: the oracle, and an explorer for data sets."""

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.envs.draw import below
from ssmrl.envs.memory_maze.body import Body
from ssmrl.envs.memory_maze.layout import WALL
from ssmrl.envs.memory_maze.state import MazeState
from ssmrl.shapes import Array, Key, Scalar

_STEPS = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y], np.int32)
_LENGTHS = np.sqrt((_STEPS**2).sum(1)).astype(np.float32)
_AHEAD = 6  # cells of the way that are looked at
_BERTH = 0.16  # cells that a straight line keeps from walls; the body's radius is 0.1
_FAR = 1e6
NOWHERE = np.full(2, -0.5, np.float32)  # in the outer wall: where `explore` begins


def oracle(state: MazeState) -> Scalar:
    """The action, () int32, on the shortest way to the target that is asked for."""
    return drive(state.maze.cells != WALL, state.body, state.targets[state.goal])


def explore(key: Key, point: Array, state: MazeState, noise: float = 0.2) -> tuple[Array, Scalar]:
    """Drive to `point: (2,)`, then to another free cell; at random in a share `noise` of steps.

    Returns the point to go on with and the action. Begin with a point in a wall, as NOWHERE.
    """
    key_cell, key_noise, key_action = jax.random.split(key, 3)
    free = state.maze.cells != WALL
    n = free.shape[0]
    rank = jnp.cumsum(free.ravel().astype(jnp.int32))
    index = jnp.argmax(rank == below(jax.random.bits(key_cell), rank[-1]) + 1)
    cell = jnp.stack([index % n, index // n]).astype(jnp.float32) - 0.5
    column, row = jnp.floor(point).astype(jnp.int32) + 1
    arrived = (jnp.sum((state.body.position - point) ** 2) < 0.25) | ~free[row, column]
    point = jnp.where(arrived, cell, point)
    wild = jax.random.uniform(key_noise) < noise
    random = below(jax.random.bits(key_action), jnp.int32(6))
    return point, jnp.where(wild, random, drive(free, state.body, point))


def drive(free: Array, body: Body, point: Array) -> Scalar:
    """The action that takes the body towards `point: (2,)` by the shortest way.

    free: (n, n) bool with the outer wall. Of the next cells on the way the farthest that can be
    reached in a straight line is headed for.
    """
    distance = _distances(free, point)
    cell = jnp.floor(body.position).astype(jnp.int32)
    aim = cell.astype(jnp.float32) + 0.5
    for _ in range(_AHEAD):
        cell = _next(free, distance, cell)
        centre = cell.astype(jnp.float32) + 0.5
        arrived = jnp.all(cell == jnp.floor(point).astype(jnp.int32))
        spot = jnp.where(arrived, point, centre)
        aim = jnp.where(_is_clear(free, body.position, spot), spot, aim)
    way = aim - body.position
    error = jnp.arctan2(way[1], way[0]) - body.heading - 0.06 * body.yaw_rate
    error = (error + jnp.pi) % (2 * jnp.pi) - jnp.pi
    turn = jnp.where(error > 0.14, 1, jnp.where(error < -0.14, 2, 0))
    forward = jnp.abs(error) < 0.9
    return jnp.where(forward, jnp.array([1, 4, 5])[turn], jnp.array([0, 2, 3])[turn])


def _distances(free: Array, point: Array) -> Array:
    """Length of the way from each cell to `point`'s, (n, n) float32; diagonal steps included."""
    column, row = jnp.floor(point).astype(jnp.int32) + 1
    n = free.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    start = jnp.where((index[:, None] == row) & (index == column), 0.0, _FAR)

    def relax(carry: tuple[Array, Scalar]) -> tuple[Array, Scalar]:
        best = carry[0]
        for (x, y), length in zip(_STEPS, _LENGTHS, strict=True):
            moved = jnp.roll(carry[0], (y, x), (0, 1)) + length
            open_ = jnp.roll(free, y, 0) & jnp.roll(free, x, 1)  # no cutting of corners
            best = jnp.where(open_, jnp.minimum(best, moved), best)
        best = jnp.where(free, best, _FAR)
        return best, jnp.any(best < carry[0])

    return jax.lax.while_loop(lambda c: c[1], relax, (start, jnp.array(True)))[0]


def _next(free: Array, distance: Array, cell: Array) -> Array:
    """The cell after `cell: (2,)` on the shortest way; itself at the end."""
    around = cell + jnp.asarray(_STEPS)
    x, y = (jnp.clip(around + 1, 0, free.shape[0] - 1)).T
    open_ = free[y, cell[0] + 1] & free[cell[1] + 1, x]
    length = jnp.where(open_, distance[y, x] + jnp.asarray(_LENGTHS), _FAR)
    best = around[jnp.argmin(length)]
    return jnp.where(distance[cell[1] + 1, cell[0] + 1] < 0.5, cell, best)


def _is_clear(free: Array, start: Array, end: Array) -> Scalar:
    """Whether a body fits along the line from `start` to `end`, (2,) each."""
    share = jnp.linspace(0.0, 1.0, 24)[1:, None]
    points = start + share * (end - start)
    corners = np.array([(x, y) for x in (-_BERTH, _BERTH) for y in (-_BERTH, _BERTH)], np.float32)
    touched = jnp.floor(points[:, None] + corners).astype(jnp.int32) + 1
    x, y = jnp.clip(touched, 0, free.shape[0] - 1)[..., 0], touched[..., 1]
    return jnp.all(free[jnp.clip(y, 0, free.shape[0] - 1), x])
