"""Our environments, or any of gymnax, as Gymnasium's: for other people's trainers."""

from functools import partial
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ssmrl.envs import gymnasium_spaces
from ssmrl.envs.batch import reset_all, step_all
from ssmrl.envs.contract import Environment, EnvParams
from ssmrl.envs.gymnasium_spaces import inwards, outwards
from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import Key, PyTree

HIDDEN = ("final_observation", "terminated", "truncated")
"""Entries of `info` that Gymnasium tells in another place."""


def to_gymnasium(
    env: Environment, params: EnvParams | None = None, render_mode: str | None = None
) -> gymnasium.Env:
    """One environment as a `gymnasium.Env`, compiled; it passes Gymnasium's `check_env`.

    env, params: as `ssmrl.envs.make` returns them. render_mode: "ansi" or "rgb_array", where
    the environment draws itself so. Raises UsageError for another mode, and for spaces that
    Gymnasium has not.
    """
    return GymnasiumView(env, params, render_mode)


def to_gymnasium_vector(
    env: Environment, num_envs: int, params: EnvParams | None = None
) -> VectorEnv:
    """`num_envs` environments as a `gymnasium.vector.VectorEnv`: one compiled, vmapped step.

    An episode that ends is followed by the next in the same step (`AutoresetMode.SAME_STEP`);
    `infos["final_obs"]` has the last observation, for those for which `infos["_final_obs"]`.
    """
    if num_envs < 1:
        raise UsageError(f"num_envs: expected at least 1, got {num_envs}")
    return GymnasiumVectorView(env, num_envs, params)


class GymnasiumView(gymnasium.Env):
    """See `to_gymnasium`."""

    def __init__(self, env: Environment, params: EnvParams | None, render_mode: str | None) -> None:
        self.env, self.params = env, env.default_params if params is None else params
        modes = render_modes(env)
        if render_mode is not None and render_mode not in modes:
            raise unknown(f"render_mode of {env.name}", render_mode, modes)
        self.metadata = {"render_modes": modes, "render_fps": 4}
        self.render_mode = render_mode
        self.observation_space = gymnasium_spaces.to_gymnasium(env.observation_space(self.params))
        self.action_space = gymnasium_spaces.to_gymnasium(env.action_space(self.params))
        self._state: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A new episode; the same seed gives the same one."""
        super().reset(seed=seed)
        obs, self._state = self.env.reset(self._key(), self.params)
        return outwards(self.observation_space, jax.device_get(obs)), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; where the episode ends, the observation is its last."""
        taken = inwards(self.action_space, action)
        _, self._state, reward, terminated, truncated, info = jax.device_get(
            self.env.step(self._key(), self._state, taken, self.params)
        )
        obs = outwards(self.observation_space, info["final_observation"])
        return obs, float(reward), bool(terminated), bool(truncated), _shown(info)

    def render(self) -> Any:
        """Text or a picture of the present state; None without a `render_mode`."""
        if self.render_mode is None:
            return None
        drawn = self.env.render(self._state, self.params)
        return drawn if self.render_mode == "ansi" else np.asarray(drawn)

    def _key(self) -> Key:
        return jax.random.key(int(self.np_random.integers(2**31)))


class GymnasiumVectorView(VectorEnv):
    """See `to_gymnasium_vector`."""

    def __init__(self, env: Environment, num_envs: int, params: EnvParams | None) -> None:
        self.env, self.params = env, env.default_params if params is None else params
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        spaces = env.observation_space(self.params), env.action_space(self.params)
        self.single_observation_space, self.single_action_space = map(
            gymnasium_spaces.to_gymnasium, spaces
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._state: Any = None
        self._reset = jax.jit(partial(reset_all, self.env))
        self._step = jax.jit(partial(step_all, self.env))

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """New episodes in all; a list of seeds is taken as one seed for them together."""
        super().reset(seed=_one_seed(seed))
        obs, self._state = self._reset(self._keys(), self.params)
        return self._observed(obs), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of all."""
        taken = inwards(self.single_action_space, actions)
        obs, self._state, reward, terminated, truncated, info = self._step(
            self._keys(), self._state, taken, self.params
        )
        terminated, truncated = np.asarray(terminated), np.asarray(truncated)
        shown = _shown(jax.device_get(info))
        if (ended := terminated | truncated).any():
            last = self._observed(info["final_observation"])
            each = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(ended):
                each[i] = jax.tree.map(lambda x, i=i: x[i], last)
            shown |= {"final_obs": each, "_final_obs": ended}
        return self._observed(obs), np.asarray(reward, np.float64), terminated, truncated, shown

    def _observed(self, obs: PyTree) -> Any:
        return outwards(self.single_observation_space, jax.device_get(obs))

    def _keys(self) -> Key:
        return jax.random.split(jax.random.key(int(self.np_random.integers(2**31))), self.num_envs)


def render_modes(env: Environment) -> list[str]:
    """How `env` draws itself, by what its `render` says that it returns: text or an array."""
    if not hasattr(env, "render"):
        return []
    said = getattr(env.render, "__annotations__", {}).get("return")
    return ["ansi"] if said in (str, "str") else ["rgb_array"]


def _shown(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if name not in HIDDEN}


def _one_seed(seed: int | list[int] | None) -> int | None:
    if isinstance(seed, list | tuple):
        return int(np.random.SeedSequence([int(s) for s in seed]).generate_state(1)[0])
    return seed
