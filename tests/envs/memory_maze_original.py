"""What the original Memory Maze did (memory-maze 1.0.3, MuJoCo 2.3.1), as recorded."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from ssmrl.envs.memory_maze.layout import SIZES
from ssmrl.envs.memory_maze.pool import pool_from_arrays

FOLDER = Path(__file__).parent / "memory_maze_fixtures"


@cache
def recorded(name):
    """The arrays of one file by key."""
    with np.load(FOLDER / name) as file:
        return dict(file)


def statistics(size):
    return json.loads((FOLDER / "maze_stats.json").read_text())[size]


def first_mazes(size):
    """The mazes of seeds 0 to 63."""
    start = recorded("seeds0-63_initial_states.npz")
    names = ("free", "room", "objects", "spawns")
    return pool_from_arrays(SIZES[size], *(start[f"{size}/{name}"] for name in names))


def episode(prefix, name="traces_mj2.3.1.npz"):
    """The arrays of one recorded episode."""
    return {k.rpartition("/")[2]: v for k, v in recorded(name).items() if k.startswith(prefix)}
