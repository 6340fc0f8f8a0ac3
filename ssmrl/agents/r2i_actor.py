"""Actor and critic of R2I: those of DreamerV3 (Hafner et al. 2023, first version).

Inside the agent a Box action is scaled so that its bounds are -1 and 1; `to_env` undoes that.
"""

from collections.abc import Sequence
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gymnax.environments import spaces

from ssmrl.envs.contract import MultiDiscrete
from ssmrl.errors import UsageError
from ssmrl.nets.distributions import Distribution, distribution, parameter_count
from ssmrl.nets.dreamer import MLP
from ssmrl.nets.one_hot import mix_uniform
from ssmrl.nets.two_hot import TwoHot
from ssmrl.shapes import TBF, Array, Key


class Actor(nnx.Module):
    """The policy: an MLP, and a distribution over (scaled) actions.

    Discrete: every class keeps at least its share of 1 % uniform. Box: a normal with mean in
    -1..1 and deviation in 0.1..1, whose samples may lie beyond the bounds.

    Args:
        space: Discrete, MultiDiscrete or Box; see `check_action_space`.
        in_dim: F, width of the policy's input.
        layers, units: of the MLP.
        uniform: share of the uniform distribution.
        rngs: its `params` stream makes the parameters.
    """

    def __init__(
        self,
        space: spaces.Space,
        in_dim: int,
        layers: int,
        units: int,
        uniform: float,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.space, self.uniform = space, uniform
        outputs = parameter_count(space) * (2 if isinstance(space, spaces.Box) else 1)
        self.net = MLP(in_dim, layers, units, outputs, rngs=rngs)

    def __call__(self, x: TBF) -> Distribution:
        """The distribution for inputs `(*B, F)`."""
        outputs = self.net(x)
        if isinstance(self.space, spaces.Box):
            mean, spread = jnp.split(outputs, 2, axis=-1)
            shape = (*mean.shape[:-1], *self.space.shape)
            scale = 0.9 * jax.nn.sigmoid(spread + 2) + 0.1
            normal = distrax.Normal(jnp.tanh(mean).reshape(shape), scale.reshape(shape))
            return distrax.Independent(normal, len(self.space.shape))
        sizes = self.space.nvec if isinstance(self.space, MultiDiscrete) else (self.space.n,)
        parts = jnp.split(outputs, np.cumsum(sizes)[:-1], axis=-1)
        logits = jnp.concatenate([mix_uniform(part, self.uniform) for part in parts], axis=-1)
        return distribution(self.space, logits, None)


class Critic(nnx.Module):
    """The value: an MLP, and bins in symlog space that begin with equal weights (value 0)."""

    def __init__(
        self, in_dim: int, layers: int, units: int, bins: int, limit: float, *, rngs: nnx.Rngs
    ) -> None:
        self.limit = limit
        self.net = MLP(in_dim, layers, units, bins, out_scale=0.0, rngs=rngs)

    def __call__(self, x: TBF) -> TwoHot:
        """The distribution over returns for inputs `(*B, F)`."""
        return TwoHot(self.net(x), self.limit)


def check_action_space(space: spaces.Space) -> None:
    """Refuse a space that the actor cannot act in.

    Raises:
        UsageError: none of Discrete, MultiDiscrete, Box, or a Box without finite bounds.
    """
    parameter_count(space)
    if isinstance(space, spaces.Box) and not np.all(np.isfinite(_bounds(space))):
        raise UsageError(f"actions are scaled to their bounds, which must be finite; got {space!r}")


def scaled_space(space: spaces.Space) -> spaces.Space:
    """The space of actions inside the agent: a Box from -1 to 1 for a Box, else `space`."""
    if isinstance(space, spaces.Box):
        return spaces.Box(-1.0, 1.0, space.shape)
    return space


def to_env(space: spaces.Space, action: Array) -> Array:
    """The action `(*B, ...)` of the environment for one of `scaled_space(space)`, clipped."""
    if not isinstance(space, spaces.Box):
        return action
    action = jnp.clip(action, -1.0, 1.0)
    low, high = (jnp.broadcast_to(jnp.asarray(b), action.shape) for b in _bounds(space))
    return (low + (action + 1) / 2 * (high - low)).astype(space.dtype)


def random_actions(space: spaces.Space, key: Key, batch: Sequence[int]) -> Array:
    """Uniform actions of `scaled_space(space)`, `(*batch, ...)`."""
    keys = jax.random.split(key, tuple(batch))
    return jax.vmap(scaled_space(space).sample)(keys)


def no_action(space: spaces.Space, batch: Sequence[int]) -> Array:
    """Zeros in the shape of actions: what is stored where no action was taken."""
    like: Any = jax.eval_shape(lambda: scaled_space(space).sample(jax.random.key(0)))
    return jnp.zeros((*batch, *like.shape), like.dtype)


def _bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds, float32, in the shape of an action."""
    return tuple(  # type: ignore[return-value]
        np.broadcast_to(np.asarray(b, np.float32), space.shape) for b in (space.low, space.high)
    )
