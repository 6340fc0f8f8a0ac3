"""The state of an episode, and its numbers as the original reports them (all but the picture)."""

import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Box, Dict, EnvState
from ssmrl.envs.memory_maze.body import Body
from ssmrl.envs.memory_maze.camera import EYE_AHEAD, Scene, cast
from ssmrl.envs.memory_maze.layout import WALL, Maze, Size
from ssmrl.envs.memory_maze.textures import TARGETS
from ssmrl.shapes import Array, Scalar


@struct.dataclass
class MazeState(EnvState):
    """One episode; K targets.

    time: () int32. blocks: (9,) int8, wall texture of each ninth of the maze. targets: (K, 2)
    float32, cells. colors: (K,) int8, indices into TARGETS. goal: () int32, the target that is
    asked for. asked: () int32, the time since when it is.
    """

    maze: Maze
    blocks: Array
    targets: Array
    colors: Array
    goal: Scalar
    asked: Scalar
    body: Body


_RAYS = np.linspace(-0.9, 0.9, 16, dtype=np.float32)


def scene(state: MazeState) -> Scene:
    """What there is to see."""
    colors = jnp.asarray(TARGETS * 255)[state.colors]
    return Scene(state.maze.cells, state.blocks, state.targets, colors)


def measurements(state: MazeState) -> dict[str, Array]:
    """The original's extra observations: cells, y upwards, float32; the maze uint8, 1 = free.

    Keys: agent_pos, agent_dir (2,), maze_layout (N, N), target_color (3,) in [0, 1],
    target_pos, target_vec (2,), targets_pos, targets_vec (K, 2). A vec is (rightwards, ahead)
    from the agent.
    """
    ahead, right = axes(state)
    away = state.targets - state.body.position
    vectors = jnp.stack([jnp.sum(away * right, -1), jnp.sum(away * ahead, -1)], axis=-1)
    return {
        "agent_pos": state.body.position,
        "agent_dir": ahead,
        "maze_layout": (state.maze.cells[1:-1, 1:-1] != WALL).astype(jnp.uint8),
        "target_color": jnp.asarray(TARGETS)[state.colors[state.goal]],
        "target_pos": state.targets[state.goal],
        "target_vec": vectors[state.goal],
        "targets_pos": state.targets,
        "targets_vec": vectors,
    }


def measurement_spaces(size: Size) -> dict[str, Box]:
    """The spaces of `measurements`."""
    far, k = float(size.inner), size.targets
    return {
        "agent_pos": Box(0.0, far, (2,)),
        "agent_dir": Box(-1.0, 1.0, (2,)),
        "maze_layout": Box(0, 1, (size.inner, size.inner), jnp.uint8),
        "target_color": Box(0.0, 1.0, (3,)),
        "target_pos": Box(0.0, far, (2,)),
        "target_vec": Box(-2 * far, 2 * far, (2,)),
        "targets_pos": Box(0.0, far, (k, 2)),
        "targets_vec": Box(-2 * far, 2 * far, (k, 2)),
    }


def sight(state: MazeState, asked: Scalar) -> dict[str, Array]:
    """What the picture tells, in numbers, and where the agent is: for memories without pixels.

    asked: () bool, whether the colour that is asked for is shown. Keys, float32, lengths as
    shares of the maze's side: prompt (6,) one-hot of the colour or zeros; place (4,) position
    and heading's cosine and sine; walls (16,) how far ahead the wall is in 16 directions from
    left to right; balls (6, 3), by colour: 1 and (rightwards, ahead) of a target in sight, or
    zeros. A target behind a wall or outside the 80 degrees of the picture has to be remembered.
    """
    side = state.maze.cells.shape[0] - 2.0
    ahead, right = axes(state)
    eye = state.body.position + EYE_AHEAD * ahead
    away = state.targets - eye
    aside, before = jnp.sum(away * right, -1), jnp.sum(away * ahead, -1)
    slope = aside / jnp.maximum(before, 1e-3)
    rays = jnp.concatenate([jnp.asarray(_RAYS), slope])
    far = cast(state.maze.cells, eye, ahead, right, rays)[1]
    seen = (before > 0) & (jnp.abs(slope) < _RAYS[-1]) & (before < far[len(_RAYS) :])
    color = jnp.arange(len(TARGETS), dtype=jnp.int8)
    mine = (color[:, None] == state.colors) & seen
    told = jnp.stack([jnp.full_like(aside, side), aside, before], axis=-1) / side
    return {
        "prompt": ((color == state.colors[state.goal]) & asked).astype(jnp.float32),
        "place": jnp.concatenate([state.body.position / side, ahead]),
        "walls": jnp.minimum(far[: len(_RAYS)] / side, 2.0),
        "balls": jnp.sum(jnp.where(mine[..., None], told, 0.0), axis=1),
    }


def sight_space() -> Dict:
    """The space of `sight`."""
    n = len(TARGETS)
    return Dict(
        {
            "prompt": Box(0.0, 1.0, (n,)),
            "place": Box(-1.0, 1.0, (4,)),
            "walls": Box(0.0, 2.0, (len(_RAYS),)),
            "balls": Box(-2.0, 2.0, (n, 3)),
        }
    )


def axes(state: MazeState) -> tuple[Array, Array]:
    """Unit vectors ahead of the agent and to its right, (2,) each."""
    heading = state.body.heading
    ahead = jnp.stack([jnp.cos(heading), jnp.sin(heading)])
    return ahead, jnp.stack([ahead[1], -ahead[0]])
