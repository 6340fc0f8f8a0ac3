"""Speed of POPGym and Memory Maze: ours, jitted and vmapped, against the Python packages'."""

import importlib
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp

from ssmrl import envs
from ssmrl.envs import original_memory_maze, popgym
from ssmrl.envs.batch import reset_all, step_all
from ssmrl.envs.contract import Box, Discrete, Environment, EnvParams, Space
from ssmrl.envs.draw import below
from ssmrl.shapes import Array, Key, PyTree, Scalar


def run(
    batch: int = 1024,
    steps: int = 1000,
    ids: list[str] | None = None,
    original_steps: int = 20_000,
    repeats: int = 3,
    cores: int | None = None,
    level: str | None = None,
) -> list[dict[str, Any]]:
    """Environment steps per second under uniformly random actions, one row per environment.

    Ours: a jitted scan of `steps` over `batch` environments with auto-reset, `cores` of them at
    the same time in threads of their own (by default one per core on CPU, else one); drawing the
    actions counts, and a checksum of all observations and rewards keeps each step's work alive.
    The original, which uses one core: `original_steps` in a Python loop, without gymnasium's
    checks, actions drawn beforehand. Best of `repeats` each, in the same process, compilation
    (`compile_s`) apart.

    Rows: {"env", "ours_steps_per_s", "original_steps_per_s", "ratio", "compile_s"}; the
    original's two are None where `popgym` is not installed (the labyrinths need `mazelib` too), or
    `memory-maze`.
    ids: default all of popgym. level: of Memory Maze, whose pictures are best drawn with
    `batch=32 steps=100 original_steps=500`.
    """
    names = ids or [f"popgym/{name}" for name in popgym.ENVIRONMENTS]
    if cores is None:
        cores = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    settings = {} if level is None else {"level": level}
    return [_row(name, settings, batch, steps, original_steps, repeats, cores) for name in names]


def _row(
    id: str,
    settings: dict[str, str],
    batch: int,
    steps: int,
    original_steps: int,
    repeats: int,
    cores: int,
) -> dict[str, Any]:
    ours, compile_s = _ours(id, settings, batch, steps, repeats, cores)
    env = _original(id)
    original = None if env is None else _original_speed(env, original_steps, repeats)
    return {
        "env": id,
        "ours_steps_per_s": ours,
        "original_steps_per_s": original,
        "ratio": ours / original if original else None,
        "compile_s": compile_s,
    }


def _ours(
    id: str, settings: dict[str, str], batch: int, steps: int, repeats: int, cores: int
) -> tuple[float, float]:
    """Steps per second, and seconds to compile."""
    env, params = envs.make(id, **settings)
    _, state = reset_all(env, jax.random.split(jax.random.key(0), batch), params)
    key = jax.random.key(1)
    rollout = jax.jit(lambda key, state: _rollout(env, params, batch, steps, key, state))
    start = time.perf_counter()
    compiled = rollout.lower(key, state).compile()
    compile_s = time.perf_counter() - start

    def play(_: int) -> None:
        jax.block_until_ready(compiled(key, state))

    with ThreadPoolExecutor(cores) as pool:
        seconds = min(_seconds(lambda: list(pool.map(play, range(cores)))) for _ in range(repeats))
    return cores * batch * steps / seconds, compile_s


def _rollout(
    env: Environment, params: EnvParams, batch: int, steps: int, key: Key, state: PyTree
) -> Scalar:
    """A checksum of `steps` random steps of `batch` environments."""
    actions = env.action_space(params)

    def step(carry: PyTree, key: Key) -> tuple[PyTree, None]:
        state, checksum = carry
        key_act, key_step = jax.random.split(key)
        action = _random_actions(actions, key_act, batch)
        keys = jax.random.split(key_step, batch)
        obs, state, reward, *_ = step_all(env, keys, state, action, params)
        seen = sum(jnp.sum(o.astype(jnp.float32)) for o in jax.tree.leaves(obs))
        return (state, checksum + seen + jnp.sum(reward)), None

    carry = (state, jnp.zeros(()))
    (_, checksum), _ = jax.lax.scan(step, carry, jax.random.split(key, steps))
    return checksum


def _random_actions(space: Space, key: Key, batch: int) -> Array:
    """Uniform actions (batch, *action): Discrete, MultiDiscrete or Box."""
    shape = (batch, *space.shape)
    if isinstance(space, Box):
        return jax.random.uniform(key, shape, space.dtype, space.low, space.high)
    sizes = jnp.array(space.n if isinstance(space, Discrete) else space.nvec, jnp.int32)
    return below(jax.random.bits(key, shape), sizes)


def _original(id: str) -> gymnasium.Env | None:
    """The Python package's environment without gymnasium's checks; None where it is missing."""
    family, _, name = id.partition("/")
    if family == "memory_maze":
        if not find_spec("memory_maze"):
            return None
        original_memory_maze.register()
        return gymnasium.make(f"MemoryMaze-{name}-v0", disable_env_checker=True)
    if not find_spec("popgym"):
        return None
    importlib.import_module("popgym")  # registers its environments with gymnasium
    name = name.replace("VelocityOnlyCartPole", "VelocityOnlyCartpole")
    if f"popgym-{name}-v0" not in gymnasium.registry:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # popgym advises against labyrinths
        return gymnasium.make(f"popgym-{name}-v0").unwrapped


def _original_speed(env: gymnasium.Env, steps: int, repeats: int) -> float:
    """Steps per second."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]

    def play() -> None:
        env.reset(seed=0)
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return steps / min(_seconds(play) for _ in range(repeats))


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
