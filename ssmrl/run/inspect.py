"""`ssmrl inspect`: what a run, an environment, a memory or an agent is made of."""

import time
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from ssmrl import envs
from ssmrl.configs.schema import options, registered, type_name
from ssmrl.errors import unknown
from ssmrl.run.collect import host_environment, rounds_on_host
from ssmrl.run.evaluate import NO_LIMIT, first_episodes, half_width
from ssmrl.run.program import compiled
from ssmrl.run.trained import load_trained
from ssmrl.shapes import Array, Key, PyTree

RANDOM_EPISODES, RANDOM_STEPS = 1024, 100_000  # at most, and about so many steps
HOST_SECONDS = 10.0  # for random episodes of an environment in Python; the last is finished
IN_DIM = 64  # width of the input that a memory is shown for


class RandomPolicy:
    """Uniform actions, in the shape in which agents offer their policies."""

    def __init__(self, space: Any) -> None:
        self.space = space

    def init_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """Nothing is remembered."""
        return ()

    def act(
        self, carry: PyTree, obs: PyTree, reset: Array, key: Key, greedy: bool
    ) -> tuple[PyTree, Array, dict[str, Any]]:
        """A sample of the action space for every environment."""
        keys = jax.random.split(key, reset.shape)
        return carry, jax.vmap(self.space.sample)(keys), {}


def inspect_env(id: str, arguments: dict[str, Any]) -> Table:
    """Spaces and limit of an environment, and what uniform actions earn in it.

    Raises:
        UsageError: unknown environment or argument, or one in Python that fails.
    """
    env, params = envs.make(id, **arguments)
    limit = params.max_steps_in_episode
    returns, lengths = _random_episodes(env, params)
    return table(
        {
            "environment": id,
            "observation": _space(env.observation_space(params)),
            "action": _space(env.action_space(params)),
            "longest episode": "no limit known" if limit is None else f"{int(limit)} steps",
            "random policy": f"return {returns.mean():.3f} ± {half_width(returns):.3f}, "
            f"length {lengths.mean():.1f} ({len(returns)} episodes)",
        }
    )


def _random_episodes(env: Any, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of some episodes of uniform actions."""
    space = env.action_space(params)
    limit = int(params.max_steps_in_episode or NO_LIMIT)
    count = min(max(RANDOM_STEPS // min(limit, 1000), 1), RANDOM_EPISODES)
    if host_environment(env) is None:

        def play(key: Key) -> tuple[Array, Array]:  # what is not returned is not computed: images
            policy = RandomPolicy(space)
            final = first_episodes(policy, env, params, key, count, limit + 1, greedy=False)
            return final.returns, final.lengths

        key = jax.random.key(0)
        returns, lengths = jax.device_get(compiled(play, key, once=True)(key))
        return returns, lengths
    player, state = SimpleNamespace(policy=lambda _: RandomPolicy(space)), jnp.zeros(1)
    begin, rounds, key = time.perf_counter(), [], jax.random.key(0)
    plays = rounds_on_host(player, state, key, False, env, params, 1, limit + 1)
    with closing(plays):
        for episodes in plays:
            rounds.append(episodes)
            late = time.perf_counter() - begin > HOST_SECONDS
            if late or len(rounds) >= count:
                break
    returns, lengths = (np.concatenate(part, axis=1)[0] for part in zip(*rounds, strict=True))
    return returns, lengths


def inspect_agent(name: str) -> Table:
    """The options of an agent, with types and defaults.

    Raises:
        UsageError: unknown agent.
    """
    if name not in registered("agent"):
        raise unknown("agent", name, registered("agent"))
    return table({"agent": name} | option_lines("agent", name, {}))


def inspect_run(name: str) -> Table:
    """Where a run stands and how large it is.

    Raises:
        UsageError: no such run, or no whole checkpoint.
    """
    trained = load_trained(name)
    config, meta = trained.config, trained.run.read_meta()
    params = jax.tree.map(lambda x: x[0], getattr(trained.state, "params", trained.state))
    steps = trained.update * trained.agent.steps_per_update
    return table(
        {
            "run": str(trained.run.path),
            "environment": config.env,
            "agent": f"{config.agent.name} with {config.memory.name}, {config.seeds} seed(s)",
            "progress": f"update {trained.update}, {steps:,} of {config.total_steps:,} steps",
            "parameters": f"{count(params):,} of each seed",
            "state": f"{nbytes(trained.state):,} bytes",
            "made by": meta.get("command", "–"),
            "commit": meta.get("commit") or "–",
            "device": meta.get("device", "–"),
        }
    )


def count(tree: PyTree) -> int:
    """Number of entries of all arrays; a complex one counts twice."""
    return sum(x.size * (2 if jnp.iscomplexobj(x) else 1) for x in jax.tree.leaves(tree))


def nbytes(tree: PyTree) -> int:
    """Bytes of all arrays; those of PRNG keys are left out."""
    arrays = [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in arrays)


def option_lines(group: str, name: str, given: dict[str, Any]) -> dict[str, str]:
    """A line for every option: its value, its type, and how it is set."""
    return {
        f"{group}.{option}": f"{given.get(option, default)}  ({type_name(kind)})"
        for option, (kind, default) in options(group, name).items()
    }


def _space(space: Any) -> str:
    kind = type(space).__name__
    if kind == "Discrete":
        return f"Discrete({space.n})"
    if kind == "Box":
        low, high = (np.unique(np.asarray(bound)) for bound in (space.low, space.high))
        return f"Box{tuple(space.shape)}, {low.min():g} to {high.max():g}"
    if kind == "Dict":
        return "; ".join(f"{name}: {_space(part)}" for name, part in space.spaces.items())
    return repr(space)


def table(lines: dict[str, str]) -> Table:
    """Names and values, one pair a line."""
    rows = Table(box=None, pad_edge=False, show_header=False)
    rows.add_column(style="dim", no_wrap=True)
    for name, value in lines.items():
        rows.add_row(name, value)
    return rows
