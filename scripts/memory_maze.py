"""Memory Maze against the original: results/memory_maze/{side_by_side.png, oracle.json}.

    python scripts/memory_maze.py side_by_side [TEXTURES ...]
    python scripts/memory_maze.py oracle [--episodes 64] [SIZE ...]

The picture has frames recorded from the original in its first row, and below it ours of the same
poses, a row for each texture set; `labmaze` needs the package of that name. The oracle drives
the shortest way to each target; published is what the authors' own oracle collects.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ssmrl.envs.memory_maze import MemoryMaze
from ssmrl.envs.memory_maze.camera import Scene, look, paint
from ssmrl.envs.memory_maze.driver import oracle
from ssmrl.envs.memory_maze.textures import TARGETS, load
from ssmrl.shapes import Array, Key, PyTree
from tests.envs.memory_maze_original import first_mazes, recorded

OUT = Path("results/memory_maze")
POSES, ZOOM = 12, 2
PUBLISHED = {"9x9": 34.8, "11x11": 58.0, "13x13": 74.5, "15x15": 87.7}


def side_by_side(names: list[str]) -> None:
    """Recorded frames and ours of the same poses, one row for each texture set."""
    start, frames = recorded("seeds0-63_initial_states.npz"), recorded("render_9x9_s0_mj2.3.1.npz")
    scene = Scene(
        first_mazes("9x9").cells[0],
        jnp.asarray(start["9x9/tex"][0], jnp.int8),
        jnp.asarray(start["9x9/targets"][0]),
        jnp.asarray(TARGETS[:3] * 255),
    )
    poses = jnp.asarray(frames["pose_grid_xy_theta"][:POSES])
    rows = [frames["rgb_noborder"][:POSES]]
    for name in names:
        textures = load(name)

        def see(pose: Array, textures: Any = textures) -> Array:
            return jnp.round(paint(look(scene, pose[:2], pose[2], 64), scene, textures))

        rows.append(np.asarray(jax.jit(jax.vmap(see))(poses)).clip(0, 255).astype(np.uint8))
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    large = (picture.shape[1] * ZOOM, picture.shape[0] * ZOOM)
    Image.fromarray(picture).resize(large, Image.Resampling.NEAREST).save(OUT / "side_by_side.png")


def oracle_returns(size: str, episodes: int) -> dict[str, float]:
    """Mean and standard error of the driver's return over whole episodes in fresh mazes."""
    env = MemoryMaze(size=size, observation="state")
    params = env.default_params

    def play(key: Key) -> Array:
        _, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, episodes), params)

        def step(state: PyTree, key: Key) -> tuple[PyTree, Array]:
            keys = jax.random.split(key, episodes)
            return jax.vmap(env.advance)(keys, state, jax.vmap(oracle)(state))

        return jnp.sum(jax.lax.scan(step, state, jax.random.split(key, env.size.steps))[1], 0)

    returns = np.asarray(jax.jit(play)(jax.random.key(0)))
    return {
        "mean": float(returns.mean()),
        "standard_error": float(returns.std(ddof=1) / episodes**0.5),
        "episodes": episodes,
        "published": PUBLISHED[size],
    }


def main() -> None:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("side_by_side", "oracle"))
    parser.add_argument("names", nargs="*", help="texture sets, or sizes")
    parser.add_argument("--episodes", type=int, default=64)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if options.what == "side_by_side":
        side_by_side(options.names or ["procedural", "flat"])
        return
    results = {}
    for size in options.names or PUBLISHED:
        results[size] = oracle_returns(size, options.episodes)
        print(size, results[size], flush=True)
    (OUT / "oracle.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
