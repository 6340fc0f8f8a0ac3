"""Bandit policies from the literature, to be played like a trained one.

Each keeps counts and sums of payouts, which it reads from what `PreviousStep` tells: the
previous action and reward. They ignore everything else, `greedy` too.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.shapes import BF, Array, B, Key, PyTree


class Counts(NamedTuple):
    """pulls, paid: (*B, arms) float32, how often each arm was pulled and what it paid in all."""

    pulls: BF
    paid: BF


class BanditPolicy:
    """Counts, and chooses the arm of the highest index (Lai and Robbins 1985)."""

    def __init__(self, arms: int) -> None:
        self.arms = arms

    @abstractmethod
    def index(self, counts: Counts, key: Key) -> BF:
        """What each arm is worth trying, (*B, arms)."""

    def init_carry(self, batch_shape: tuple[int, ...]) -> Counts:
        """Nothing pulled yet."""
        zero = jnp.zeros((*batch_shape, self.arms))
        return Counts(zero, zero)

    def act(
        self, carry: Counts, obs: PyTree, reset: B, key: Key, greedy: bool = False
    ) -> tuple[Counts, Array, dict[str, Any]]:
        """Counts the previous pull, and makes the next."""
        kept = jax.tree.map(lambda x: jnp.where(reset[..., None], 0.0, x), carry)
        pulled = jax.nn.one_hot(obs["action"], self.arms)  # zeros where there was none
        counts = Counts(kept.pulls + pulled, kept.paid + pulled * obs["reward"])
        return counts, jnp.argmax(self.index(counts, key), axis=-1).astype(jnp.int32), {}


class UCB1(BanditPolicy):
    """Mean payout + sqrt(2 ln t / pulls), every arm once at first (Auer et al. 2002)."""

    def index(self, counts: Counts, key: Key) -> BF:
        """The upper confidence bound."""
        pulls = jnp.maximum(counts.pulls, 1.0)
        time = jnp.maximum(jnp.sum(counts.pulls, axis=-1, keepdims=True), 1.0)
        bound = counts.paid / pulls + jnp.sqrt(2 * jnp.log(time) / pulls)
        return jnp.where(counts.pulls == 0, jnp.inf, bound)


class BernoulliThompson(BanditPolicy):
    """A draw from the posterior of each probability, uniform at first (Thompson 1933)."""

    def index(self, counts: Counts, key: Key) -> BF:
        """Beta(1 + successes, 1 + failures)."""
        return jax.random.beta(key, 1 + counts.paid, 1 + counts.pulls - counts.paid)


class GaussianThompson(BanditPolicy):
    """A draw from the posterior of each mean: standard normal at first, noise of deviation 1."""

    def index(self, counts: Counts, key: Key) -> BF:
        """Normal(sum / (1 + pulls), 1 / (1 + pulls))."""
        noise = jax.random.normal(key, counts.pulls.shape)
        return counts.paid / (1 + counts.pulls) + noise / jnp.sqrt(1 + counts.pulls)
