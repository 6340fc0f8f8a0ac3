"""Running mean and variance, for the normalisation of observations and rewards."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.shapes import Array, Scalar


class RunningStatistics(NamedTuple):
    """Moments of everything seen, per feature."""

    seen: Scalar  # float32, number of samples
    mean: Array  # (F,)
    variance: Array  # (F,)


def start(shape: tuple[int, ...]) -> RunningStatistics:
    """Before any sample: mean 0, variance 1."""
    return RunningStatistics(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


def update(statistics: RunningStatistics, x: Array) -> RunningStatistics:
    """Adds samples `(*N, F)`, merging moments as Chan et al. (1979) do.

    The weight of the past is capped at 1e7 samples: float32 counts stay exact, and a drifting
    stream is followed at that time scale.
    """
    samples = tuple(range(x.ndim - statistics.mean.ndim))
    n = jnp.asarray(x.size // max(statistics.mean.size, 1), jnp.float32)
    count = jnp.minimum(statistics.seen, 1e7)
    total = count + n
    delta = jnp.mean(x, axis=samples) - statistics.mean
    spread = (
        count * statistics.variance
        + n * jnp.var(x, axis=samples)
        + jnp.square(delta) * count * n / total
    )
    return RunningStatistics(total, statistics.mean + delta * n / total, spread / total)


def normalise(statistics: RunningStatistics, x: Array, limit: float = 10.0) -> Array:
    """`x` with zero mean and unit variance, clipped to +- limit."""
    scale = jax.lax.rsqrt(statistics.variance + 1e-8)
    return jnp.clip((x - statistics.mean) * scale, -limit, limit)


def rescale(statistics: RunningStatistics, x: Array, limit: float = 10.0) -> Array:
    """`x` with unit variance, its mean kept, clipped to +- limit."""
    return jnp.clip(x * jax.lax.rsqrt(statistics.variance + 1e-8), -limit, limit)
