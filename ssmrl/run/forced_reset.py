"""How much memory a trained policy uses: its return when the memory is wiped every k steps.

Needs no training. k = 1 is the policy without memory; the return rises with k until memory of
the past k steps is all that the policy makes use of.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.run.evaluate import NO_LIMIT, first_episodes
from ssmrl.shapes import Array, B, Key, PyTree, Scalar


class Forgetful:
    """A policy that is told of a reset in every k-th step of an episode, from its first on.

    policy: anything with `init_carry` and `act`, e.g. `agent.policy(state)`.
    k: int, or () int32, at least 1.
    """

    def __init__(self, policy: Any, k: int | Scalar) -> None:
        self.policy, self.k = policy, k

    def init_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """The policy's carry, and the number of steps since the last reset, (*B,) int32."""
        return self.policy.init_carry(batch_shape), jnp.zeros(batch_shape, jnp.int32)

    def act(
        self, carry: PyTree, obs: PyTree, reset: B, key: Key, greedy: bool = False
    ) -> tuple[PyTree, Array, dict[str, Any]]:
        """Acts as the policy does, but for the resets."""
        carry, since = carry
        forget = reset | (since >= self.k)
        carry, action, info = self.policy.act(carry, obs, forget, key, greedy)
        return (carry, jnp.where(forget, 1, since + 1)), action, info


class ForcedReset(NamedTuple):
    """Attributes:
    every: the steps between resets; None is never.
    returns: `(len(every), episodes)` float32; column i is the same episode in every row.
    """

    every: tuple[int | None, ...]
    returns: np.ndarray


def forced_reset(
    policy: Any,
    env: Any,
    env_params: Any,
    key: Key,
    every: Sequence[int | None] = (1, 2, 4, 8, 16, 32, 64, None),
    *,
    episodes: int = 256,
    greedy: bool = True,
) -> ForcedReset:
    """Plays the same episodes with the memory wiped every k steps, for every k; compiled once.

    Only the memory forgets: observations still show the previous action, reward and start.

    Args:
        policy: `agent.policy(state)` of one seed.
        env: where to play, as the policy expects it (`agent.env`).
        env_params: its parameters.
        key: fixes the episodes.
        every: values of k; None stands for never.
        episodes: how many.
        greedy: take the most likely action instead of a sample.

    Raises:
        UsageError: a k below 1, or an episode that does not end.
    """
    if not every or any(k is not None and k < 1 for k in every):
        raise UsageError(f"forced_reset needs at least one k, all >= 1 or None; got {every}")
    horizon = int(getattr(env_params, "max_steps_in_episode", NO_LIMIT)) + 1

    @jax.jit
    def play(ks: Array, key: Key) -> tuple[Array, Array]:
        def one(k: Scalar) -> tuple[Array, Array]:
            final = first_episodes(
                Forgetful(policy, k), env, env_params, key, episodes, horizon, greedy
            )
            return final.returns, final.alive

        return jax.lax.map(one, ks)

    never = np.iinfo(np.int32).max
    ks = jnp.array([never if k is None else k for k in every], jnp.int32)
    returns, alive = jax.device_get(play(ks, key))
    if alive.any():
        raise UsageError(f"{alive.sum()} episodes did not end within {horizon} steps")
    return ForcedReset(tuple(every), returns)
