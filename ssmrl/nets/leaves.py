"""Observation spaces taken apart into their leaves: images, and everything else."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ssmrl.envs.contract import Box, Dict, Space, Tuple, feature_size
from ssmrl.errors import UsageError
from ssmrl.nets.images import stages
from ssmrl.shapes import Array, PyTree


def leaves(space: Space, path: tuple[str, ...] = ()) -> dict[str, Space]:
    """The spaces inside Dict and Tuple spaces by path, e.g. `camera/left`.

    Raises:
        UsageError: an image that cannot be read: see `is_image`.
    """
    children = _children(space)
    if children is None:
        is_image(space)
        return {_name(path): space}
    inside = [leaves(child, (*path, str(key))) for key, child in children]
    return {name: leaf for part in inside for name, leaf in part.items()}


def take_apart(space: Space, x: PyTree, path: tuple[str, ...] = ()) -> dict[str, Array]:
    """The leaves of an element of `space`, with any leading axes, by the names of `leaves`."""
    children = _children(space)
    if children is None:
        return {_name(path): x}
    inside = [take_apart(child, x[key], (*path, str(key))) for key, child in children]
    return {name: leaf for part in inside for name, leaf in part.items()}


def put_together(space: Space, parts: dict[str, Array], path: tuple[str, ...] = ()) -> PyTree:
    """The inverse of `take_apart`."""
    children = _children(space)
    if children is None:
        return parts[_name(path)]
    each = {key: put_together(child, parts, (*path, str(key))) for key, child in children}
    return each if isinstance(space, Dict) else tuple(each.values())


def is_image(space: Space) -> bool:
    """Whether the space is one of images: three axes of uint8.

    Raises:
        UsageError: an image that is not square, whose side is no power of two from 8 on, or
            whose bounds are not two different finite numbers.
    """
    if not isinstance(space, Box) or len(space.shape) != 3 or space.dtype != jnp.uint8:
        return False
    if space.shape[0] != space.shape[1] or stages(space.shape[0]) is None:
        raise UsageError(
            "images must be square with a side of 8, 16, 32, 64, ... pixels, channels last; got "
            f"{space!r}. Resize or pad them, or declare them float32 to be read as vectors"
        )
    low, high = bounds(space)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UsageError(f"images need finite bounds, low below high, such as 0 and 255: {space!r}")
    return True


def _children(space: Space) -> list[tuple[Any, Space]] | None:
    """Keys and spaces inside a Dict or Tuple space; None for a leaf."""
    if isinstance(space, Dict):
        return list(space.spaces.items())
    return list(enumerate(space.spaces)) if isinstance(space, Tuple) else None


def _name(path: tuple[str, ...]) -> str:
    return "/".join(path) or "observation"


def split(space: Space) -> tuple[dict[str, Any], int]:
    """The images of a space by name, and the width of all other leaves together.

    Raises:
        UsageError: nothing to observe, or an image that cannot be read.
    """
    found = leaves(space)
    images = {name: s for name, s in found.items() if is_image(s)}
    width = sum(feature_size(s) for name, s in found.items() if name not in images)
    if not images and not width:
        raise UsageError(f"there is nothing to observe in {space!r}")
    return images, width


def bounds(space: Box) -> tuple[float, float]:
    """The lowest and the highest number of a space."""
    return float(np.min(space.low)), float(np.max(space.high))


def centred(space: Box, x: Array) -> Array:
    """An image `(*B, S, S, channels)` as float32, with its bounds at -1/2 and 1/2."""
    low, high = bounds(space)
    return (x.astype(jnp.float32) - low) / (high - low) - 0.5
