"""Action distributions, one for every kind of action space."""

from typing import Protocol

import distrax
import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces

from ssmrl.envs.contract import MultiDiscrete
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key


class Distribution(Protocol):
    """What agents ask of a distribution over actions, with batch axes `*B`."""

    def sample(self, *, seed: Key) -> Array: ...  # (*B, *action)
    def log_prob(self, value: Array) -> Array: ...  # (*B,)
    def entropy(self) -> Array: ...  # (*B,)
    def mode(self) -> Array: ...  # (*B, *action)


@struct.dataclass
class Categorical:
    """One of A choices; actions are `(*B,)` int32.

    Distrax's also looks for invalid logits and actions, which is more to compile than the rest.

    log_probs: (*B, A), e.g. `log_softmax` of logits.
    """

    log_probs: Array

    def sample(self, *, seed: Key) -> Array:
        up_to = jnp.cumsum(jnp.exp(self.log_probs), axis=-1)[..., :-1]
        draw = jax.random.uniform(seed, up_to.shape[:-1], up_to.dtype)
        return jnp.sum(draw[..., None] >= up_to, axis=-1, dtype=jnp.int32)

    def log_prob(self, value: Array) -> Array:
        chosen = jax.nn.one_hot(value, self.log_probs.shape[-1], dtype=bool)
        return jnp.sum(jnp.where(chosen, self.log_probs, 0.0), axis=-1)

    def entropy(self) -> Array:
        return -jnp.sum(jnp.exp(self.log_probs) * self.log_probs, axis=-1)

    def mode(self) -> Array:
        return jnp.argmax(self.log_probs, axis=-1).astype(jnp.int32)


class MultiCategorical:
    """Independent categoricals side by side; actions are `(*B, n)` int32."""

    def __init__(self, logits: Array, sizes: tuple[int, ...]) -> None:
        splits = [sum(sizes[:i]) for i in range(1, len(sizes))]
        parts = jnp.split(logits, splits, axis=-1)
        self.parts = [Categorical(jax.nn.log_softmax(part)) for part in parts]

    def sample(self, *, seed: Key) -> Array:
        keys = jax.random.split(seed, len(self.parts))
        draws = [p.sample(seed=k) for p, k in zip(self.parts, keys, strict=True)]
        return jnp.stack(draws, axis=-1)

    def log_prob(self, value: Array) -> Array:
        logs = [p.log_prob(value[..., i]) for i, p in enumerate(self.parts)]
        return jnp.sum(jnp.stack(logs), axis=0)

    def entropy(self) -> Array:
        return jnp.sum(jnp.stack([p.entropy() for p in self.parts]), axis=0)

    def mode(self) -> Array:
        return jnp.stack([p.mode() for p in self.parts], axis=-1)


def parameter_count(space: spaces.Space) -> int:
    """How many outputs of a network parametrise a distribution over `space`.

    Raises:
        UsageError: the space is none of Discrete, MultiDiscrete, Box.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, MultiDiscrete):
        return sum(space.nvec)
    if isinstance(space, spaces.Box):
        return _size(space)
    raise UsageError(
        f"this agent acts in Discrete, MultiDiscrete and Box spaces; got {space!r}. Wrap the "
        "environment so that its action is one of these"
    )


def distribution(space: spaces.Space, outputs: Array, log_std: Array | None) -> Distribution:
    """The distribution over `space` that network outputs `(*B, parameter_count)` describe.

    A Box gets a diagonal Gaussian with these means and `log_std`, `(n,)` for all or `(*B, n)`; its
    samples are not squashed (the environment's bounds are applied to what it is given, the
    log-probability is that of the draw: Lu et al. 2023).
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(jax.nn.log_softmax(outputs))
    if isinstance(space, MultiDiscrete):
        return MultiCategorical(outputs, space.nvec)
    assert log_std is not None
    mean = outputs.reshape(*outputs.shape[:-1], *space.shape)
    scale = jnp.exp(log_std).reshape(*log_std.shape[:-1], *space.shape)
    scale = jnp.broadcast_to(scale, mean.shape)
    return distrax.Independent(distrax.Normal(mean, scale), len(space.shape))


def within_bounds(space: spaces.Space, action: Array) -> Array:
    """The action that the environment gets: clipped to a Box, itself elsewhere."""
    if isinstance(space, spaces.Box):
        return jnp.clip(action, space.low, space.high).astype(space.dtype)
    return action


def _size(space: spaces.Box) -> int:
    size = 1
    for n in space.shape:
        size *= n
    return size
