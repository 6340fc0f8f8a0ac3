"""What the control tasks share: two observed numbers, noise, a time limit."""

from abc import abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.envs.contract import Box, EnvParams
from ssmrl.envs.game import Game
from ssmrl.envs.popgym.base import is_popjaxrl
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

Pair = tuple[Scalar, Scalar]


class ControlTask(Game):
    """A physical task of T steps of which the agent sees two numbers.

    noise: standard deviation of Gaussian noise on both, at every step and at reset; what is
    seen is clipped to the `bounds` afterwards. The time limit truncates (where the task ends at
    that very step too, both flags are set, as in the original).

    compat="popjaxrl": the time limit is reported as `terminated`, so that agents do not
    bootstrap from it. Raises UsageError for other values, steps < 1 and noise < 0.

    A task defines `start`, `visible`, `step_env` and its `bounds`.
    """

    bounds: tuple[float, float]  # the largest absolute value of each number observed

    def __init__(self, steps: int, noise: float = 0.0, compat: str | None = None) -> None:
        if not isinstance(steps, int) or steps < 1 or noise < 0:
            raise UsageError(
                f"expected 1 or more steps and a noise >= 0, got {steps!r} and {noise!r}"
            )
        self.episode_steps, self.noise = steps, float(noise)
        self.popjaxrl = is_popjaxrl(compat)

    @abstractmethod
    def start(self, key: Key) -> Any:
        """The state that an episode begins in."""

    @abstractmethod
    def visible(self, state: Any) -> Pair:
        """The two numbers that a step shows, without noise."""

    def visible_first(self, state: Any) -> Pair:
        """The two numbers that the first observation shows: the same, unless a task says so."""
        return self.visible(state)

    def begin(self, key: Key, before: Any) -> tuple[Array, Any]:
        """Start anew."""
        key_state, key_noise = jax.random.split(key)
        state = self.start(key_state)
        return self.observe(key_noise, self.visible_first(state)), state

    def observe(self, key: Key, numbers: Pair) -> Array:
        """The observation, (2,) float32, of two numbers."""
        seen = jnp.stack(numbers)
        if self.noise:
            seen = seen + self.noise * jax.random.normal(key, (2,))
        bounds = np.array(self.bounds, np.float32)
        return jnp.clip(seen, -bounds, bounds)

    def failed(self, state: Any) -> Scalar:
        """Whether the task is over before its time; never, unless a task says otherwise."""
        return jnp.zeros((), bool)

    def is_terminated(self, state: Any, params: EnvParams) -> Scalar:
        """Whether the task failed (popjaxrl: or time is up)."""
        late = (state.time >= params.max_steps_in_episode) & self.popjaxrl
        return self.failed(state) | late

    def is_truncated(self, state: Any, params: EnvParams) -> Scalar:
        """Whether time is up (popjaxrl: never)."""
        return (state.time >= params.max_steps_in_episode) & (not self.popjaxrl)

    def observation_space(self, params: EnvParams) -> Box:
        """Two numbers."""
        bounds = jnp.array(self.bounds, jnp.float32)
        return Box(-bounds, bounds, (2,), jnp.float32)
