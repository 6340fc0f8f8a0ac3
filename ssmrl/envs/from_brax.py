"""brax's environments (Freeman et al. 2021; brax 0.14) as `brax/<name>`, under the contract.

Of brax only the bare environments are used. Its `EpisodeWrapper` counts a time limit as an end
like any other and its `AutoResetWrapper` begins every episode from one and the same state; here
`done` of the bare environment is termination, the time limit is truncation, and every episode
begins anew.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Box, Dict, Environment, EnvParams, EnvState, Space
from ssmrl.envs.packages import import_package, quiet, reported
from ssmrl.errors import unknown
from ssmrl.shapes import Array, Key, PyTree, Scalar

NAMES = (
    "ant",
    "fast",
    "halfcheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "pusher",
    "reacher",
    "walker2d",
)
"""Those of brax 0.14, written down so that listing them imports nothing.

All but swimmer, which asks jax for something that jax 0.10 no longer has (`jnp.clip(a_min=)`).
"""

BACKENDS = ("generalized", "spring", "positional", "mjx")


@struct.dataclass
class BraxState(EnvState):
    """time: () int32, steps of this episode. inner: brax's own state."""

    inner: Any


class BraxEnvironment(Environment):
    """The brax environment `name`.

    backend: the physics, one of BACKENDS; by default the environment's own choice, spring is
    the fastest. options: further keywords of its constructor. The time limit is
    `max_steps_in_episode`, 1000 unless set.

    Should the physics blow up, so that observation or reward is no number, the episode
    terminates with reward 0 and an observation of zeros, and `info["diverged"]` is True.

    Raises UsageError for an unknown backend or option, and where brax is not installed.
    """

    def __init__(
        self, name: str, backend: str | None = None, options: dict[str, Any] | None = None
    ) -> None:
        if backend is not None and backend not in BACKENDS:
            raise unknown("backend", backend, BACKENDS)
        chosen = {} if backend is None else {"backend": backend}
        self._name = name
        brax = import_package("brax.envs", self.name)
        with quiet(), reported(self.name, "could not be made"):
            self._env = brax.get_environment(name, **chosen, **(options or {}))
            self._like = jax.eval_shape(self._env.reset, jax.random.key(0))

    @property
    def name(self) -> str:
        """The id in our registry."""
        return f"brax/{self._name}"

    @property
    def default_params(self) -> EnvParams:
        """brax's usual time limit."""
        return EnvParams(max_steps_in_episode=1000)

    def reset_env(self, key: Key, params: EnvParams) -> tuple[PyTree, BraxState]:
        """The first observation and state of an episode."""
        with quiet():
            inner = self._typed(self._env.reset(key))
        return inner.obs, BraxState(jnp.zeros((), jnp.int32), inner)

    def step_env(
        self, key: Key, state: BraxState, action: Array, params: EnvParams
    ) -> tuple[PyTree, BraxState, Scalar, Scalar, dict[str, Any]]:
        """One step without auto-reset; actions beyond 1 count as 1."""
        with quiet(), reported(self.name, "could not be stepped"):
            inner = self._typed(self._env.step(state.inner, jnp.clip(action, -1, 1)))
        numbers = [jnp.isfinite(x).all() for x in (*jax.tree.leaves(inner.obs), inner.reward)]
        diverged = ~jnp.stack(numbers).all()
        obs = jax.tree.map(lambda x: jnp.where(diverged, jnp.zeros_like(x), x), inner.obs)
        reward = jnp.where(diverged, 0.0, inner.reward)
        terminated = (inner.done > 0) | diverged
        return obs, BraxState(state.time + 1, inner), reward, terminated, {"diverged": diverged}

    def observation_space(self, params: EnvParams) -> Space:
        """A Box without bounds; a Dict of them where brax observes a dictionary."""
        obs = self._like.obs
        if isinstance(obs, dict):
            return Dict({key: _unbounded(part) for key, part in obs.items()})
        return _unbounded(obs)

    def action_space(self, params: EnvParams | None = None) -> Box:
        """Every actuator's share of its range."""
        return Box(-1.0, 1.0, (self._env.action_size,))

    @property
    def num_actions(self) -> int:
        """The number of actuators."""
        return int(self._env.action_size)

    def render(self, state: BraxState, params: EnvParams) -> np.ndarray:
        """The scene, (240, 320, 3) uint8, drawn by MuJoCo (which needs EGL or OSMesa)."""
        with reported(self.name, "could not be drawn"):
            (picture,) = self._env.render([jax.device_get(state.inner.pipeline_state)])
        return np.asarray(picture)

    def _typed(self, inner: Any) -> Any:
        """The same state in the types of the first: steps return Python numbers in places."""
        return jax.tree.map(
            lambda x, like: jax.lax.convert_element_type(x, like.dtype), inner, self._like
        )


def _unbounded(leaf: Any) -> Box:
    return Box(-jnp.inf, jnp.inf, leaf.shape, leaf.dtype)
