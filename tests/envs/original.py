"""Driving the Python package's environments and ours side by side."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import popgym  # noqa: F401  (registers the environments with gymnasium)

from tests.envs.probes import run_once


def original_env(name):
    """popgym 1.0.7's environment of our name, without gymnasium's checks."""
    name = name.replace("VelocityOnlyCartPole", "VelocityOnlyCartpole")
    return gymnasium.make(f"popgym-{name}-v0").unwrapped


def names_of(environments, *games):
    """The ids, easy to hard, of some games."""
    return [n for n in environments if n.removesuffix(level(n)) in games]


def level(name):
    return next(end for end in ("Easy", "Medium", "Hard") if name.endswith(end))


def play_original(real, seed, actions, prepare=None):
    """(observations with the first, rewards, terminated, truncated) until the episode ends."""
    obs, _ = real.reset(seed=seed)
    if prepare:
        prepare(real)
    seen, steps = [np.asarray(obs)], []
    for action in actions:
        obs, *step, _ = real.step(action)
        seen.append(np.asarray(obs))
        steps.append(step)
        if step[1] or step[2]:
            break
    reward, terminated, truncated = map(np.array, zip(*steps, strict=True))
    return np.stack(seen), reward, terminated, truncated


def play_ours(env, params, states, actions):
    """(B, T, …) observations after each step, rewards, flags; no auto-reset."""

    def step(state, action):
        obs, state, reward, terminated, _ = env.step_env(jax.random.key(1), state, action, params)
        obs = jnp.stack(obs) if isinstance(obs, tuple) else obs
        return state, (obs, reward, terminated, env.is_truncated(state, params))

    rollout = jax.vmap(lambda state, actions: jax.lax.scan(step, state, actions)[1])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    actions = np.stack(actions)
    dtype = jnp.float32 if actions.dtype.kind == "f" else jnp.int32
    return list(map(np.asarray, run_once(rollout, stacked, jnp.asarray(actions, dtype))))


def assert_same_game(theirs, mine, what="", atol=0.0, steps=None):
    """Equal observations (to `atol`), rewards and flags; mine may go on after their end.

    steps: compare the first so many only.
    """
    seen, reward, terminated, truncated = theirs
    steps = min(len(reward), steps or len(reward))
    np.testing.assert_allclose(mine[0][:steps], seen[1 : steps + 1], 0, atol, err_msg=what)
    np.testing.assert_allclose(mine[1][:steps], reward[:steps], atol=max(atol, 1e-6), err_msg=what)
    np.testing.assert_array_equal(mine[2][:steps], terminated[:steps], err_msg=what)
    np.testing.assert_array_equal(mine[3][:steps], truncated[:steps], err_msg=what)
