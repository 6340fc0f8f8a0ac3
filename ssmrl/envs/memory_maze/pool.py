"""Mazes that are drawn beforehand and given to `MemoryMaze(pool=...)`."""

import importlib
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np

from ssmrl.envs.memory_maze.layout import CORRIDOR, ROOM, WALL, Maze, Size
from ssmrl.errors import UsageError


def pool_from_arrays(
    size: Size, free: np.ndarray, room: np.ndarray, objects: np.ndarray, spawns: np.ndarray
) -> Maze:
    """Mazes with a leading axis P.

    free, room: (P, N, N) without the outer wall, y upwards; where to walk, and the room's number
    from 1 on, 0 outside rooms. objects, spawns: (P, R, 2), centres of cells in cells, NaN after
    the last room's.

    Raises UsageError where the mazes are of another size or have fewer rooms than targets.
    """
    if free.shape[1:] != (size.inner, size.inner):
        raise UsageError(
            f"expected free of shape (P, {size.inner}, {size.inner}), got {free.shape}"
        )
    kind = np.where(room > 0, room + (ROOM - 1), CORRIDOR)
    cells = np.pad(np.where(free > 0, kind, WALL), ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    objects, spawns = (x[:, : size.rooms] for x in (objects, spawns))
    rooms = np.isfinite(objects[..., 0]).sum(-1).astype(np.int32)
    if rooms.min() < size.targets:
        raise UsageError(f"expected {size.targets} rooms or more, got a maze with {rooms.min()}")
    where = [np.floor(np.nan_to_num(x)).astype(np.int8) for x in (objects, spawns)]
    return Maze(*map(jnp.asarray, (cells, *where, rooms)))


def labmaze_pool(size: Size, seeds: Iterable[int]) -> Maze:
    """The mazes that memory-maze 1.0.3 plays first when made with these `seeds`.

    Raises UsageError where `labmaze` is not installed.
    """
    try:
        labmaze = importlib.import_module("labmaze")
    except ImportError as error:
        raise UsageError(
            "these mazes are drawn by the package labmaze: pip install labmaze==1.0.6"
        ) from error
    grids = []
    for seed in seeds:
        words = np.random.RandomState(seed)
        maze = labmaze.RandomMaze(
            height=size.side,
            width=size.side,
            max_rooms=size.rooms,
            room_min_size=3,
            room_max_size=size.longest,
            spawns_per_room=1,
            objects_per_room=1,
            max_variations=26,
            spawn_token="P",
            object_token="G",
            extra_connection_probability=0.0,
            simplify=True,
            has_doors=False,
            random_seed=words.randint(2**31),
        )
        maze.regenerate()
        while (np.array(maze.entity_layer) == "G").sum() < size.targets:
            maze.regenerate()
        grids.append(_from_text(maze, size))
    return pool_from_arrays(size, *(np.stack(x) for x in zip(*grids, strict=True)))


def _from_text(maze: object, size: Size) -> tuple[np.ndarray, ...]:
    """The arrays of `pool_from_arrays` for one maze of labmaze's."""
    layers = (getattr(maze, f"{name}_layer") for name in ("entity", "variations"))
    entity, variation = (np.array(layer)[1:-1, 1:-1] for layer in layers)
    letters = sorted(set(variation.ravel()) - {"."})
    room = sum((variation == letter) * (i + 1) for i, letter in enumerate(letters))
    cells = []
    for token in ("G", "P"):
        where = np.full((size.rooms, 2), np.nan)
        row, column = np.nonzero(entity == token)
        where[: len(row)] = np.stack([column, size.inner - 1 - row], axis=-1) + 0.5
        cells.append(where)
    return (entity != "*")[::-1], np.asarray(room)[::-1], *cells
