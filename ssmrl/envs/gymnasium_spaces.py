"""Gymnasium's spaces and ours, in both directions.

Integers count from 0 here, where Gymnasium's may start anywhere, and 64 bits become 32.
"""

from typing import Any

import jax
import numpy as np
from gymnasium import spaces

from ssmrl.envs.contract import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from ssmrl.errors import UsageError
from ssmrl.shapes import PyTree

NARROW = {"float64": "float32", "int64": "int32", "uint64": "int32", "uint32": "int32"}
"""Types that JAX does without, and what stands for them."""


def from_gymnasium(space: spaces.Space, name: str) -> Space:
    """Our space for one of Gymnasium's.

    Raises UsageError for a kind that there is not here, with the environment's `name`.
    """
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return MultiDiscrete(space.nvec.tolist())
    if isinstance(space, spaces.Box):
        dtype = _narrow(space.dtype)
        with np.errstate(over="ignore"):
            low, high = (_bound(bound.astype(dtype)) for bound in (space.low, space.high))
        return Box(low, high, space.shape, dtype)
    if isinstance(space, spaces.Dict):
        return Dict({key: from_gymnasium(part, name) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return Tuple(tuple(from_gymnasium(part, name) for part in space.spaces))
    raise UsageError(
        f"{name} has a space {space}: expected Discrete, a flat MultiDiscrete, Box, or Dict or "
        "Tuple of these; wrap the environment and register it with Gymnasium under another id"
    )


def to_gymnasium(space: Space) -> spaces.Space:
    """Gymnasium's space for one of ours; Discrete is int64, as Gymnasium likes it.

    Raises UsageError for a space of another kind.
    """
    if isinstance(space, Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, MultiDiscrete):
        return spaces.MultiDiscrete(np.array(space.nvec), dtype=np.dtype(space.dtype).type)
    if isinstance(space, Box):
        dtype = np.dtype(space.dtype)
        low, high = (
            np.broadcast_to(np.asarray(bound).astype(dtype), space.shape)
            for bound in (space.low, space.high)
        )
        return spaces.Box(low, high, tuple(space.shape), dtype.type)
    if isinstance(space, Dict):
        return spaces.Dict({key: to_gymnasium(part) for key, part in space.spaces.items()})
    if isinstance(space, Tuple):
        return spaces.Tuple([to_gymnasium(part) for part in space.spaces])
    raise UsageError(f"expected Discrete, MultiDiscrete, Box, Dict or Tuple, got {space!r}")


def inwards(space: spaces.Space, x: Any) -> PyTree:
    """An element, or a batch `(*B, ...)`, of Gymnasium's `space` as one of ours."""
    if isinstance(space, spaces.Dict):
        return {key: inwards(part, x[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(map(inwards, space.spaces, x))
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return (np.asarray(x) - space.start).astype(np.int32)
    return np.asarray(x).astype(_narrow(space.dtype))


def outwards(space: spaces.Space, x: PyTree) -> Any:
    """An element, or a batch `(*B, ...)`, of ours as one of Gymnasium's `space`."""
    if isinstance(space, spaces.Dict):
        return {key: outwards(part, x[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(map(outwards, space.spaces, x))
    x = np.asarray(x).astype(space.dtype)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return x + space.start
    return x


def structure(space: Space) -> PyTree:
    """Shapes and types of an element of one of our spaces."""
    if isinstance(space, Dict):
        return {key: structure(part) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(map(structure, space.spaces))
    return jax.ShapeDtypeStruct(space.shape, space.dtype)


def _narrow(dtype: Any) -> np.dtype:
    return np.dtype(NARROW.get(np.dtype(dtype).name, dtype))


def _bound(bound: np.ndarray) -> Any:
    """One number where all are the same."""
    same = bound.size > 0 and (bound == bound.flat[0]).all()
    return bound.flat[0].item() if same else bound
