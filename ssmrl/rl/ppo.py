"""The losses of proximal policy optimisation (Schulman et al. 2017)."""

import jax.numpy as jnp

from ssmrl.shapes import TB, Scalar


def policy_loss(log_prob: TB, old_log_prob: TB, advantage: TB, clip: float) -> Scalar:
    """Clipped surrogate (equation 7), negated; advantages are standardised over the batch.

    The ratio is held back on the side to which the advantage draws it: the same minimum, with
    less to differentiate.
    """
    advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
    ratio = jnp.exp(log_prob - old_log_prob)
    limit = jnp.where(advantage > 0, 1 + clip, 1 - clip)
    beyond = (ratio > limit) == (advantage > 0)
    return -jnp.mean(jnp.where(beyond, limit, ratio) * advantage)


def value_loss(value: TB, old_value: TB, target: TB, clip: float | None) -> Scalar:
    """Half the mean squared error; with `clip`, pessimistic against moves beyond it.

    `clip` is in units of return.
    """
    error = jnp.square(value - target)
    if clip is not None:
        near = old_value + jnp.clip(value - old_value, -clip, clip)
        error = jnp.maximum(error, jnp.square(near - target))
    return 0.5 * jnp.mean(error)


def approximate_kl(log_prob: TB, old_log_prob: TB) -> Scalar:
    """KL(old || new) from samples of old: the unbiased, non-negative estimator k3 (Schulman)."""
    log_ratio = log_prob - old_log_prob
    return jnp.mean(jnp.exp(log_ratio) - 1 - log_ratio)


def clip_fraction(log_prob: TB, old_log_prob: TB, clip: float) -> Scalar:
    """Share of the samples whose probability ratio lies outside 1 +- clip."""
    ratio = jnp.exp(log_prob - old_log_prob)
    return jnp.mean((jnp.abs(ratio - 1) > clip).astype(jnp.float32))
