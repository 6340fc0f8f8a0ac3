"""Episodes as data sets (the original's keys) and as moving pictures."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ssmrl.envs.contract import EnvParams
from ssmrl.envs.memory_maze.env import ACTIONS, MemoryMaze
from ssmrl.envs.memory_maze.state import MazeState, measurements
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, PyTree, Scalar

Policy = Callable[[Key, PyTree, MazeState], tuple[PyTree, Scalar]]
"""(key, carry, state) -> (carry, action), as `driver.explore`."""


@partial(jax.jit, static_argnames=("env", "policy", "steps"))
def record(
    env: MemoryMaze,
    params: EnvParams,
    key: Key,
    policy: Policy,
    carry: PyTree = (),
    steps: int | None = None,
) -> dict[str, Array]:
    """One episode of `steps` (by default the size's) under `policy`.

    policy, steps: static. carry: what the policy begins with.

    Returns T + 1 rows each, of which the first is before the first action (its action and
    reward are zeros): image (resolution, resolution, 3) uint8, action (6,) one-hot float32,
    reward float32, and those of `measurements`.
    """
    key_reset, key_play = jax.random.split(key)
    _, state = env.reset(key_reset, params)

    def show(state: MazeState) -> dict[str, Array]:
        return {"image": env.image(state, env.resolution), **measurements(state)}

    def step(playing: tuple[PyTree, MazeState], key: Key) -> tuple:
        carry, state = playing
        key_act, key_step = jax.random.split(key)
        carry, action = policy(key_act, carry, state)
        state, reward = env.advance(key_step, state, action)
        hot = jax.nn.one_hot(action, len(ACTIONS), dtype=jnp.float32)
        return (carry, state), {**show(state), "action": hot, "reward": reward}

    keys = jax.random.split(key_play, steps or env.size.steps)
    rows: dict[str, Array] = jax.lax.scan(step, (carry, state), keys)[1]
    zeros = {"action": jnp.zeros(len(ACTIONS)), "reward": jnp.zeros(())}
    first = {**show(state), **zeros}
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rows)


def write_dataset(
    folder: str | Path,
    env: MemoryMaze,
    params: EnvParams,
    key: Key,
    policy: Policy,
    carry: PyTree = (),
    episodes: int = 1,
    steps: int | None = None,
) -> list[Path]:
    """Write `episodes` of `record` as `<number>.npz` into `folder`; their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(episodes):
        episode = record(env, params, jax.random.fold_in(key, number), policy, carry, steps)
        paths.append(folder / f"{number:06d}.npz")
        np.savez_compressed(paths[-1], **jax.tree.map(np.asarray, episode))
    return paths


def save_video(path: str | Path, frames: np.ndarray, rate: float = 4.0, scale: int = 4) -> None:
    """Write `frames: (T, h, w, 3)` uint8 as an animated GIF.

    rate: frames a second, 4 in the original. scale: how many times larger each pixel becomes.
    Raises UsageError where `path` does not end in .gif.
    """
    path = Path(path)
    if path.suffix != ".gif":
        raise UsageError(f"a video is written as .gif, got {path.name!r}")
    large = np.repeat(np.repeat(np.asarray(frames), scale, axis=1), scale, axis=2)
    first, *others = map(Image.fromarray, large)
    milliseconds = round(1000 / rate)
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0)
