"""What the agent sees: a pitched camera in a maze, by one ray per direction and exact pixels.

All walls are vertical, so which wall a pixel shows depends only on the pixel's direction seen
from above. Twice as many directions as the picture has columns are cast against all grid lines
at once; every pixel takes the wall of the direction nearest to its own and is then intersected
with that wall, the floor and the targets exactly. (The pitch gives the pixels of one column
different directions, which a column raycaster would ignore.) Lengths in cells.
"""

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.memory_maze.layout import ROOM, WALL
from ssmrl.envs.memory_maze.textures import WALLS, Textures
from ssmrl.shapes import Array, Scalar

SKY, WALL_SEEN, CORRIDOR_SEEN, ROOM_SEEN, TARGET_SEEN = 0, 1, 2, 3, 10

EYE_HEIGHT, EYE_AHEAD = 0.45, 0.075
WALL_HEIGHT = 0.75
BALL = 0.3  # radius of a target
_LEVEL, _DOWN = 0.99503719, 0.09950372  # forward = _LEVEL * heading - _DOWN * up
_WIDTH = float(np.tan(np.radians(40)))  # half of the picture at distance 1
_AMBIENT, _DIFFUSE = 0.3, 0.6
_SKY_COLOR = np.array([102, 153, 204], np.float32)
_Y_PLANES = 500.0  # a wall at y = k has the code k + 2 * _Y_PLANES, one at x = k the code k


@struct.dataclass
class Scene:
    """What there is to see. cells: (n, n), `Maze.cells`. blocks: (9,) int8, the wall texture of
    each ninth of the maze, row by row from the top. targets: (K, 2) cells. colors: (K, 3)
    float32 in [0, 255].
    """

    cells: Array
    blocks: Array
    targets: Array
    colors: Array


class View(NamedTuple):
    """What each pixel shows, before it is coloured; (h, w) each.

    depth: along the camera's axis. surface: int32, SKY, WALL_SEEN, CORRIDOR_SEEN, ROOM_SEEN or
    TARGET_SEEN + i. texture: int32. u, v: [0, 1), place in the texture, rightwards and
    downwards. shade: factor of the light.
    """

    depth: Array
    surface: Array
    texture: Array
    u: Array
    v: Array
    shade: Array


def look(scene: Scene, position: Array, heading: Scalar, resolution: int) -> View:
    """The square view of an agent at `position: (2,)` that looks along `heading: ()` rad."""
    lens = _lens(resolution)
    ahead = jnp.stack([jnp.cos(heading), jnp.sin(heading)])
    right = jnp.stack([ahead[1], -ahead[0]])
    eye = position + EYE_AHEAD * ahead
    dx, dy = (lens.ahead * ahead[i] + lens.right * right[i] for i in range(2))

    plane = cast(scene.cells, eye, ahead, right, jnp.asarray(lens.rays))[0][lens.nearest]
    on_x = plane < _Y_PLANES
    plane = jnp.where(on_x, plane, plane - 2 * _Y_PLANES)
    across, along = jnp.where(on_x, dx, dy), jnp.where(on_x, dy, dx)
    depth = (plane - jnp.where(on_x, eye[0], eye[1])) / across
    height = EYE_HEIGHT + depth * lens.up
    place = jnp.where(on_x, eye[1], eye[0]) + depth * along
    behind = plane + jnp.where(across > 0, 0.5, -0.5)
    x, y = jnp.where(on_x, behind, place), jnp.where(on_x, place, behind)
    texture = scene.blocks[_block(x, y, scene.cells.shape[0])].astype(jnp.int32)
    facing = jnp.where(on_x, ahead[0], ahead[1]) * jnp.sign(across) * _LEVEL
    u = place * jnp.where((across > 0) == on_x, -1.0, 1.0)
    wall = View(depth, jnp.int32(WALL_SEEN), texture, u, -height - 0.125, _light(facing))

    floor = _floor(scene, eye, dx, dy, lens)
    view = _choose(height < 0, floor, wall)
    balls, normal = _balls(scene.targets, eye, dx, dy, lens)
    which = jnp.argmin(balls, axis=0).astype(jnp.int32)
    nearest = jnp.min(balls, axis=0)
    x, y, z = normal(nearest, which)
    facing = -_LEVEL * (x * ahead[0] + y * ahead[1]) + _DOWN * z
    sky = (height > WALL_HEIGHT) & (lens.up > 0)
    view = view._replace(surface=jnp.where(sky, SKY, view.surface))
    ball = View(nearest, TARGET_SEEN + which, which, view.u, view.v, _light(facing))
    view = _choose(nearest < view.depth, ball, view)
    return view._replace(u=view.u - jnp.floor(view.u), v=view.v - jnp.floor(view.v))


def cast(cells: Array, eye: Array, ahead: Array, right: Array, rays: Array) -> tuple[Array, Array]:
    """The first wall on each ray: its code (see _Y_PLANES) and how far ahead it is, (rays,) each.

    cells: (n, n). eye, ahead, right: (2,). rays: (rays,), how far to the right per unit ahead.
    """
    n = cells.shape[0]
    solid = (cells == WALL).astype(jnp.int32)
    power = jnp.left_shift(1, jnp.arange(n, dtype=jnp.int32))
    columns = [jnp.sum(solid * power[:, None], axis=0), jnp.sum(solid * power, axis=1)]
    lines = jnp.arange(n - 1, dtype=jnp.float32)
    found = []
    for axis, bits in enumerate(columns):
        slope, other = (ahead[i] + rays * right[i] for i in (axis, 1 - axis))
        slope = jnp.where(jnp.abs(slope) < 1e-6, 1e-6, slope)[:, None]
        far = (lines - eye[axis]) / slope
        place = eye[1 - axis] + far * other[:, None]
        row = jnp.clip(place + 1, 0, n - 1).astype(jnp.int32)
        entered = jnp.where(slope > 0, bits[1:], bits[:-1])
        hit = (far > 0) & (jnp.right_shift(entered, row) & 1 == 1)
        far = jnp.min(jnp.where(hit, far, jnp.inf), axis=1)
        found.append((far, jnp.round(eye[axis] + far * slope[:, 0])))
    (far_x, plane_x), (far_y, plane_y) = found
    code = jnp.where(far_x < far_y, plane_x, plane_y + 2 * _Y_PLANES)
    return code, jnp.minimum(far_x, far_y)


def paint(view: View, scene: Scene, textures: Textures) -> Array:
    """The picture, (h, w, 3) float32 in [0, 255]."""
    resolution = view.depth.shape[0]
    footprint = view.depth * (2 * _WIDTH / resolution)
    floor = (view.surface == CORRIDOR_SEEN) | (view.surface == ROOM_SEEN)
    footprint = footprint * jnp.where(floor, 1.5, 1.0)
    texel = textures.sample(view.texture, view.u, view.v, footprint)
    sky = _lens(resolution).sky[..., None] * _SKY_COLOR
    channels = []
    for i, color in enumerate(texel):
        for k in range(scene.targets.shape[0]):
            color = jnp.where(view.surface == TARGET_SEEN + k, scene.colors[k, i], color)
        channels.append(jnp.where(view.surface == SKY, sky[..., i], color * view.shade))
    return jnp.stack(channels, axis=-1)


class _Lens(NamedTuple):
    """Directions of pixels per unit of depth, and rays from above; static for a resolution.

    ahead, up: (h, 1). right: (1, w). rays: (2w,) sidewards per unit ahead. nearest: (h, w)
    int32, the ray for a pixel. sky: (h, 1) brightness.
    """

    ahead: np.ndarray
    right: np.ndarray
    up: np.ndarray
    rays: np.ndarray
    nearest: np.ndarray
    sky: np.ndarray


@cache
def _lens(resolution: int) -> _Lens:
    middle = ((np.arange(resolution) + 0.5) / resolution * 2 - 1) * _WIDTH
    right, rise = middle[None, :], -middle[:, None]
    ahead, up = _LEVEL + rise * _DOWN, rise * _LEVEL - _DOWN
    slope = right / ahead
    count, widest = 2 * resolution, np.abs(slope).max()
    rays = np.linspace(-widest, widest, count)
    nearest = np.round((slope + widest) / (2 * widest) * (count - 1))
    steep = up / np.sqrt(ahead**2 + right**2 + up**2)  # sine of the elevation
    sky = (1 + steep / np.sqrt(1 + steep**2)) / 2
    parts = ahead, right, up, rays, nearest, sky
    types = (np.float32,) * 4 + (np.int32, np.float32)
    return _Lens(*(x.astype(t) for x, t in zip(parts, types, strict=True)))


def _block(x: Array, y: Array, n: int) -> Array:
    """Which ninth of the maze a point (x, y) is in: int32, row by row from the top."""
    row, column = (
        (line >= n // 3).astype(jnp.int32) + (line >= 2 * n // 3).astype(jnp.int32)
        for line in (n - 1 - y, x + 1)
    )
    return 3 * row + column


def _floor(scene: Scene, eye: Array, dx: Array, dy: Array, lens: _Lens) -> View:
    """The floor below the horizon (meaningless above it)."""
    n = scene.cells.shape[0]
    depth = EYE_HEIGHT / np.maximum(-lens.up, 1e-3)
    x, y = eye[0] + depth * dx, eye[1] + depth * dy
    column, row = (jnp.clip(p + 1, 0, n - 1).astype(jnp.int32) for p in (x, y))
    room = scene.cells.ravel()[row * n + column] >= ROOM
    surface = jnp.where(room, ROOM_SEEN, CORRIDOR_SEEN)
    texture = len(WALLS) + jnp.where(room, 1, 0)
    return View(depth, surface, texture, x, -y, _light(jnp.float32(_DOWN)))


def _balls(targets: Array, eye: Array, dx: Array, dy: Array, lens: _Lens) -> tuple:
    """Depths of the targets, (K, h, w), inf where none is; and a function for their normals."""
    length = lens.ahead**2 + lens.right**2 + lens.up**2
    away = (eye - targets)[:, :, None, None]
    half = away[:, 0] * dx + away[:, 1] * dy + EYE_HEIGHT * lens.up
    rest = away[:, 0] ** 2 + away[:, 1] ** 2 + EYE_HEIGHT**2 - BALL**2
    root = half * half - length * rest
    depth = (-half - jnp.sqrt(jnp.maximum(root, 0.0))) / length
    depth = jnp.where((root > 0) & (depth > 0), depth, jnp.inf)

    def normal(depth: Array, which: Array) -> tuple[Array, Array, Array]:
        depth = jnp.where(jnp.isfinite(depth), depth, 0.0)
        x = sum(jnp.where(which == k, a[0], 0.0) for k, a in enumerate(away))
        y = sum(jnp.where(which == k, a[1], 0.0) for k, a in enumerate(away))
        z = EYE_HEIGHT + depth * lens.up
        return (x + depth * dx) / BALL, (y + depth * dy) / BALL, z / BALL

    return depth, normal


def _light(facing: Array) -> Array:
    """Brightness of a surface whose normal has the component `facing` towards the camera."""
    return _AMBIENT + _DIFFUSE * jnp.maximum(facing, 0.0)


def _choose(when: Array, a: View, b: View) -> View:
    return View(*(jnp.where(when, x, y) for x, y in zip(a, b, strict=True)))
