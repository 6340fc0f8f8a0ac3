"""Speed of the POPGym games: ours, jitted and vmapped, against the Python package's."""

import importlib
import time
from importlib.util import find_spec
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from ssmrl import envs
from ssmrl.envs import popgym
from ssmrl.envs.contract import Environment, EnvParams
from ssmrl.shapes import Key, PyTree, Scalar


def run(
    batch: int = 1024,
    steps: int = 1000,
    ids: list[str] | None = None,
    original_steps: int = 20_000,
    repeats: int = 3,
) -> list[dict[str, Any]]:
    """Environment steps per second under uniformly random actions, one row per game.

    Ours: one jitted scan of `steps` over `batch` environments with auto-reset; drawing the
    actions counts, and a checksum of all observations and rewards keeps each step's work alive.
    The original: `original_steps` in a Python loop, with actions drawn beforehand. Best of
    `repeats` each, in the same process, compilation (`compile_s`) apart.

    Rows: {"env", "ours_steps_per_s", "original_steps_per_s", "ratio", "compile_s"}; the
    original's two are None where `popgym` is not installed. ids: default all of popgym.
    """
    names = ids or [f"popgym/{name}" for name in popgym.ENVIRONMENTS]
    return [_row(name, batch, steps, original_steps, repeats) for name in names]


def _row(id: str, batch: int, steps: int, original_steps: int, repeats: int) -> dict[str, Any]:
    ours, compile_s = _ours(id, batch, steps, repeats)
    original = _original(id, original_steps, repeats) if find_spec("popgym") else None
    return {
        "env": id,
        "ours_steps_per_s": ours,
        "original_steps_per_s": original,
        "ratio": ours / original if original else None,
        "compile_s": compile_s,
    }


def _ours(id: str, batch: int, steps: int, repeats: int) -> tuple[float, float]:
    """Steps per second, and seconds to compile."""
    env, params = envs.make(id)
    _, state = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), batch), params)
    key = jax.random.key(1)
    rollout = jax.jit(lambda key, state: _rollout(env, params, batch, steps, key, state))
    start = time.perf_counter()
    compiled = rollout.lower(key, state).compile()
    compile_s = time.perf_counter() - start
    seconds = min(
        _seconds(lambda: jax.block_until_ready(compiled(key, state))) for _ in range(repeats)
    )
    return batch * steps / seconds, compile_s


def _rollout(
    env: Environment, params: EnvParams, batch: int, steps: int, key: Key, state: PyTree
) -> Scalar:
    """A checksum of `steps` random steps of `batch` environments."""
    actions = env.action_space(params)

    def step(carry: PyTree, key: Key) -> tuple[PyTree, None]:
        state, checksum = carry
        key_act, key_step = jax.random.split(key)
        action = jax.random.randint(key_act, (batch,), 0, actions.n)
        keys = jax.random.split(key_step, batch)
        obs, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        seen = sum(jnp.sum(o.astype(jnp.float32)) for o in jax.tree.leaves(obs))
        return (state, checksum + seen + jnp.sum(reward)), None

    carry = (state, jnp.zeros(()))
    (_, checksum), _ = jax.lax.scan(step, carry, jax.random.split(key, steps))
    return checksum


def _original(id: str, steps: int, repeats: int) -> float:
    """Steps per second of the Python package's environment, without gymnasium's checks."""
    importlib.import_module("popgym")  # registers its environments with gymnasium

    env = gymnasium.make(f"popgym-{id.removeprefix('popgym/')}-v0").unwrapped
    actions = np.random.default_rng(0).integers(env.action_space.n, size=steps)  # type: ignore[attr-defined]

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
