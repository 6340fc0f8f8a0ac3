"""The maze from above, for people."""

import jax.numpy as jnp
import numpy as np

from ssmrl.envs.memory_maze.body import CELL, RADIUS
from ssmrl.envs.memory_maze.camera import BALL, Scene
from ssmrl.envs.memory_maze.layout import CORRIDOR, ROOM
from ssmrl.envs.memory_maze.textures import FLOORS, WALLS
from ssmrl.shapes import Array, Scalar

_AGENT = np.array([240, 240, 240], np.float32)


def top_down(scene: Scene, position: Array, heading: Scalar, resolution: int) -> Array:
    """(resolution, resolution, 3) uint8: walls in the colours of their blocks, floors, targets,
    and the agent as a white disc with a line to where it looks. Right is x, up is y.
    """
    n = scene.cells.shape[0]
    line = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution * n
    x, y = np.meshgrid(line - 1, n - 1 - line)
    cell = np.floor(line).astype(np.int32)
    cells = scene.cells[::-1][cell[:, None], cell]
    third = (cell >= n // 3).astype(np.int32) + (cell >= 2 * n // 3)
    walls = jnp.asarray(np.array(list(WALLS.values()), np.float32))[scene.blocks]
    picture = walls[3 * third[:, None] + third]
    for kind, color in zip((CORRIDOR, ROOM), FLOORS.values(), strict=True):
        picture = jnp.where((cells >= kind)[..., None], np.array(color, np.float32), picture)
    for target, color in zip(scene.targets, scene.colors, strict=True):
        inside = (x - target[0]) ** 2 + (y - target[1]) ** 2 < BALL**2
        picture = jnp.where(inside[..., None], color, picture)
    dx, dy = x - position[0], y - position[1]
    ahead = dx * jnp.cos(heading) + dy * jnp.sin(heading)
    aside = dx * jnp.sin(heading) - dy * jnp.cos(heading)
    disc = dx**2 + dy**2 < (2 * RADIUS / CELL) ** 2
    pointer = (ahead > 0) & (ahead < 0.5) & (jnp.abs(aside) < 0.05)
    picture = jnp.where((disc | pointer)[..., None], _AGENT, picture)
    return jnp.round(picture).astype(jnp.uint8)
