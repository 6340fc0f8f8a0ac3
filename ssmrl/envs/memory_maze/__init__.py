"""Memory Maze (Pasukonis et al., ICLR 2023) in JAX; ids are `memory_maze/<size>`.

The task, its geometry, light, colours and sizes are those of memory-maze 1.0.3. What differs:
the physics is reduced to the plane, pictures are not antialiased, random numbers are others (so
a seed gives another maze of the same distribution), and walls have patterns of our own unless
`textures="labmaze"`.
"""

from functools import partial

from ssmrl.envs.memory_maze.env import MemoryMaze
from ssmrl.envs.memory_maze.layout import SIZES

__all__ = ["ENVIRONMENTS", "MemoryMaze"]

ENVIRONMENTS = {name: partial(MemoryMaze, size=name) for name in SIZES}
"""The four sizes."""
