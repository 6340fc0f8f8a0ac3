"""Returns and weights of imagined trajectories (DreamerV3, Hafner et al. 2023, first version)."""

from typing import NamedTuple

import jax.numpy as jnp

from ssmrl.memory.scan import affine_scan
from ssmrl.shapes import TB, Array, Scalar


def lambda_returns(reward: TB, discount: TB, value: TB, lam: float) -> TB:
    """Lambda returns of the states that H transitions leave, `(H, *B)`.

    `G[k] = reward[k] + discount[k] ((1 - lam) value[k] + lam G[k+1])`, and beyond the last
    transition G is its value. Index k is the transition from state k to state k + 1.

    Args:
        reward: on arriving at state k + 1.
        discount: of what follows there: the discount factor, 0 where the episode ends there.
        value: of state k + 1.
        lam: 0 trusts the value of the next state, 1 only that of the last one.
    """
    step = reward + (1 - lam) * discount * value
    return affine_scan(lam * discount, step, value[-1], reverse=True)


def trajectory_weights(cont: TB, gamma: float) -> TB:
    """How much each of H + 1 states counts: the discounted chance to act there, `(H + 1, *B)`.

    `cont[k]` is 1 where the episode goes on at state k and 0 where it ended there, the start
    included: a start that is terminal has weight 0, and so has all that follows it.
    """
    return jnp.cumprod(gamma * cont, axis=0) / gamma


class Percentiles(NamedTuple):
    """Moving averages of two percentiles of the returns, in units of return; shape ()."""

    low: Scalar
    high: Scalar


def track_percentiles(
    seen: Percentiles,
    returns: Array,
    low: float = 5.0,
    high: float = 95.0,
    decay: Array | float = 0.99,
) -> Percentiles:
    """The averages after `returns`; they start at 0, without a correction for that."""
    now = jnp.percentile(returns, jnp.array([low, high], jnp.float32))
    return Percentiles(
        decay * seen.low + (1 - decay) * now[0], decay * seen.high + (1 - decay) * now[1]
    )


def return_scale(seen: Percentiles, least: float = 1.0) -> Scalar:
    """What to divide advantages by: the range between the percentiles, but at least `least`.

    Small returns are not blown up, so that a policy with nothing to gain stays random.
    """
    return jnp.maximum(seen.high - seen.low, least)
