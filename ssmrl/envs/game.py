"""What games written for this project share: auto-reset that costs nothing, ends, a headline."""

from abc import abstractmethod
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ssmrl.envs.auto_reset import renew
from ssmrl.envs.contract import Discrete, Environment, EnvParams
from ssmrl.shapes import Array, Key, PyTree, Scalar

Step = tuple[PyTree, Any, Scalar, Scalar, dict[str, Any]]
"""What `step_env` returns: observation, state, reward (float32), terminated, info."""

BEGIN = 2**31 - 1
"""What the key of the episode that begins differs by from that of the step before: an unrelated
stream of random bits, as that of `fold_in`, for less work."""


class Game(Environment):
    """An environment whose next episode begins from the state that the last one left.

    A game defines `episode_steps`, `blank_state`, `begin`, `step_env` and `render`; the end by
    its rules is `is_terminated`.
    """

    episode_steps: int  # the longest episode, in steps

    @property
    def default_params(self) -> EnvParams:
        """`max_steps_in_episode` truncates earlier where it is lowered."""
        return EnvParams(max_steps_in_episode=self.episode_steps)

    @abstractmethod
    def blank_state(self) -> Any:
        """The state before the very first episode: sorted decks, everything else zero."""

    @abstractmethod
    def begin(self, key: Key, before: Any) -> tuple[PyTree, Any]:
        """The first observation and the state of an episode that follows the state `before`.

        Decks are collected, not sorted: any order is as good to deal from.
        """

    @abstractmethod
    def render(self, state: Any, params: EnvParams) -> str:
        """A text picture of one `state` (no batch axes) for people; the same for equal states."""

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: Any, action: Array, params: EnvParams | None = None
    ) -> tuple[PyTree, Any, Scalar, Scalar, Scalar, dict[str, Any]]:
        """One step with auto-reset, as in the contract.

        The next episode is begun for those environments of a batch alone whose last one ended.
        """
        params = self.default_params if params is None else params
        last, state, reward, terminated, info = self.step_env(key, state, action, params)
        truncated = self.is_truncated(state, params)
        obs, state = renew(self._next, key, (last, state), terminated | truncated)
        flags = {"terminated": terminated, "truncated": truncated}
        return (
            obs,
            state,
            reward,
            terminated,
            truncated,
            {**info, **flags, "final_observation": last},
        )

    def reset_env(self, key: Key, params: EnvParams) -> tuple[PyTree, Any]:
        """The first observation and state of an episode that nothing preceded."""
        return self.begin(key, self.blank_state())

    def _next(self, key: Key, ended: tuple[PyTree, Any]) -> tuple[PyTree, Any]:
        words = jax.random.key_data(key) ^ jnp.uint32(BEGIN)
        return self.begin(jax.random.wrap_key_data(words, impl=jax.random.key_impl(key)), ended[1])

    def is_truncated(self, state: Any, params: EnvParams) -> Scalar:
        """Whether a lowered time limit, not the game's rules, ended the episode."""
        return (state.time >= params.max_steps_in_episode) & ~self.is_terminated(state, params)

    def is_terminated(self, state: Any, params: EnvParams) -> Scalar:
        """Whether the game is over; unless a game says otherwise, after `episode_steps`."""
        return state.time >= self.episode_steps

    @property
    def num_actions(self) -> int:
        """Number of actions; of an action's entries where it is a vector."""
        space = self.action_space(self.default_params)
        return space.n if isinstance(space, Discrete) else space.shape[0]


def headline(state: Any, params: EnvParams) -> str:
    """The first line of a picture: how many steps are behind, how many there can be."""
    return f"step {int(state.time)} of at most {int(params.max_steps_in_episode)}"
