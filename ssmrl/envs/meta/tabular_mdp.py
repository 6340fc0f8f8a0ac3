"""Random tabular MDPs as a family of tasks (Duan et al. 2016, section 3.2)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Discrete, Environment, EnvParams, EnvState
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

Step = tuple[Array, EnvState, Scalar, Scalar, dict[str, Any]]


@struct.dataclass
class TabularParams(EnvParams):
    """cumulative: (S, A, S) float32, odds of the next state summed up along the last axis.

    reward: (S, A) float32, its mean.
    """

    cumulative: Any = None
    reward: Any = None


@struct.dataclass
class TabularState(EnvState):
    """time: () int32. place: () int32, which of the S states."""

    place: Scalar


class TabularMDP(Environment):
    """S states, A actions, `steps` steps from state 0; transitions and rewards are the task.

    The odds of the next state are uniform over all distributions (Dirichlet of ones), the mean
    rewards normal with mean 1 and deviation 1, and so is the noise of a reward. The state is
    observed. Raises UsageError unless all three are positive whole numbers.
    """

    def __init__(self, states: int = 10, actions: int = 5, steps: int = 10) -> None:
        if not all(isinstance(n, int) and n > 0 for n in (states, actions, steps)):
            raise UsageError(f"states, actions, steps: expected 1+, got {states, actions, steps}")
        self.states, self.actions, self.steps = states, actions, steps

    @property
    def default_params(self) -> TabularParams:
        """An arbitrary task."""
        return self.draw(jax.random.key(0))

    def draw(self, key: Key) -> TabularParams:
        """A task."""
        key_odds, key_reward = jax.random.split(key)
        shape = (self.states, self.actions)
        odds = jax.random.exponential(key_odds, (*shape, self.states))
        cumulative = jnp.cumsum(odds / jnp.sum(odds, axis=-1, keepdims=True), axis=-1)
        return TabularParams(self.steps, cumulative, 1 + jax.random.normal(key_reward, shape))

    def optimal_return(self, task: TabularParams) -> Scalar:
        """The value of state 0 with `steps` steps to go, by dynamic programming."""
        odds = jnp.diff(task.cumulative, axis=-1, prepend=0.0)

        def backwards(value: Array, _: None) -> tuple[Array, None]:
            return jnp.max(task.reward + jnp.sum(odds * value, axis=-1), axis=-1), None

        return jax.lax.scan(backwards, jnp.zeros(self.states), length=self.steps)[0][0]

    def reset_env(self, key: Key, params: TabularParams) -> tuple[Array, TabularState]:
        """State 0."""
        zero = jnp.zeros((), jnp.int32)
        return zero, TabularState(zero, zero)

    def step_env(self, key: Key, state: TabularState, action: Array, params: TabularParams) -> Step:
        """Draw the next state and the reward."""
        key_place, key_reward = jax.random.split(key)
        below = params.cumulative[state.place, action] <= jax.random.uniform(key_place)
        place = jnp.minimum(jnp.sum(below, dtype=jnp.int32), self.states - 1)
        reward = params.reward[state.place, action] + jax.random.normal(key_reward)
        return place, TabularState(state.time + 1, place), reward, jnp.zeros((), bool), {}

    def observation_space(self, params: TabularParams) -> Discrete:
        """The state."""
        return Discrete(self.states)

    def action_space(self, params: TabularParams | None = None) -> Discrete:
        """The actions."""
        return Discrete(self.actions)

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self.actions
