"""Observations and actions sent through random matrices (Lu et al. 2023, sections 5.2 and 5.3).

Every task has matrices of its own, so no policy can know beforehand what an observation means
or what an action does; and environments of different sizes look alike from outside.
"""

from functools import partial
from math import inf, prod
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Box, Discrete, EnvParams, Space, feature_size, flatten
from ssmrl.envs.meta.trial import Family
from ssmrl.envs.wrappers import StepResult, Wrapper
from ssmrl.errors import UsageError
from ssmrl.shapes import BF, Array, Key, PyTree

LANES = 8
"""Matrices are filled with zeros to a multiple of so many columns: on CPU a product with 12 takes
longer than one with 16."""


@struct.dataclass
class ProjectedParams(EnvParams):
    """env: parameters of the projected family, whose `max_steps_in_episode` is repeated here, but
    in a task that is drawn, where None stands for it.

    observation: (F, columns) float32, rows for what is observed; columns beyond `features` are 0.
    action: (n, A) float32, from the agent's A numbers to the n of the environment; None where
    actions are left alone.
    """

    env: Any = None
    observation: Any = None
    action: Any = None


class Projected(Wrapper):
    """A family whose observations, and actions if wanted, go through matrices of the task.

    The observation becomes `gain * x M`, (features,) float32, with x what `flatten` makes of the
    environment's own. M has orthonormal rows, so that nothing is lost and lengths stay, or
    orthonormal columns where x is longer than `features`.

    With `actions` = A the agent's action is a vector in [-1, 1]^A. A matrix with rows of length 1
    makes one number per entry of a Box, clipped to [-1, 1] and stretched to its bounds, or one
    per choice of a Discrete, of which the largest is taken.

    env: a `Family`. Raises UsageError for sizes below 1, a gain that is not positive, and for
    actions in other spaces.
    """

    env: Any

    def __init__(
        self,
        env: Family,
        features: int,
        actions: int | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__(env)
        self.features, self.actions, self.gain = features, actions, gain
        space = self.env.action_space(self.env.default_params)
        if features < 1 or (actions is not None and actions < 1):
            raise UsageError(f"projection to {features} features, {actions} actions: needs >= 1")
        if not 0 < gain < inf:
            raise UsageError(f"gain of a projection: expected a positive number, got {gain}")
        if actions is not None and not isinstance(space, Box | Discrete):
            raise UsageError(f"only Box and Discrete actions can be projected, not {space}")
        self.size = feature_size(self.env.observation_space(self.env.default_params))

    @property
    def default_params(self) -> ProjectedParams:
        """The family's defaults behind projections of a fixed draw."""
        params = self.env.default_params
        return self._around(params, jax.random.key(0)).replace(
            max_steps_in_episode=params.max_steps_in_episode
        )

    def draw(self, key: Key) -> ProjectedParams:
        """A task of the family, and matrices."""
        key_env, key = jax.random.split(key)
        return self._around(self.env.draw(key_env), key)

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: ProjectedParams | None = None) -> tuple[Array, Any]:
        """The environment's, projected."""
        params = self.default_params if params is None else params
        obs, state = self.env.reset(key, params.env)
        return self._seen(obs, params), state

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: Any, action: Array, params: ProjectedParams | None = None
    ) -> StepResult:
        """The environment's, projected; the state is the environment's."""
        params = self.default_params if params is None else params
        if self.actions is not None:
            action = self._acted(action, params)
        obs, state, reward, terminated, truncated, info = self.env.step(
            key, state, action, params.env
        )
        last = self._seen(info["final_observation"], params)
        info = {**info, "final_observation": last}
        return self._seen(obs, params), state, reward, terminated, truncated, info

    def observation_space(self, params: EnvParams) -> Box:
        """`features` numbers."""
        return Box(-jnp.inf, jnp.inf, (self.features,))

    def action_space(self, params: EnvParams | None = None) -> Space:
        """Numbers in -1 … 1, or the environment's own."""
        if self.actions is None:
            return self.env.action_space(self.env.default_params)
        return Box(-1.0, 1.0, (self.actions,))

    @property
    def num_actions(self) -> int:
        """Width of the action, or the environment's own."""
        return self.actions or int(self.env.num_actions)

    def _around(self, env: PyTree, key: Key) -> ProjectedParams:
        """A task of the family with fresh matrices."""
        key_observation, key_action = jax.random.split(key)
        matrix = orthonormal(key_observation, self.size, self.features) * self.gain
        matrix = jnp.pad(matrix, ((0, 0), (0, -self.features % LANES)))
        action = None
        if self.actions is not None:
            space = self.env.action_space(self.env.default_params)
            rows = space.n if isinstance(space, Discrete) else prod(space.shape)
            action = jax.random.normal(key_action, (rows, self.actions))
            action = action / jnp.linalg.norm(action, axis=1, keepdims=True)
        return ProjectedParams(None, env, matrix, action)

    def _seen(self, obs: PyTree, params: ProjectedParams) -> BF:
        x = flatten(self.env.observation_space(self.env.default_params), obs)
        product = jnp.matmul(x, params.observation, precision="highest")
        return product[: self.features]

    def _acted(self, action: Array, params: ProjectedParams) -> Array:
        space = self.env.action_space(self.env.default_params)
        out = jnp.matmul(params.action, action, precision="highest")
        if isinstance(space, Discrete):
            return jnp.argmax(out).astype(space.dtype)
        unit = (jnp.clip(out, -1.0, 1.0).reshape(space.shape) + 1) / 2
        return (space.low + unit * (space.high - space.low)).astype(space.dtype)


def orthonormal(key: Key, rows: int, columns: int) -> Array:
    """A random (rows, columns) matrix of which the shorter side's vectors are orthonormal."""
    tall = jax.random.normal(key, (max(rows, columns), min(rows, columns)))
    q, r = jnp.linalg.qr(tall)
    q = q * jnp.sign(jnp.diagonal(r))  # else the draw would depend on the algorithm's signs
    return q if rows >= columns else q.T
