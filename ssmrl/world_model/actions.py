"""Actions as vectors that a world model reads."""

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.envs.contract import Box, Space, flatten
from ssmrl.shapes import TBF, PyTree


def encode_action(space: Space, action: PyTree, clip: float) -> TBF:
    """One-hots of integers; the numbers of a Box, its finite bounds moved to -1 and 1.

    Numbers larger than `clip` are shortened to it; the factor is a constant for the gradient
    (as in R2I, whose actions lie between -1 and 1).

    Args:
        space: Discrete, MultiDiscrete or Box.
        action: an element of it with leading axes `*B`.
        clip: largest size of an entry.
    """
    x = flatten(space, action)
    if not isinstance(space, Box):
        return x
    low, high = (
        np.broadcast_to(np.float32(b), space.shape).ravel() for b in (space.low, space.high)
    )
    bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
    low, high = np.where(bounded, low, -1), np.where(bounded, high, 1)
    x = (x - (low + high) / 2) / ((high - low) / 2)
    return x * jax.lax.stop_gradient(clip / jnp.maximum(jnp.abs(x), clip))
