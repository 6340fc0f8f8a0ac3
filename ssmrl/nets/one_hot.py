"""One-hot categoricals side by side: latents of a world model (Hafner et al. 2021, section 2).

Log-probabilities are `(*B, G, C)`: G groups, C classes each.
"""

import jax
import jax.numpy as jnp

from ssmrl.shapes import Array, B, Key


def mix_uniform(logits: Array, share: float) -> Array:
    """Normalised log-probabilities with `share` of the uniform distribution mixed in.

    No class ever has probability 0, so that KL divergences stay finite and gradients alive.
    """
    probs = (1 - share) * jax.nn.softmax(logits) + share / logits.shape[-1]
    return jnp.log(probs)


def one_hot_mode(log_probs: Array) -> Array:
    """The likeliest class of each group, without gradient."""
    return jax.nn.one_hot(jnp.argmax(log_probs, axis=-1), log_probs.shape[-1], dtype=jnp.float32)


def straight_through(log_probs: Array, uniform: Array) -> Array:
    """One-hot samples whose gradient is that of the probabilities (Bengio et al. 2013).

    uniform: `(*B, G)` in [0, 1), one number for each group, from which its class is chosen by
    the inverse of the distribution function: C times fewer random bits than Gumbel noise.
    """
    probs = jnp.exp(log_probs)
    classes = probs.shape[-1]
    below = jax.lax.stop_gradient(probs) @ jnp.triu(jnp.ones((classes, classes)))
    index = jnp.sum((below[..., :-1] <= uniform[..., None]).astype(jnp.int32), axis=-1)
    sample = jax.nn.one_hot(index, classes, dtype=jnp.float32)
    return sample + (probs - jax.lax.stop_gradient(probs))


def noise(key: Key, shape: tuple[int, ...]) -> Array:
    """What `straight_through` draws from: uniform in [0, 1), float32."""
    return jax.random.uniform(key, shape)


def kl_divergence(log_p: Array, log_q: Array) -> B:
    """KL(p || q) in nats, summed over groups: `(*B,)`."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=(-2, -1))


def entropy(log_p: Array) -> B:
    """Entropy in nats, summed over groups: `(*B,)`."""
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=(-2, -1))
