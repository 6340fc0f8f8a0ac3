"""The recurrent actor-critic: encoder, memory, and two heads (Lu et al. 2023, appendix)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from gymnax.environments import spaces

from ssmrl.envs.contract import flatten
from ssmrl.memory import Memory as MemorySpec
from ssmrl.memory import Prepared
from ssmrl.memory.nnx import Memory
from ssmrl.nets.distributions import Distribution, distribution, parameter_count
from ssmrl.nets.images import ImageEncoder
from ssmrl.nets.leaves import centred, leaves, split, take_apart
from ssmrl.shapes import TB, Array, B, PyTree


class FeedForward(nnx.Module):
    """Dense layers with leaky ReLU between them (after the last one too if `open_end`).

    Kernels are orthogonal with gain sqrt(2), that of the last layer `last_gain`.
    """

    def __init__(
        self, widths: Sequence[int], *, open_end: bool, last_gain: float, rngs: nnx.Rngs
    ) -> None:
        gains = [2**0.5] * (len(widths) - 2) + [last_gain]
        self.open_end = open_end
        self.layers = nnx.List(
            nnx.Linear(i, o, kernel_init=nnx.initializers.orthogonal(gain), rngs=rngs)
            for i, o, gain in zip(widths[:-1], widths[1:], gains, strict=True)
        )

    def __call__(self, x: Array) -> Array:
        """Maps `(*B, widths[0])` to `(*B, widths[-1])`."""
        batch = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])  # one product of matrices: see ssmrl.memory.dense.matmul
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.open_end or i + 1 < len(self.layers):
                x = jax.nn.leaky_relu(x)
        return x.reshape(*batch, -1)


class Senses(nnx.Module):
    """Features of an observation: images through convolutions, all else as `flatten` has it.

    Args:
        space: of the observations.
        depth: channels after the first convolution of an image.
        rngs: its `params` stream makes the parameters.

    Raises:
        UsageError: a space that it cannot read.
    """

    def __init__(self, space: spaces.Space, depth: int, *, rngs: nnx.Rngs) -> None:
        images, width = split(space)
        self.space = space
        self.images = nnx.Dict(
            {n: ImageEncoder(s.shape[0], s.shape[2], depth, rngs=rngs) for n, s in images.items()}
        )
        self.out_dim = width + sum(net.out_dim for net in self.images.values())

    def __call__(self, obs: PyTree) -> Array:
        """Maps an observation with leading axes `*B` to `(*B, out_dim)`."""
        if not self.images:
            return flatten(self.space, obs)
        parts = take_apart(self.space, obs)
        features = [
            self.images[name](centred(space, parts[name]))
            if name in self.images
            else flatten(space, parts[name])
            for name, space in leaves(self.space).items()
        ]
        return jnp.concatenate(features, axis=-1)


class ActorCritic(nnx.Module):
    """Policy and value of an observation and of what the memory holds.

    Args:
        observation_space: images, and what `ssmrl.envs.contract.flatten` reads.
        action_space: Discrete, MultiDiscrete or Box.
        memory: the memory between encoder and heads.
        encoder: widths of the encoder's layers.
        head: hidden widths of the actor and, with weights of its own, of the critic.
        state_std: in a Box the actor puts out the logarithms of the deviations too, which
            otherwise are the same in every state.
        image_depth: channels after the first convolution of an image.
        rngs: its `params` stream makes the parameters.

    Raises:
        UsageError: a space that it cannot read or act in.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        memory: MemorySpec,
        *,
        encoder: Sequence[int],
        head: Sequence[int],
        state_std: bool,
        image_depth: int,
        rngs: nnx.Rngs,
    ) -> None:
        self.action_space = action_space
        self.senses = Senses(observation_space, image_depth, rngs=rngs)
        widths = [self.senses.out_dim, *encoder]
        outputs = parameter_count(action_space)
        self.encoder = FeedForward(widths, open_end=True, last_gain=2**0.5, rngs=rngs)
        self.memory = Memory(memory, widths[-1], rngs=rngs)
        trunk = [memory.out_dim, *head]
        box = isinstance(action_space, spaces.Box)
        self.state_std = state_std and box
        actor = [*trunk, 2 * outputs if self.state_std else outputs]
        self.actor = FeedForward(actor, open_end=False, last_gain=0.01, rngs=rngs)
        self.critic = FeedForward([*trunk, 1], open_end=False, last_gain=1.0, rngs=rngs)
        fixed = box and not state_std
        self.log_std = nnx.Param(jnp.zeros((outputs,))) if fixed else None

    def __call__(self, carry: PyTree, obs: PyTree, reset: TB) -> tuple[PyTree, Distribution, TB]:
        """Reads a sequence `(T, *B, ...)`: next carry, action distributions, values `(T, *B)`."""
        carry, y = self.memory(carry, self._encode(obs), reset)
        return carry, self.policy(y), self.value(y)

    def step(
        self, carry: PyTree, obs: PyTree, reset: B, prepared: Prepared | None = None
    ) -> tuple[PyTree, Distribution, B]:
        """One step `(*B, ...)`; `prepared` from `self.memory.prepare()` saves work in a loop."""
        carry, y = self.remember(carry, obs, reset, prepared)
        return carry, self.policy(y), self.value(y)

    def remember(
        self, carry: PyTree, obs: PyTree, reset: B, prepared: Prepared | None = None
    ) -> tuple[PyTree, Array]:
        """The part of a step before the heads: next carry, what they read `(*B, out_dim)`."""
        return self.memory.step(carry, self._encode(obs), reset, prepared)

    def policy(self, y: Array) -> Distribution:
        """The action distribution of what the memory put out, `(*B, out_dim)`."""
        outputs, log_std = self.actor(y), None if self.log_std is None else self.log_std[...]
        if self.state_std:
            outputs, log_std = jnp.split(outputs, 2, axis=-1)
        return distribution(self.action_space, outputs, log_std)

    def value(self, y: Array) -> Array:
        """The value `(*B,)` of what the memory put out, `(*B, out_dim)`."""
        return self.critic(y)[..., 0]

    def _encode(self, obs: PyTree) -> Array:
        return self.encoder(self.senses(obs))
