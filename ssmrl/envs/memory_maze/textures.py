"""Colours of walls, floors and targets, and the patterns on them.

The repository holds no pictures of others: by default a pattern of dark lines is drawn in each
colour, so that walls show their distance. The original's pictures (labmaze, style 01) are read
from an installed `labmaze` on request.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import struct
from PIL import Image

from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import Array

WALLS = {  # in the order of the original's wall styles: mean colour
    "blue": (32, 116, 177),
    "cerise": (169, 65, 103),
    "green_bright": (166, 197, 156),
    "green": (85, 120, 76),
    "purple": (68, 80, 176),
    "red_bright": (213, 124, 104),
    "red": (143, 32, 26),
    "yellow": (196, 169, 38),
}
FLOORS = {"blue": (54, 88, 109), "blue_bright": (111, 148, 170)}  # corridors, rooms

TARGETS = np.array(  # red, green, blue, purple, yellow, salmon; in [0, 1]
    [(170, 38, 30), (99, 170, 88), (39, 140, 217), (93, 105, 199), (220, 193, 59), (220, 128, 107)],
    np.float32,
) / np.float32(220)
TARGET_NAMES = ("red", "green", "blue", "purple", "yellow", "salmon")

_SIDE = 64  # texels along a cell at the finest level


@struct.dataclass
class Textures:
    """texels: (textures, P) uint32, red + 256 green + 65536 blue, walls before floors.

    P is 1, or 5461: pictures of 64 x 64, 32 x 32, ... 1 x 1 texels, one after the other.
    """

    texels: Array

    def sample(self, texture: Array, u: Array, v: Array, footprint: Array) -> list[Array]:
        """Red, green, blue in [0, 255], float32 of the shape of the arguments.

        u, v: place in the texture, in [0, 1). footprint: size of a pixel there, in textures.
        """
        texels = self.texels
        if texels.shape[1] == 1:
            packed = texels[:, 0][texture]
        else:
            level = jnp.clip(jnp.round(jnp.log2(_SIDE * footprint)), 0, np.log2(_SIDE))
            side = jnp.exp2(np.log2(_SIDE) - level).astype(jnp.int32)
            start = (4 * _SIDE**2 - 4 * side * side) // 3
            row, column = ((x * side).astype(jnp.int32) for x in (v, u))
            packed = texels.ravel()[texture * texels.shape[1] + start + row * side + column]
        return [(jnp.right_shift(packed, s) & 255).astype(jnp.float32) for s in (0, 8, 16)]


def flat() -> Textures:
    """One colour for each."""
    return Textures(_pack(np.array([[c] for c in _colors()])))


def procedural() -> Textures:
    """Lines parallel to the axes, the same at every call, on the mean colours."""
    rng = np.random.default_rng(0)
    return _mipmapped([_lines(rng, color) for color in _colors()])


def from_labmaze() -> Textures:
    """The original's pictures. Raises UsageError where `labmaze` is not installed."""
    try:
        assets = importlib.import_module("labmaze").__file__
    except ImportError as error:
        raise UsageError(
            "textures 'labmaze' are read from the package labmaze: pip install labmaze==1.0.6"
        ) from error
    folder = Path(str(assets)).parent / "assets" / "style_01"
    names = [f"wall_{name}_d.png" for name in WALLS] + [f"floor_{name}_d.png" for name in FLOORS]
    pictures = []
    for name in names:
        with Image.open(folder / name) as picture:
            opaque = picture.convert("RGBA").convert("RGB")
            small = opaque.resize((_SIDE, _SIDE), Image.Resampling.BOX)
        pictures.append(np.asarray(small, np.float64))
    return _mipmapped(pictures)


TEXTURES: dict[str, Callable[[], Textures]] = {
    "flat": flat,
    "procedural": procedural,
    "labmaze": from_labmaze,
}


def load(name: str) -> Textures:
    """The textures of that `name`. Raises UsageError for an unknown one."""
    if name not in TEXTURES:
        raise unknown("textures", name, TEXTURES)
    return TEXTURES[name]()


def _colors() -> list[tuple[int, int, int]]:
    return [*WALLS.values(), *FLOORS.values()]


def _lines(rng: np.random.Generator, color: tuple[int, int, int]) -> np.ndarray:
    """(64, 64, 3) float64 whose mean is `color`."""
    light = np.ones((_SIDE, _SIDE))
    for axis in (0, 1):
        for start in rng.integers(0, _SIDE, 4):
            lines = (start + np.arange(rng.integers(1, 4))) % _SIDE
            light[(lines, slice(None)) if axis else (slice(None), lines)] *= 0.8
    return np.clip(light[..., None] / light.mean() * color, 0, 255)


def _mipmapped(pictures: list[np.ndarray]) -> Textures:
    levels = [np.stack(pictures)]
    while levels[-1].shape[1] > 1:
        count, side = levels[-1].shape[0], levels[-1].shape[1] // 2
        levels.append(levels[-1].reshape(count, side, 2, side, 2, 3).mean((2, 4)))
    return Textures(_pack(np.concatenate([x.reshape(len(pictures), -1, 3) for x in levels], 1)))


def _pack(colors: np.ndarray) -> Array:
    """(..., 3) in [0, 255] as one number each."""
    packed = np.round(colors).astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
    return jnp.asarray(packed)
