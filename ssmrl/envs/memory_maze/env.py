"""Memory Maze (Pasukonis, Lillicrap, Hafner, ICLR 2023; memory-maze 1.0.3) in JAX."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.envs.auto_reset import renew
from ssmrl.envs.contract import Box, Dict, Discrete, Environment, EnvParams, Space
from ssmrl.envs.draw import below
from ssmrl.envs.memory_maze.body import at_rest, move
from ssmrl.envs.memory_maze.camera import look, paint
from ssmrl.envs.memory_maze.layout import SIZES, WALL, Maze, new_maze
from ssmrl.envs.memory_maze.state import (
    MazeState,
    measurement_spaces,
    measurements,
    scene,
    sight,
    sight_space,
)
from ssmrl.envs.memory_maze.textures import TARGETS, WALLS, load
from ssmrl.envs.memory_maze.top_down import top_down
from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import Array, Key, PyTree, Scalar

ACTIONS = ("noop", "forward", "left", "right", "forward_left", "forward_right")
LEVELS = {"exact": (25, "procedural"), "fast": (10, "flat")}
"""By level: physics substeps in a step of 0.25 s, and textures."""
OBSERVATIONS = ("image", "extra", "state")
PICTURE = 256


class MemoryMaze(Environment):
    """Coloured balls lie in a maze; the border of the picture tells which to drive to next.

    Touching the ball that is asked for pays 1, and another is asked for. Episodes end by time
    alone (truncated). A new maze is drawn for those environments of a batch only that begin an
    episode.

    size: "9x9", "11x11", "13x13" or "15x15".
    level: "exact" (25 physics substeps, patterned walls) or "fast" (10, plain colours).
    observation: "image", (resolution, resolution, 3) uint8; "extra", a Dict of it and of
        `measurements`; "state", the Dict `sight`, without pixels.
    resolution: pixels a side, 64 or another multiple of 8.
    textures: "flat", "procedural" or "labmaze" (the original's, from the installed package)
        instead of the level's.
    mazes: how many different places there are, None for no end. A place is numbered: its walls,
        textures and balls are the same at every visit. first_maze: number of the first one, so
        that training and evaluation can keep apart.
    pool: mazes with a leading axis (see `pool.py`) to draw from instead, everything else anew;
        they become part of the compiled program, so some thousands at most.
    cue_steps: for how many steps the border shows a new colour; None for always.
    shuffle_colors: colours from all six instead of the first K.

    Raises UsageError for any other value.
    """

    def __init__(
        self,
        size: str = "9x9",
        level: str = "exact",
        observation: str = "image",
        resolution: int = 64,
        textures: str | None = None,
        mazes: int | None = None,
        first_maze: int = 0,
        pool: Maze | None = None,
        cue_steps: int | None = None,
        shuffle_colors: bool = False,
    ) -> None:
        for name, value, known in (
            ("size", size, SIZES),
            ("level", level, LEVELS),
            ("observation", observation, OBSERVATIONS),
        ):
            if value not in known:
                raise unknown(name, value, known)
        if not isinstance(resolution, int) or resolution < 8 or resolution % 8:
            raise UsageError(f"resolution: expected a multiple of 8, got {resolution!r}")
        for name, count in (("mazes", mazes), ("cue_steps", cue_steps)):
            if count is not None and (not isinstance(count, int) or count < 1):
                raise UsageError(f"{name}: expected 1 or more, or None, got {count!r}")
        if pool is not None and mazes is not None:
            raise UsageError("give a pool or a number of mazes, not both")
        side = SIZES[size].side
        if pool is not None and pool.cells.shape[1:] != (side, side):
            raise UsageError(f"pool: expected cells (P, {side}, {side}), got {pool.cells.shape}")
        self.size, self.observation, self.resolution = SIZES[size], observation, resolution
        self.substeps = LEVELS[level][0]
        self.textures = load(textures or LEVELS[level][1])
        self.mazes, self.first_maze, self.pool = mazes, first_maze, pool
        self.cue_steps, self.shuffle_colors = cue_steps, shuffle_colors

    @property
    def default_params(self) -> EnvParams:
        """The original's time limit."""
        return EnvParams(max_steps_in_episode=self.size.steps)

    def reset_env(self, key: Key, params: EnvParams) -> tuple[PyTree, MazeState]:
        """The first observation and state of an episode."""
        return self._begin(key, None)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: MazeState, action: Scalar, params: EnvParams | None = None
    ) -> tuple[PyTree, MazeState, Scalar, Scalar, Scalar, dict[str, Any]]:
        """One step with auto-reset, as in the contract."""
        params = self.default_params if params is None else params
        key_step, key_next = jax.random.split(key)
        last, state, reward, terminated, info = self.step_env(key_step, state, action, params)
        truncated = self.is_truncated(state, params)
        obs, state = renew(self._begin, key_next, (last, state), truncated)
        info = {**info, "terminated": terminated, "truncated": truncated}
        return obs, state, reward, terminated, truncated, {**info, "final_observation": last}

    def step_env(
        self, key: Key, state: MazeState, action: Scalar, params: EnvParams
    ) -> tuple[PyTree, MazeState, Scalar, Scalar, dict[str, Any]]:
        """One step without auto-reset."""
        state, reward = self.advance(key, state, action)
        return self.observe_state(state), state, reward, jnp.array(False), {}

    def advance(self, key: Key, state: MazeState, action: Scalar) -> tuple[MazeState, Scalar]:
        """The state after one step, and the reward, () float32; no observation is made."""
        free = state.maze.cells != WALL
        body, met = move(state.body, action, free, state.targets, self.substeps)
        return self.touch(key, state.replace(body=body), met)

    def touch(self, key: Key, state: MazeState, met: Array) -> tuple[MazeState, Scalar]:
        """Let a step pass in which the targets `met: (K,)` bool were touched."""
        hit = met[state.goal]
        others = ~met
        rank = jnp.cumsum(others.astype(jnp.int32))
        pick = below(jax.random.bits(key), jnp.maximum(rank[-1], 1))
        chosen = jnp.argmax(others & (rank == pick + 1)).astype(jnp.int32)
        time = state.time + 1
        state = state.replace(
            time=time,
            goal=jnp.where(hit, chosen, state.goal),
            asked=jnp.where(hit, time, state.asked),
        )
        return state, hit.astype(jnp.float32)

    def state_from_maze(self, key: Key, maze: Maze) -> MazeState:
        """The first state of an episode in `maze`: all but its layout is drawn."""
        key_place, key_start = jax.random.split(key)
        return self._start(key_start, maze, *self._furnish(key_place, maze))

    def observe_state(self, state: MazeState) -> PyTree:
        """What the agent is told."""
        if self.observation == "state":
            return sight(state, self._is_shown(state))
        image = self.image(state, self.resolution)
        return image if self.observation == "image" else {"image": image, **measurements(state)}

    def image(self, state: MazeState, resolution: int) -> Array:
        """The agent's view with its border, (resolution, resolution, 3) uint8."""
        what = scene(state)
        view = look(what, state.body.position, state.body.heading, resolution)
        picture = jnp.round(paint(view, what, self.textures))
        prompt = jnp.floor(jnp.asarray(TARGETS)[state.colors[state.goal]] * 178.5)
        edge = np.ones((resolution, resolution, 1), bool)
        width = int(2 * np.sqrt(max(resolution // 64, 1)))
        edge[width:-width, width:-width] = False
        picture = jnp.where(edge & self._is_shown(state), prompt, picture)
        return jnp.clip(picture, 0, 255).astype(jnp.uint8)

    def render(self, state: MazeState, params: EnvParams) -> Array:
        """The agent's view and the maze from above, side by side: (256, 512, 3) uint8."""
        return _picture(self, state)

    def is_terminated(self, state: MazeState, params: EnvParams) -> Scalar:
        """Never: time runs out, nothing else happens."""
        return jnp.array(False)

    def observation_space(self, params: EnvParams) -> Space:
        """As `observation` says."""
        if self.observation == "state":
            return sight_space()
        image = Box(0, 255, (self.resolution, self.resolution, 3), jnp.uint8)
        if self.observation == "image":
            return image
        return Dict({"image": image, **measurement_spaces(self.size)})

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """ACTIONS."""
        return Discrete(len(ACTIONS))

    @property
    def num_actions(self) -> int:
        """Six."""
        return len(ACTIONS)

    def _begin(self, key: Key, before: PyTree) -> tuple[PyTree, MazeState]:
        """Observation and state of a new episode; nothing of the one `before` is kept."""
        key_place, key_start = jax.random.split(key)
        if self.mazes is not None:
            number = below(jax.random.bits(key_place), jnp.int32(self.mazes)) + self.first_maze
            key_place = jax.random.fold_in(jax.random.key(0), number)
        key_maze, key_furnish = jax.random.split(key_place)
        if self.pool is None:
            maze = new_maze(key_maze, self.size)
        else:
            size = jnp.int32(self.pool.rooms.shape[0])
            which = below(jax.random.bits(key_maze), size)
            maze = jax.tree.map(lambda x: jnp.asarray(x)[which], self.pool)
        state = self._start(key_start, maze, *self._furnish(key_furnish, maze))
        return self.observe_state(state), state

    def _furnish(self, key: Key, maze: Maze) -> tuple[Array, Array, Array]:
        """Wall textures (9,), target positions (K, 2) and colours (K,)."""
        key_blocks, key_rooms, key_colors = jax.random.split(key, 3)
        blocks = below(jax.random.bits(key_blocks, (9,)), jnp.int32(len(WALLS))).astype(jnp.int8)
        room = jnp.arange(self.size.rooms, dtype=jnp.int32)
        lot = jax.random.uniform(key_rooms, room.shape) + (room >= maze.rooms).astype(jnp.float32)
        rooms = jnp.argsort(lot)[: self.size.targets]
        colors = jnp.arange(len(TARGETS), dtype=jnp.int8)
        if self.shuffle_colors:
            colors = jax.random.permutation(key_colors, colors)
        return blocks, _centre(maze.objects[rooms]), colors[: self.size.targets]

    def _start(
        self, key: Key, maze: Maze, blocks: Array, targets: Array, colors: Array
    ) -> MazeState:
        """The agent at rest in some room, looking anywhere; any target asked for."""
        key_words, key_heading = jax.random.split(key)
        words = jax.random.bits(key_words, (2,))
        spawn = maze.spawns[below(words[0], maze.rooms)]
        heading = jax.random.uniform(key_heading, (), jnp.float32, -jnp.pi, jnp.pi)
        goal = below(words[1], jnp.int32(self.size.targets))
        zero = jnp.zeros((), jnp.int32)
        body = at_rest(_centre(spawn), heading)
        return MazeState(zero, maze, blocks, targets, colors, goal, zero, body)

    def _is_shown(self, state: MazeState) -> Scalar:
        """Whether the border is shown, () bool."""
        if self.cue_steps is None:
            return jnp.array(True)
        return state.time - state.asked < self.cue_steps


def _centre(cell: Array) -> Array:
    return cell.astype(jnp.float32) + 0.5


@partial(jax.jit, static_argnames=("env",))
def _picture(env: MemoryMaze, state: MazeState) -> Array:
    above = top_down(scene(state), state.body.position, state.body.heading, PICTURE)
    return jnp.concatenate([env.image(state, PICTURE), above], axis=1)
