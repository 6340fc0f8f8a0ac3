"""Fetch the key, open the door, reach the goal: three subtasks in a fixed order.

After the DoorKey task of MiniGrid (Chevalier-Boisvert et al., 2023), with moves instead of
turns, and without actions to pick up and to open: walking does both.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Box, EnvParams, EnvState
from ssmrl.envs.draw import below
from ssmrl.envs.game import Step, headline
from ssmrl.envs.grid.world import AGENT, WALL, GridWorld, check_size, hot, paint
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

LOCKED, CARRYING, OPEN = range(3)
PLANES = ("wall", "door", "key", "goal", "agent")
KEY, DOOR, GOAL = (255, 200, 0), (139, 69, 19), (0, 200, 0)


@struct.dataclass
class RoomsState(EnvState):
    """time, wall (its column), door (its row), phase: () int32. place, key, goal: (2,) int32,
    row and column.

    phase: LOCKED while the key lies there, CARRYING, then OPEN.
    """

    wall: Scalar
    door: Scalar
    key: Array
    goal: Array
    place: Array
    phase: Scalar


class KeyDoorGoal(GridWorld):
    """Two rooms: agent and key on the left, the goal on the right, a locked door between.

    Everything is placed anew in each episode. The goal pays 1 and ends it (terminated); after
    25 `size` steps it is truncated. Symbolic observations are planes (size, size, 5) of 0 and 1,
    float32, in the order of PLANES: the key is gone once it is carried, the door once open.

    size: cells a side, 5 or more. subtask_reward: what the key pays, and the door, once each.
    Raises UsageError for other values.
    """

    def __init__(
        self, size: int = 8, subtask_reward: float = 0.0, observation: str = "symbolic"
    ) -> None:
        super().__init__(observation)
        check_size(size, 5)
        if not isinstance(subtask_reward, int | float) or isinstance(subtask_reward, bool):
            raise UsageError(f"subtask_reward: expected a number, got {subtask_reward!r}")
        self.size, self.subtask_reward = size, float(subtask_reward)
        self.episode_steps = 25 * size

    @property
    def symbol_space(self) -> Box:
        """Planes."""
        return Box(0.0, 1.0, (self.size, self.size, len(PLANES)))

    def start(self, key: Key) -> RoomsState:
        """Rooms at least two cells wide; the agent beside the key, not on it."""
        n = jnp.int32(self.size)
        words = jax.random.bits(key, (6,))
        wall = 2 + below(words[0], n - 4)
        door = below(words[1], n)
        room = n * wall
        spot = below(words[2], room)
        start = below(words[3], room - 1)
        start = start + (start >= spot).astype(jnp.int32)
        goal = jnp.stack([below(words[4], n), wall + 1 + below(words[5], n - 1 - wall)])
        spots = (jnp.stack([cell // wall, cell % wall]) for cell in (spot, start))
        zero = jnp.zeros((), jnp.int32)
        return RoomsState(zero, wall, door, next(spots), goal, next(spots), zero + LOCKED)

    def step_env(self, key: Key, state: RoomsState, action: Scalar, params: EnvParams) -> Step:
        """Walk one cell."""
        after, won = self.walk(state, action)
        after = after.replace(time=state.time + 1)
        done = (after.phase > state.phase).astype(jnp.float32)
        reward = won.astype(jnp.float32) + self.subtask_reward * done
        return self.observe_state(after), after, reward, won, {}

    def walk(self, state: RoomsState, action: Scalar) -> tuple[RoomsState, Scalar]:
        """One cell in a direction, or none: walls and a door without its key are in the way."""
        ahead = jnp.clip(state.place + jnp.asarray(self.moves)[action], 0, self.size - 1)
        at_door = (ahead[1] == state.wall) & (ahead[0] == state.door)
        shut = (ahead[1] == state.wall) & (~at_door | (state.phase == LOCKED))
        place = jnp.where(shut, state.place, ahead)
        found = (state.phase == LOCKED) & jnp.all(place == state.key)
        phase = jnp.where(found, CARRYING, jnp.where(at_door & ~shut, OPEN, state.phase))
        return state.replace(place=place, phase=phase), jnp.all(place == state.goal)

    def is_terminated(self, state: RoomsState, params: EnvParams) -> Scalar:
        """Whether the agent is at the goal."""
        return jnp.all(state.place == state.goal)

    def planes(self, state: RoomsState) -> list[Array]:
        """PLANES, (size, size) bool each."""
        line = jnp.arange(self.size, dtype=jnp.int32)
        column = jnp.broadcast_to(line == state.wall, (self.size, self.size))
        gap = column & (line == state.door)[:, None]
        key = hot(state.key, self.size) & (state.phase == LOCKED)
        goal, agent = hot(state.goal, self.size), hot(state.place, self.size)
        return [column & ~gap, gap & (state.phase != OPEN), key, goal, agent]

    def symbols(self, state: RoomsState) -> Array:
        """PLANES, (size, size, 5) float32."""
        return jnp.stack(self.planes(state), -1).astype(jnp.float32)

    def cells(self, state: RoomsState) -> Array:
        """Colours."""
        return paint(*zip(self.planes(state), (WALL, DOOR, KEY, GOAL, AGENT), strict=True))

    def situations(self, state: RoomsState) -> RoomsState:
        """Phases by rows by columns."""
        phase, row, column = jnp.indices((3, self.size, self.size), jnp.int32).reshape(3, -1)

        def at(phase: Scalar, place: Array) -> RoomsState:
            return state.replace(phase=phase, place=place)

        return jax.vmap(at)(phase, jnp.stack([row, column], -1))

    def index(self, state: RoomsState) -> Scalar:
        """Phases by rows by columns."""
        return (state.phase * self.size + state.place[0]) * self.size + state.place[1]

    def render(self, state: RoomsState, params: EnvParams) -> str:
        """Walls #, door +, key k, goal G, the agent @."""
        board = np.full((self.size, self.size), ".")
        for plane, symbol in zip(self.planes(state), "#+kG@", strict=True):
            board[np.asarray(plane)] = symbol
        return "\n".join([headline(state, params), *map("".join, board)])
