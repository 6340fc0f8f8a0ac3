"""Return estimators over time-major rollouts."""

from ssmrl.memory.scan import affine_scan
from ssmrl.shapes import TB, B


def gae(
    reward: TB,
    value: TB,
    next_value: TB,
    terminated: TB,
    truncated: TB,
    gamma: float,
    lam: float,
) -> tuple[TB, TB]:
    """Generalised advantage estimation (Schulman et al. 2016, equations 11 and 16).

    All arrays are `(T, *B)`; index t is the transition that leaves observation t.

    Args:
        reward: reward of the transition.
        value: V of the observation it leaves.
        next_value: V of the observation it reaches: at the end of an episode that of the final
            observation, read with the ended episode's own memory, never that of the next one.
        terminated: the episode ended by itself; nothing is bootstrapped.
        truncated: it was cut by a time limit; next_value is bootstrapped, the sum still ends.
        gamma: discount.
        lam: decay of the sum over temporal differences.

    Returns:
        Advantages and value targets (advantage + value), `(T, *B)`.
    """
    delta = reward + gamma * next_value * ~terminated - value
    decay = gamma * lam * ~(terminated | truncated)
    advantage = affine_scan(decay, delta, reverse=True)
    return advantage, advantage + value


def discounted_sums(reward: TB, reset: TB, carried: B, gamma: float) -> TB:
    """Discounted sum of the rewards of the episode so far, `(T, *B)`.

    `reset[t]` marks the first step of an episode; `carried`, `(*B,)`, is the sum before t = 0.
    """
    return affine_scan(gamma * ~reset, reward, carried)
