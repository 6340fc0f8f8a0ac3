"""Mean return of a trained policy on fresh episodes.

Every one of the parallel environments plays exactly one episode from its beginning to its
end. Counting whatever episodes end within a number of steps instead would favour short ones.
"""

from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from ssmrl.envs.batch import reset_all, step_all
from ssmrl.errors import UsageError
from ssmrl.run.collect import host_environment, rounds_on_host
from ssmrl.shapes import Array, Key, PyTree

PARALLEL = 256  # environments of each seed
HOST_PARALLEL = 8  # where they run in Python
NO_LIMIT = 100_000  # steps allowed where the environment names no maximum


class Episodes(NamedTuple):
    """Returns and lengths of complete episodes, `(S, episodes)` each."""

    returns: np.ndarray
    lengths: np.ndarray


class _Rollout(NamedTuple):
    key: Key
    env_state: PyTree
    obs: PyTree
    reset: Array  # (B,) bool
    carry: PyTree
    alive: Array  # (B,) bool: its first episode is still running
    returns: Array  # (B,) float32
    lengths: Array  # (B,) int32
    time: Array  # () int32


def evaluate(
    agent: Any,
    state: PyTree,
    key: Key,
    episodes: int,
    greedy: bool = True,
    env: Any = None,
    env_params: Any = None,
    parallel: int | None = None,
) -> Episodes:
    """Play `episodes` fresh episodes with the policy of every seed.

    Args:
        agent: made by `ssmrl.make_agent`.
        state: its training state with a leading axis of seeds, (S, ...).
        key: fixes the episodes.
        episodes: at least 1.
        greedy: take the most likely action instead of a sample.
        env: where to play, made by `agent.evaluation_env`; by default that of the training.
        env_params: its parameters.
        parallel: most environments of each seed at the same time; by default 256, and 8 of those
            that run in Python.

    Raises:
        UsageError: an episode does not end, or an environment in Python fails.
    """
    if env is None:
        env, env_params = agent.env, agent.env_params
    horizon = int(getattr(env_params, "max_steps_in_episode", None) or NO_LIMIT) + 1
    if host_environment(env):
        batch = min(episodes, parallel or HOST_PARALLEL)
        plays = rounds_on_host(agent, state, key, greedy, env, env_params, batch, horizon)
        with closing(plays):
            return _joined(list(islice(plays, -(-episodes // batch))), episodes)
    batch, rounds = batches(episodes, parallel or PARALLEL)
    seeds = jax.tree.leaves(state)[0].shape[0]

    @jax.jit
    def play(state: PyTree, keys: Key) -> tuple[Array, Array, Array]:
        def one_seed(state: PyTree, key: Key) -> tuple[Array, Array, Array]:
            final = first_episodes(
                agent.policy(state), env, env_params, key, batch, horizon, greedy
            )
            return final.returns, final.lengths, final.alive

        return jax.vmap(one_seed)(state, keys)

    played = []
    for i in range(rounds):
        keys = jax.random.split(jax.random.fold_in(key, i), seeds)
        returns, lengths, alive = jax.device_get(play(state, keys))
        if alive.any():
            raise UsageError(f"{alive.sum()} episodes did not end within {horizon} steps")
        played.append((returns, lengths))
    return _joined(played, episodes)


def batches(episodes: int, most: int) -> tuple[int, int]:
    """Episodes side by side, at most so many, and how often.

    As even as can be: of a mixture, those left over of a batch are all of one environment.
    """
    rounds = -(-episodes // most)
    return -(-episodes // rounds), rounds


def _joined(rounds: Sequence[tuple[np.ndarray, np.ndarray]], episodes: int) -> Episodes:
    """The first `episodes` of rounds of returns and lengths, (S, B) each."""
    parts = zip(*rounds, strict=True)
    return Episodes(*(np.concatenate(part, axis=1)[:, :episodes] for part in parts))


def first_episodes(
    policy: Any, env: Any, params: Any, key: Key, batch: int, horizon: int, greedy: bool
) -> _Rollout:
    """Step `batch` environments until the first episode of each is over, `horizon` at most."""
    key, reset_key = jax.random.split(key)
    obs, env_state = reset_all(env, jax.random.split(reset_key, batch), params)
    start = _Rollout(
        key=key,
        env_state=env_state,
        obs=obs,
        reset=jnp.ones(batch, bool),
        carry=policy.init_carry((batch,)),
        alive=jnp.ones(batch, bool),
        returns=jnp.zeros(batch, jnp.float32),
        lengths=jnp.zeros(batch, jnp.int32),
        time=jnp.zeros((), jnp.int32),
    )

    def step(now: _Rollout) -> _Rollout:
        key, act_key, step_key = jax.random.split(now.key, 3)
        carry, action, _ = policy.act(now.carry, now.obs, now.reset, act_key, greedy)
        obs, env_state, reward, terminated, truncated, _ = step_all(
            env, jax.random.split(step_key, batch), now.env_state, action, params
        )
        end = terminated | truncated
        return _Rollout(
            key=key,
            env_state=env_state,
            obs=obs,
            reset=end,
            carry=carry,
            alive=now.alive & ~end,
            returns=now.returns + jnp.where(now.alive, reward, 0).astype(jnp.float32),
            lengths=now.lengths + now.alive,
            time=now.time + 1,
        )

    def unfinished(now: _Rollout) -> Array:
        return jnp.any(now.alive) & (now.time < horizon)

    return jax.lax.while_loop(unfinished, step, start)


def summarise(episodes: Episodes) -> dict[str, Any]:
    """Mean return of every seed with its 95 % t-interval over episodes, and over seeds."""
    per_seed = episodes.returns.mean(axis=1)
    return {
        "episodes": int(episodes.returns.shape[1]),
        "return": float(per_seed.mean()),
        "return_per_seed": per_seed.tolist(),
        "ci95_per_seed": [half_width(returns) for returns in episodes.returns],
        "length": float(episodes.lengths.mean()),
    }


def half_width(samples: np.ndarray, level: float = 0.95) -> float:
    """Half the width of the t-interval of the mean of `samples`, (n,); 0 for a single one."""
    n = len(samples)
    if n < 2:
        return 0.0
    return float(stats.t.ppf((1 + level) / 2, n - 1) * samples.std(ddof=1) / np.sqrt(n))
