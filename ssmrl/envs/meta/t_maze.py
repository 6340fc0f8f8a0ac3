"""The T-maze as a family of tasks (Bakker 2001; rewards as in pobax)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Discrete, Environment, EnvParams, EnvState
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

Step = tuple[Array, EnvState, Scalar, Scalar, dict[str, Any]]

FOUND, MISSED = 4.0, -0.1
NO_CUE, CORRIDOR, JUNCTION, CUE_UP, CUE_DOWN = range(5)  # what can be seen
FORWARD, BACK, UP, DOWN = range(4)


@struct.dataclass
class TMazeParams(EnvParams):
    """up: () bool, whether the goal is in the upper arm."""

    up: Any = False


@struct.dataclass
class TMazeState(EnvState):
    """time: () int32. place: () int32, 0 at the start, `length` at the junction."""

    place: Scalar


class TMaze(Environment):
    """A corridor of `length` steps, then up or down: +4 in the right arm, -0.1 in the other.

    Which arm is the task. With `cue` the start shows it, which makes a test of memory within an
    episode; without, only the reward of an earlier episode tells. Actions: forward, back, up,
    down; a move into a wall does nothing. Terminated in either arm, truncated after
    `2 * length + 10` steps. Raises UsageError unless `length` is a positive whole number.
    """

    def __init__(self, length: int = 5, cue: bool = False) -> None:
        if not isinstance(length, int) or length < 1:
            raise UsageError(f"length of a T-maze: expected 1 or more, got {length!r}")
        self.length, self.cue, self.limit = length, bool(cue), 2 * length + 10

    @property
    def default_params(self) -> TMazeParams:
        """The goal is down."""
        return TMazeParams(self.limit, False)

    def draw(self, key: Key) -> TMazeParams:
        """A task: up or down."""
        return TMazeParams(self.limit, jax.random.bernoulli(key))

    def optimal_return(self, task: TMazeParams) -> Scalar:
        """That of the right arm."""
        return jnp.float32(FOUND)

    def reset_env(self, key: Key, params: TMazeParams) -> tuple[Array, TMazeState]:
        """At the start."""
        zero = jnp.zeros((), jnp.int32)
        return self._seen(zero, params), TMazeState(zero, zero)

    def step_env(self, key: Key, state: TMazeState, action: Array, params: TMazeParams) -> Step:
        """Move, or take an arm."""
        move = (action == FORWARD).astype(jnp.int32) - (action == BACK)
        place = jnp.clip(state.place + move, 0, self.length)
        over = (state.place == self.length) & ((action == UP) | (action == DOWN))
        reward = jnp.where((action == UP) == params.up, FOUND, MISSED)
        state = TMazeState(state.time + 1, place)
        return self._seen(place, params), state, jnp.where(over, reward, 0.0), over, {}

    def observation_space(self, params: TMazeParams) -> Discrete:
        """Start, corridor, junction, start with either cue."""
        return Discrete(5)

    def action_space(self, params: TMazeParams | None = None) -> Discrete:
        """Forward, back, up, down."""
        return Discrete(4)

    @property
    def num_actions(self) -> int:
        """Four."""
        return 4

    def _seen(self, place: Scalar, params: TMazeParams) -> Scalar:
        start = jnp.where(params.up, CUE_UP, CUE_DOWN) if self.cue else NO_CUE
        inside = jnp.where(place == self.length, JUNCTION, CORRIDOR)
        return jnp.where(place == 0, start, inside).astype(jnp.int32)
