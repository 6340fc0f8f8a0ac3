"""Wrappers around any environment of the contract.

They wrap `step`, which has already begun the next episode when it returns the end of the last
one, so that an environment's own auto-reset stays in use. What belongs to the first observation
of an episode is therefore decided from the flags, at every end, not from a counter or from
`reset` (which only ever sees the first episode: the mistake of several JAX wrappers).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Box, Dict, Discrete, Environment, EnvParams, MultiDiscrete, Space
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, PyTree, Scalar

StepResult = tuple[PyTree, Any, Scalar, Scalar, Scalar, dict[str, Any]]


class Wrapper(Environment):
    """An environment that behaves as `env` in all that a subclass does not change.

    A subclass changes `reset` and `step`; `reset_env` and `step_env` are never called on it.
    """

    def __init__(self, env: Environment) -> None:
        self.env = env

    @property
    def default_params(self) -> EnvParams:
        """The wrapped environment's parameters."""
        return self.env.default_params

    @property
    def name(self) -> str:
        """The wrapped environment's name."""
        return self.env.name

    @property
    def num_actions(self) -> int:
        """The wrapped environment's number of actions."""
        return self.env.num_actions

    def reset(self, key: Key, params: EnvParams | None = None) -> tuple[PyTree, Any]:
        """As the wrapped environment; without parameters, with this one's defaults."""
        return self.env.reset(key, self.default_params if params is None else params)

    def step(
        self, key: Key, state: Any, action: PyTree, params: EnvParams | None = None
    ) -> StepResult:
        """As the wrapped environment; without parameters, with this one's defaults."""
        params = self.default_params if params is None else params
        return self.env.step(key, state, action, params)

    def observation_space(self, params: EnvParams) -> Space:
        """The wrapped environment's observations."""
        return self.env.observation_space(params)

    def action_space(self, params: EnvParams | None = None) -> Space:
        """The wrapped environment's actions."""
        return self.env.action_space(self.default_params if params is None else params)


class PreviousStep(Wrapper):
    """Observations that tell what happened on the way to them.

    The observation becomes {"observation", "action", "reward", "start"}: the environment's own,
    the previous action, the previous reward (float32 (1,)) and 1.0 at the first observation of
    an episode, else 0.0 (float32 (1,)). At the first observation of every episode there is no
    previous action and the reward is 0. `info["final_observation"]` carries the action and
    reward that ended the episode, and start 0.

    "No action" is the value n of a Discrete(n), hence Discrete(n + 1) in the observation, the
    same for each entry of a MultiDiscrete, and zeros for a Box. action, reward, start: which
    parts to add. Raises UsageError where none is, or the action is of another kind.
    """

    def __init__(
        self, env: Environment, action: bool = True, reward: bool = True, start: bool = True
    ) -> None:
        super().__init__(env)
        if not (action or reward or start):
            raise UsageError("PreviousStep adds nothing: switch on action, reward or start")
        self.parts = {"action": action, "reward": reward, "start": start}
        _with_none(self.action_space(env.default_params))

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: EnvParams | None = None) -> tuple[PyTree, Any]:
        """Reset: no action, reward 0, start 1."""
        params = self.default_params if params is None else params
        obs, state = self.env.reset(key, params)
        _, none = _with_none(self.action_space(params))
        return self._observation(obs, none, jnp.zeros(()), jnp.array(True)), state

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: Any, action: PyTree, params: EnvParams | None = None
    ) -> StepResult:
        """Step; the state is the wrapped environment's."""
        params = self.default_params if params is None else params
        obs, state, reward, terminated, truncated, info = self.env.step(key, state, action, params)
        _, none = _with_none(self.action_space(params))
        taken = jnp.asarray(action, none.dtype)
        paid = jnp.asarray(reward, jnp.float32)
        done = terminated | truncated
        last = self._observation(info["final_observation"], taken, paid, jnp.array(False))
        obs = self._observation(obs, jnp.where(done, none, taken), jnp.where(done, 0.0, paid), done)
        return obs, state, reward, terminated, truncated, {**info, "final_observation": last}

    def observation_space(self, params: EnvParams) -> Dict:
        """The wrapped observation and the parts that were asked for, in a fixed order."""
        spaces = {
            "observation": self.env.observation_space(params),
            "action": _with_none(self.action_space(params))[0],
            "reward": Box(-jnp.inf, jnp.inf, (1,)),
            "start": Box(0.0, 1.0, (1,)),
        }
        return Dict(self._chosen(spaces))

    def _observation(self, obs: PyTree, action: Array, reward: Scalar, start: Scalar) -> PyTree:
        start = start.astype(jnp.float32).reshape(1)
        reward = reward.astype(jnp.float32).reshape(1)
        return self._chosen(
            {"observation": obs, "action": action, "reward": reward, "start": start}
        )

    def _chosen(self, parts: dict[str, Any]) -> dict[str, Any]:
        return {name: part for name, part in parts.items() if self.parts.get(name, True)}


@struct.dataclass
class StatisticsState:
    """env: the wrapped state. episode_return: () float32. episode_length: () int32."""

    env: Any
    episode_return: Scalar
    episode_length: Scalar


class EpisodeStatistics(Wrapper):
    """Adds episode_return (float32), episode_length (int32), episode_end (bool) to `info`.

    At the last step of an episode they are the finished episode's, before it the running ones.
    """

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: EnvParams | None = None) -> tuple[PyTree, StatisticsState]:
        """Reset; the sums start at zero."""
        params = self.default_params if params is None else params
        obs, state = self.env.reset(key, params)
        return obs, StatisticsState(state, jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self,
        key: Key,
        state: StatisticsState,
        action: PyTree,
        params: EnvParams | None = None,
    ) -> StepResult:
        """Step and count."""
        params = self.default_params if params is None else params
        obs, inner, reward, terminated, truncated, info = self.env.step(
            key, state.env, action, params
        )
        done = terminated | truncated
        total = state.episode_return + jnp.asarray(reward, jnp.float32)
        length = state.episode_length + 1
        counted = {"episode_return": total, "episode_length": length, "episode_end": done}
        state = StatisticsState(inner, jnp.where(done, 0.0, total), jnp.where(done, 0, length))
        return obs, state, reward, terminated, truncated, {**info, **counted}


def inside(env: Any, *kinds: type) -> Any:
    """The first environment of one of these kinds that `env` is or wraps; None without any."""
    while env is not None and not isinstance(env, kinds):
        env = getattr(env, "env", None)
    return env


def _with_none(space: Space) -> tuple[Space, Array]:
    """The space of previous actions of an action `space`, and its element "none yet"."""
    if isinstance(space, Discrete):
        return Discrete(space.n + 1, dtype=space.dtype), jnp.array(space.n, space.dtype)
    if isinstance(space, MultiDiscrete):
        nvec = tuple(n + 1 for n in space.nvec)
        return MultiDiscrete(nvec, dtype=space.dtype), jnp.array(space.nvec, space.dtype)
    if isinstance(space, Box):
        low, high = jnp.minimum(space.low, 0), jnp.maximum(space.high, 0)
        return Box(low, high, space.shape, space.dtype), jnp.zeros(space.shape, space.dtype)
    raise UsageError(f"PreviousStep takes Discrete, MultiDiscrete or Box actions, got {space}")
