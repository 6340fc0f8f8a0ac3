"""Subgoals: codes of what a level's model may know, and rewards for getting there.

The level above chooses a code, `code_groups` integers; this level's autoencoder says which
deterministic feature h it stands for (Director, Hafner et al. 2022; Hieros, Mattes et al. 2023,
section 3). Features are compared in symlog space throughout, where the autoencoder works; the
original compares the novelty's outside of it, and lacks the output layers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ssmrl.agents.hieros_config import HierosConfig
from ssmrl.envs.contract import MultiDiscrete
from ssmrl.nets.dreamer import MLP
from ssmrl.nets.one_hot import mix_uniform
from ssmrl.nets.two_hot import symlog
from ssmrl.shapes import TB, TBF, Array, B, Scalar


class Coded(NamedTuple):
    """Features after the autoencoder: leading axes `*B`.

    Attributes:
        log_probs: `(*B, G, C)` of the codes.
        code: `(*B, G)` int32, the likeliest.
        decoded: `(*B, D)`, symlog of the features that the code stands for.
    """

    log_probs: Array
    code: Array
    decoded: TBF


class Autoencoder(nnx.Module):
    """Between features h `(*B, D)` and codes of `code_groups` x `code_classes`.

    Args:
        config: `code_*`.
        width: D.
        rngs: its `params` stream makes the parameters.
    """

    def __init__(self, config: HierosConfig, width: int, *, rngs: nnx.Rngs) -> None:
        c = config
        self.space = code_space(c)
        self.shape, self.unimix, self.kl = (c.code_groups, c.code_classes), c.unimix, c.code_kl
        size = c.code_groups * c.code_classes
        self.encoder = MLP(width, c.code_layers, c.code_units, size, rngs=rngs)
        self.decoder = MLP(size, c.code_layers, width, width, rngs=rngs)

    def __call__(self, deter: TBF) -> Coded:
        """The code and what it stands for; the gradient goes straight through the code."""
        logits = self.encoder(symlog(deter))
        log_probs = mix_uniform(logits.reshape(*logits.shape[:-1], *self.shape), self.unimix)
        code, probs = jnp.argmax(log_probs, axis=-1), jnp.exp(log_probs)
        hot = jax.nn.one_hot(code, self.shape[1], dtype=jnp.float32)
        return Coded(log_probs, code, self.decode(hot + probs - jax.lax.stop_gradient(probs)))

    def decode(self, hot: Array) -> TBF:
        """The symlog of the features that codes `(*B, G, C)`, one-hot, stand for: `(*B, D)`."""
        return self.decoder(hot.reshape(*hot.shape[:-2], -1))

    def loss(self, deter: TBF) -> tuple[Scalar, dict[str, Scalar]]:
        """Reconstruction, and a pull towards using all codes.

        Metrics: `reconstruction`, the squared error as a share of the features' variance;
        `usage`, the perplexity of each group's codes over the number of classes, mean.
        """
        target, coded = symlog(deter), self(deter)
        error = jnp.mean(jnp.square(coded.decoded - target))
        probs = jnp.exp(coded.log_probs)
        per_group = jnp.sum(probs * coded.log_probs, axis=-1) + jnp.log(self.shape[1])
        loss = error + self.kl * jnp.mean(per_group)
        variance = jnp.mean(jnp.var(target.reshape(-1, target.shape[-1]), axis=0))
        return loss, {
            "reconstruction": error / jnp.maximum(variance, 1e-8),
            "usage": usage(coded.code, self.shape[1]),
        }


def code_space(config: HierosConfig) -> MultiDiscrete:
    """The actions of a level that sets subgoals."""
    return MultiDiscrete((config.code_classes,) * config.code_groups)


def usage(code: Array, classes: int) -> Scalar:
    """`exp(entropy) / classes` of the codes `(*B, G)` in use, mean over groups: 1 if all alike."""
    hot = jax.nn.one_hot(code.reshape(-1, code.shape[-1]), classes, dtype=jnp.float32)
    share = jnp.mean(hot, axis=0)
    nats = -jnp.sum(share * jnp.log(jnp.maximum(share, 1e-12)), axis=-1)
    return jnp.mean(jnp.exp(nats)) / classes


def subgoal_reward(goal: TBF, deter: TBF) -> TB:
    """How near features h are to a subgoal, `(*B,)`: 0 to ln 2, which they get at the goal only.

    The cosine with the longer of the two as the length of both, not below 0 ("max-cosine"),
    then symlog. goal: `(*B, D)`, symlog of the features wanted; deter: `(*B, D)`.
    """
    here = symlog(deter)
    longest = jnp.maximum(_square(goal), _square(here)) + 1e-12
    return symlog(jnp.maximum(jnp.sum(goal * here, axis=-1) / longest, 0.0))


def novelty_reward(coded: Coded, deter: TBF) -> TB:
    """How badly the autoencoder knows features h, `(*B,)`: symlog of the mean squared error."""
    return symlog(jnp.mean(jnp.square(coded.decoded - symlog(deter)), axis=-1))


def _square(x: TBF) -> B:
    return jnp.sum(jnp.square(x), axis=-1)
