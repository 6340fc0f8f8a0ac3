"""LabyrinthEscape and LabyrinthExplore (popgym 1.0.7, core/maze.py, labyrinth_*.py)."""

from abc import abstractmethod

import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Discrete, EnvParams, EnvState, MultiDiscrete
from ssmrl.envs.game import Game, Step, headline
from ssmrl.envs.popgym.maze import GOAL, OBSTACLE, Maze, new_maze
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

KINDS = 5  # of squares in the observation space; popgym's fifth, "hidden", is never shown
NO_ACTION = 4
MOVES = np.array([[0, -1], [0, 1], [-1, 0], [1, 0]], np.int32)  # left, right, up, down


@struct.dataclass
class LabyrinthState(EnvState):
    """time: () int32. place: (2,) int32, row and column.

    explored: (2n+1, 2n+1) bool, squares visited. visited: () int32, how many those are.
    """

    maze: Maze
    place: Array
    explored: Array
    visited: Scalar


class Labyrinth(Game):
    """A maze of which the agent sees its own square, the 8 around it and its last action.

    Walking into a wall or out of the maze goes nowhere. At most `steps` - 1 steps (truncated,
    also where the game ends just then). The view keeps to the maze, as in the original: in the
    first row or column it shows the square and two after it, of which the last is walls.

    size: even, rows and columns of the maze in squares, less one. Raises UsageError unless it
    is 6 or more, and `steps` 2 or more.
    """

    goal: bool

    def __init__(self, size: int = 10, steps: int = 1024) -> None:
        if not isinstance(size, int) or size < 6 or size % 2:
            raise UsageError(f"size: expected an even number from 6 on, got {size!r}")
        if not isinstance(steps, int) or steps < 2:
            raise UsageError(f"steps: expected 2 or more, got {steps!r}")
        self.size, self.steps = size, steps
        self.episode_steps = steps - 1

    @abstractmethod
    def reward(self, state: LabyrinthState, new: Scalar, params: EnvParams) -> Scalar:
        """The reward, () float32, of a step that led to `state`, onto a `new` square or not."""

    def blank_state(self) -> LabyrinthState:
        """Nothing but walls."""
        shape = (self.size + 1, self.size + 1)
        zero = jnp.zeros((), jnp.int32)
        place = jnp.zeros(2, jnp.int32)
        maze = Maze(jnp.full(shape, OBSTACLE, jnp.int8), place, zero)
        return LabyrinthState(zero, maze, place, jnp.zeros(shape, bool), zero)

    def begin(self, key: Key, before: LabyrinthState) -> tuple[Array, LabyrinthState]:
        """Enter another maze."""
        state = self.blank_state()
        maze = new_maze(key, self.size // 2, self.goal)
        explored = state.explored.at[maze.start[0], maze.start[1]].set(True)
        one = jnp.ones((), jnp.int32)
        state = LabyrinthState(state.time, maze, maze.start, explored, one)
        return self._view(state, jnp.int32(NO_ACTION)), state

    def step_env(self, key: Key, state: LabyrinthState, action: Scalar, params: EnvParams) -> Step:
        """Walk one square."""
        squares = state.maze.squares
        ahead = jnp.clip(state.place + jnp.asarray(MOVES)[action], 0, self.size)
        place = jnp.where(squares[ahead[0], ahead[1]] == OBSTACLE, state.place, ahead)
        new = ~state.explored[place[0], place[1]]
        state = state.replace(
            time=state.time + 1,
            place=place,
            explored=state.explored.at[place[0], place[1]].set(True),
            visited=state.visited + new.astype(jnp.int32),
        )
        obs = self._view(state, jnp.asarray(action, jnp.int32))
        reward = self.reward(state, new, params)
        return obs, state, reward, self.is_terminated(state, params), {}

    def is_truncated(self, state: LabyrinthState, params: EnvParams) -> Scalar:
        """Whether time is up."""
        return state.time >= params.max_steps_in_episode

    def _view(self, state: LabyrinthState, action: Scalar) -> Array:
        """Nine squares row by row, and the action: (10,) int32."""
        lines = jnp.maximum(state.place - 1, 0)[:, None] + jnp.arange(3, dtype=jnp.int32)
        seen = (lines <= state.place[:, None] + 1) & (lines <= self.size)
        rows, columns = jnp.minimum(lines, self.size)
        squares = state.maze.squares[rows[:, None], columns]
        view = jnp.where(seen[0][:, None] & seen[1], squares, OBSTACLE).astype(jnp.int32)
        return jnp.concatenate([view.ravel(), action[None]])

    def render(self, state: LabyrinthState, params: EnvParams) -> str:
        """Walls #, squares visited +, start S, goal G, the agent @."""
        symbols = np.array(list(" #SG"))[np.asarray(state.maze.squares)]
        symbols[(symbols == " ") & np.asarray(state.explored)] = "+"
        symbols[tuple(state.place.tolist())] = "@"
        return "\n".join([headline(state, params), *map("".join, symbols)])

    def observation_space(self, params: EnvParams) -> MultiDiscrete:
        """Nine squares (free, wall, start, goal) and the last action, 4 being none."""
        return MultiDiscrete((KINDS,) * 10)

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """Left, right, up, down."""
        return Discrete(len(MOVES))


class LabyrinthEscape(Labyrinth):
    """Find the way out: each step costs 1/steps, the goal pays 1 and ends the game."""

    goal = True

    def reward(self, state: LabyrinthState, new: Scalar, params: EnvParams) -> Scalar:
        """-1/steps, and 1 at the goal."""
        cost = jnp.float32(-1 / self.steps)
        return cost + self.is_terminated(state, params).astype(jnp.float32)

    def is_terminated(self, state: LabyrinthState, params: EnvParams) -> Scalar:
        """Whether the agent is at the goal."""
        return state.maze.squares[state.place[0], state.place[1]] == GOAL


class LabyrinthExplore(Labyrinth):
    """Visit every square: a new one pays 1/f, f = free squares but the start, others -1/steps.

    All visited: terminated.
    """

    goal = False

    def reward(self, state: LabyrinthState, new: Scalar, params: EnvParams) -> Scalar:
        """1/f on a new square, else -1/steps."""
        free = state.maze.open - 1
        return jnp.where(new, 1 / free.astype(jnp.float32), jnp.float32(-1 / self.steps))

    def is_terminated(self, state: LabyrinthState, params: EnvParams) -> Scalar:
        """Whether every square is visited."""
        return state.visited == state.maze.open
