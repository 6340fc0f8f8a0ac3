"""Dark rooms as a family of tasks (Laskin et al. 2023, Algorithm Distillation, section 4.1)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Discrete, Environment, EnvParams, EnvState, MultiDiscrete
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

Step = tuple[Array, EnvState, Scalar, Scalar, dict[str, Any]]

MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.int32)


@struct.dataclass
class DarkRoomParams(EnvParams):
    """goal: (2,) int32, row and column."""

    goal: Any = None


@struct.dataclass
class DarkRoomState(EnvState):
    """time: () int32. place: (2,) int32, row and column."""

    place: Array


class DarkRoom(Environment):
    """A room of `size` x `size` cells in which an invisible goal has to be found.

    An episode begins in the middle and lasts `steps` steps; each that ends on the goal pays 1.
    The goal is any other cell. Actions: stay, up, down, left, right; the own cell is observed.
    Raises UsageError unless `size` >= 2 and `steps` >= 1 are whole numbers.
    """

    def __init__(self, size: int = 9, steps: int = 20) -> None:
        if not (isinstance(size, int) and isinstance(steps, int) and size >= 2 and steps >= 1):
            raise UsageError(f"size >= 2 and steps >= 1 of a dark room, got {size!r}, {steps!r}")
        self.size, self.steps = size, steps

    @property
    def default_params(self) -> DarkRoomParams:
        """The goal is the first corner."""
        return DarkRoomParams(self.steps, jnp.zeros(2, jnp.int32))

    def draw(self, key: Key) -> DarkRoomParams:
        """A task: any goal but the middle."""
        cells, middle = self.size**2, self.size // 2 * (self.size + 1)
        cell = jax.random.randint(key, (), 0, cells - 1)
        cell = cell + (cell >= middle)
        return DarkRoomParams(self.steps, jnp.stack(jnp.divmod(cell, self.size)))

    def optimal_return(self, task: DarkRoomParams) -> Scalar:
        """1 for every step from that on which the shortest way ends; 0 where it is too long."""
        way = jnp.sum(jnp.abs(task.goal - self.size // 2))
        return jnp.maximum(self.steps + 1 - way, 0).astype(jnp.float32)

    def reset_env(self, key: Key, params: DarkRoomParams) -> tuple[Array, DarkRoomState]:
        """In the middle."""
        place = jnp.full(2, self.size // 2, jnp.int32)
        return place, DarkRoomState(jnp.zeros((), jnp.int32), place)

    def step_env(
        self, key: Key, state: DarkRoomState, action: Array, params: DarkRoomParams
    ) -> Step:
        """Move; walls stop."""
        move = jnp.sum(jnp.where(jnp.arange(5)[:, None] == action, MOVES, 0), axis=0)
        place = jnp.clip(state.place + move, 0, self.size - 1)
        reward = jnp.all(place == params.goal).astype(jnp.float32)
        return place, DarkRoomState(state.time + 1, place), reward, jnp.zeros((), bool), {}

    def observation_space(self, params: DarkRoomParams) -> MultiDiscrete:
        """Row and column."""
        return MultiDiscrete((self.size, self.size))

    def action_space(self, params: DarkRoomParams | None = None) -> Discrete:
        """Stay, up, down, left, right."""
        return Discrete(len(MOVES))

    @property
    def num_actions(self) -> int:
        """Five."""
        return len(MOVES)
