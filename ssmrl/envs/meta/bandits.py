"""Bandits as families of tasks (Duan et al. 2016, section 3.1): an episode is one pull."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Discrete, Environment, EnvParams, EnvState
from ssmrl.envs.meta.references import UCB1, BanditPolicy, BernoulliThompson, GaussianThompson
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

Step = tuple[Array, EnvState, Scalar, Scalar, dict[str, Any]]


@struct.dataclass
class BanditParams(EnvParams):
    """max_steps_in_episode: 1. means: (arms,) float32, the mean payout of each arm."""

    means: Array = struct.field(default_factory=lambda: jnp.zeros(1))


class Bandit(Environment):
    """Pull one of `arms` arms; there is nothing to see but the reward.

    A kind of bandit defines `draw_means` and `pay`. Raises UsageError unless `arms` is a whole
    number of at least 2.
    """

    def __init__(self, arms: int = 5) -> None:
        if not isinstance(arms, int) or arms < 2:
            raise UsageError(f"arms of a bandit: expected 2 or more, got {arms!r}")
        self.arms = arms

    @property
    def default_params(self) -> BanditParams:
        """No arm pays."""
        return BanditParams(1, jnp.zeros(self.arms))

    def draw(self, key: Key) -> BanditParams:
        """A task: fresh means."""
        return BanditParams(1, self.draw_means(key))

    def draw_means(self, key: Key) -> Array:
        """The mean payout of every arm, (arms,)."""
        raise NotImplementedError

    def pay(self, key: Key, mean: Scalar) -> Scalar:
        """A payout, () float32."""
        raise NotImplementedError

    def optimal_return(self, task: BanditParams) -> Scalar:
        """What the best arm pays on average."""
        return jnp.max(task.means)

    def reset_env(self, key: Key, params: BanditParams) -> tuple[Array, EnvState]:
        """Nothing to see."""
        return jnp.zeros((), jnp.int32), EnvState(jnp.zeros((), jnp.int32))

    def step_env(self, key: Key, state: EnvState, action: Array, params: BanditParams) -> Step:
        """Pull an arm."""
        mean = jnp.sum(jnp.where(jnp.arange(self.arms) == action, params.means, 0.0))
        over = jnp.ones((), bool)
        return jnp.zeros((), jnp.int32), EnvState(state.time + 1), self.pay(key, mean), over, {}

    def is_truncated(self, state: EnvState, params: BanditParams) -> Scalar:
        """Never: one pull is all."""
        return jnp.zeros((), bool)

    def observation_space(self, params: BanditParams) -> Discrete:
        """A single value."""
        return Discrete(1)

    def action_space(self, params: BanditParams | None = None) -> Discrete:
        """The arm to pull."""
        return Discrete(self.arms)

    @property
    def num_actions(self) -> int:
        """Number of arms."""
        return self.arms


class BernoulliBandit(Bandit):
    """Arms pay 1 or 0; their probabilities are uniform in 0 … 1."""

    def references(self) -> dict[str, BanditPolicy]:
        """Policies to compare with."""
        return {"Thompson sampling": BernoulliThompson(self.arms), "UCB1": UCB1(self.arms)}

    def draw_means(self, key: Key) -> Array:
        """Uniform probabilities."""
        return jax.random.uniform(key, (self.arms,))

    def pay(self, key: Key, mean: Scalar) -> Scalar:
        """1 with probability `mean`."""
        return (jax.random.uniform(key) < mean).astype(jnp.float32)


class GaussianBandit(Bandit):
    """Payouts are normal with deviation 1; their means are standard normal."""

    def references(self) -> dict[str, BanditPolicy]:
        """Policies to compare with."""
        return {"Thompson sampling": GaussianThompson(self.arms)}

    def draw_means(self, key: Key) -> Array:
        """Standard normal means."""
        return jax.random.normal(key, (self.arms,))

    def pay(self, key: Key, mean: Scalar) -> Scalar:
        """The mean, and noise of deviation 1."""
        return mean + jax.random.normal(key)
