"""Mazes: what one is, and how new ones are drawn (labmaze 1.0.6, `RandomMaze`), in JAX.

Rooms are placed on the odd lattice of a grid with a wall around it, random depth-first walks
carve corridors through what is left, every two neighbouring regions get one door, dead ends are
filled and detours pulled straight. Here rooms are drawn among the places that are still free,
where the original tries places until one is: the same distribution but for its running out of
tries. Lattice cell (i, j) is grid cell (2i+1, 2j+1).
"""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.draw import below
from ssmrl.envs.memory_maze.straighten import straighten
from ssmrl.shapes import Array, Key, Scalar

WALL, CORRIDOR, ROOM = 0, 1, 2


@dataclass(frozen=True)
class Size:
    """What differs between the four tasks.

    inner: cells a side without the outer wall. targets: coloured balls. steps: of an episode,
    at 4 a second. rooms: at most. longest: of a room's sides, in cells; the shortest is 3.
    """

    inner: int
    targets: int
    steps: int
    rooms: int
    longest: int

    @property
    def side(self) -> int:
        """Cells a side with the outer wall."""
        return self.inner + 2


SIZES = {
    "9x9": Size(9, 3, 1000, 6, 5),
    "11x11": Size(11, 4, 2000, 6, 5),
    "13x13": Size(13, 5, 3000, 6, 5),
    "15x15": Size(15, 6, 4000, 9, 3),
}


@struct.dataclass
class Maze:
    """n cells a side with the outer wall, up to R rooms; y grows upwards, `cells[y, x]`.

    cells: (n, n) uint8, WALL, CORRIDOR or ROOM + i in room i.
    objects, spawns: (R, 2) int8, one cell (x, y) in each room where a target may lie, and one
        where an episode may begin; (0, 0) is the cell inside the lower left corner of the wall.
    rooms: () int32, how many there are: later rows of the two mean nothing.
    """

    cells: Array
    objects: Array
    spawns: Array
    rooms: Scalar


def new_maze(key: Key, size: Size) -> Maze:
    """A maze with at least as many rooms as targets."""
    key_rooms, key_walks, key_doors, key_inside = jax.random.split(key, 4)
    placed = _rooms(key_rooms, size)
    lattice, masks = map(jnp.asarray, _places(size)[:2])
    number = jnp.arange(1, size.rooms + 1, dtype=jnp.int32)
    room = jnp.max(masks[placed] * number[:, None, None], axis=0)
    in_room = jnp.max(lattice[placed] * number[:, None], axis=0)
    region, parent = _carve(key_walks, in_room, size)
    corridor, door = _open(key_doors, region, parent, in_room == 0, size)
    corridor = _fill_dead_ends(corridor, door | (room > 0))
    corridor = straighten(corridor, ~(corridor | door | (room > 0)))
    ways = corridor | (room > 0)
    across = jnp.arange(size.side)[:, None] % 2 == 1  # such doors lead from left to right
    sides = jnp.where(across, _both_sides(ways, 1), _both_sides(ways, 0))
    corridor = corridor | (door & sides)
    cells = jnp.where(room > 0, room + 1, corridor.astype(jnp.int32)).astype(jnp.uint8)[::-1]
    objects, spawns = _inside(key_inside, cells, size)
    return Maze(cells, objects, spawns, jnp.sum(placed > 0, dtype=jnp.int32))


@cache
def _places(size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where rooms can be, the place 0 being none: M places, lattice of Q = q*q cells.

    Returns lattice cells covered (M, Q) int32, grid cells covered (M, n, n) int32, which pairs
    of places overlap (M, M) bool, and the logarithm of their probabilities (M,) float32.
    """
    n, q = size.side, size.inner // 2 + 1
    shapes = [((1, 1), 0.5), ((1, 2), 0.25), ((2, 1), 0.25)] if size.longest > 3 else [((1, 1), 1)]
    lattice, masks, chances = [np.zeros((q, q))], [np.zeros((n, n))], [1.0]
    for (high, wide), chance in shapes:
        corners = [(i, j) for i in range(q - high) for j in range(q - wide)]
        for i, j in corners:
            lattice.append(np.zeros((q, q)))
            lattice[-1][i : i + high + 1, j : j + wide + 1] = 1
            masks.append(np.zeros((n, n)))
            masks[-1][2 * i + 1 : 2 * (i + high) + 2, 2 * j + 1 : 2 * (j + wide) + 2] = 1
            chances.append(chance / len(corners))
    covered = np.stack(lattice).reshape(len(lattice), -1).astype(np.int32)
    logits = np.log(np.array(chances, np.float32))
    return covered, np.stack(masks).astype(np.int32), covered @ covered.T > 0, logits


@cache
def _lattice(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of lattice cells, (Q+1, 4) int32 with Q for none, and edges (E, 2) int32."""
    q = size.inner // 2 + 1
    index = np.pad(np.arange(q * q).reshape(q, q), 1, constant_values=q * q)
    around = [index[2:, 1:-1], index[:-2, 1:-1], index[1:-1, 2:], index[1:-1, :-2]]
    neighbours = np.stack(around, -1).reshape(-1, 4)
    neighbours = np.concatenate([neighbours, np.full((1, 4), q * q)]).astype(np.int32)
    edges = [(a, neighbours[a, k]) for k in (0, 2) for a in range(q * q)]
    edges = [(a, b) for a, b in edges if b < q * q]  # downwards, then to the right
    return neighbours, np.array(edges, np.int32)


def _rooms(key: Key, size: Size) -> Array:
    """Places of the rooms, (R,) int32, 0 for none; drawn anew until they are enough."""
    *_, overlap, logits = _places(size)

    def place(free: Array, key: Key) -> tuple[Array, Scalar]:
        choice = jax.random.categorical(key, jnp.where(free, logits, -jnp.inf))
        choice = jnp.where(jnp.any(free), choice, 0).astype(jnp.int32)
        return free & ~jnp.asarray(overlap)[choice], choice

    def draw(carry: tuple[Key, Array]) -> tuple[Key, Array]:
        key, now = jax.random.split(carry[0])
        anywhere = jnp.arange(len(logits)) > 0
        return key, jax.lax.scan(place, anywhere, jax.random.split(now, size.rooms))[1]

    def too_few(carry: tuple[Key, Array]) -> Scalar:
        return jnp.sum(carry[1] > 0) < size.targets

    return jax.lax.while_loop(too_few, draw, draw((key, jnp.zeros(size.rooms, jnp.int32))))[1]


def _carve(key: Key, in_room: Array, size: Size) -> tuple[Array, Array]:
    """Depth-first walks through all lattice cells outside rooms, `in_room: (Q,)` int32 being 0.

    Returns region (Q,) int32, the room's number or one of its own for each connected area, and
    parent (Q,) int32, the cell from which a cell was entered, Q for none.
    """
    neighbours, _ = _lattice(size)
    nowhere = in_room.shape[0]
    words = jax.random.bits(key, (3 * nowhere,))
    region = jnp.append(in_room, 1)  # nowhere counts as visited
    start = (jnp.int32(0), jnp.int32(nowhere), jnp.int32(size.rooms), region)

    def go_on(carry: tuple[tuple[Scalar, Scalar, Scalar, Array], Array]) -> tuple:
        (step, here, regions, region), parent = carry
        around = jnp.asarray(neighbours)[here]
        wild = region[around] == 0
        rank = jnp.cumsum(wild.astype(jnp.int32))
        picked = wild & (rank == below(words[step], rank[-1]) + 1)
        fresh = here == nowhere
        found = jnp.where(fresh, jnp.argmin(region), jnp.max(jnp.where(picked, around, 0)))
        moves = fresh | jnp.any(wild)
        regions = regions + fresh.astype(jnp.int32)
        there = jnp.where(moves, found, nowhere).astype(jnp.int32)
        number = jnp.where(fresh, regions, region[here])
        region = region.at[there].set(number).at[nowhere].set(1)
        parent_there = jnp.where(moves, here, nowhere)
        back = parent[here]
        parent = parent.at[there].set(parent_there)
        return (step + 1, jnp.where(moves, there, back), regions, region), parent

    def unfinished(carry: tuple) -> Scalar:
        return jnp.any(carry[0][3] == 0)

    parents = jnp.full(nowhere + 1, nowhere, jnp.int32)
    (*_, region), parent = jax.lax.while_loop(unfinished, go_on, (start, parents))
    return region[:-1], parent[:-1]


def _open(key: Key, region: Array, parent: Array, walked: Array, size: Size) -> tuple[Array, Array]:
    """Corridors and doors, (n, n) bool each; one door for every two neighbouring regions."""
    _, edges = _lattice(size)
    a, b = region[edges[:, 0]], region[edges[:, 1]]
    pair = jnp.minimum(a, b) * 256 + jnp.maximum(a, b)
    lot = jax.random.uniform(key, pair.shape)
    beaten = (pair[:, None] == pair) & (lot[:, None] < lot)
    door = (a != b) & ~jnp.any(beaten, axis=1)
    carved = (parent[edges[:, 0]] == edges[:, 1]) | (parent[edges[:, 1]] == edges[:, 0])
    q = size.inner // 2 + 1
    nodes = jax.lax.pad(walked.reshape(q, q), False, [(1, 1, 1), (1, 1, 1)])
    return nodes | _between(carved, q), _between(door, q)


def _between(edges: Array, q: int) -> Array:
    """(n, n) bool: flags of edges `(E,)` in the cells between those of the lattice."""
    down, right = jnp.split(edges, 2)
    down = jax.lax.pad(down.reshape(q - 1, q), False, [(2, 2, 1), (1, 1, 1)])
    return down | jax.lax.pad(right.reshape(q, q - 1), False, [(1, 1, 1), (2, 2, 1)])


def _fill_dead_ends(corridor: Array, others: Array) -> Array:
    """`corridor: (n, n)` bool without cells that lead to one cell or none; `others` are open."""

    def narrow(corridor: Array) -> Array:
        ways = jnp.pad((corridor | others).astype(jnp.int32), 1)
        count = ways[2:, 1:-1] + ways[:-2, 1:-1] + ways[1:-1, 2:] + ways[1:-1, :-2]
        return corridor & (count > 1)

    def fill(carry: tuple[Array, Scalar]) -> tuple[Array, Scalar]:
        less = narrow(carry[0])
        return less, jnp.any(less != carry[0])

    return jax.lax.while_loop(lambda c: c[1], fill, (corridor, jnp.array(True)))[0]


def _both_sides(ways: Array, axis: int) -> Array:
    """Where both neighbours along `axis` are `ways`: (n, n) bool."""
    return jnp.roll(ways, 1, axis) & jnp.roll(ways, -1, axis)


def _inside(key: Key, cells: Array, size: Size) -> tuple[Array, Array]:
    """Two different cells of every room, (R, 2) int8 each."""
    room = jnp.arange(size.rooms, dtype=jnp.int32)[:, None] + ROOM
    lot = jax.random.uniform(key, (size.rooms, cells.size))
    lot = jnp.where(cells.ravel() == room, lot, -1.0)
    first = jnp.argmax(lot, axis=1)
    lot = jnp.where(jnp.arange(cells.size) == first[:, None], -1.0, lot)
    both = jnp.stack([first, jnp.argmax(lot, axis=1)])
    found = jnp.stack([both % size.side, both // size.side], axis=-1) - 1
    return tuple(found.astype(jnp.int8))
