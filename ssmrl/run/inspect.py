"""`ssmrl inspect`: what a run, an environment, a memory or an agent is made of."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from ssmrl import envs
from ssmrl.configs.schema import options, registered, type_name
from ssmrl.errors import unknown
from ssmrl.run.evaluate import first_episodes, half_width
from ssmrl.run.trained import load_trained
from ssmrl.shapes import Array, Key, PyTree

RANDOM_EPISODES = 1024
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
        UsageError: unknown environment or argument.
    """
    env, params = envs.make(id, **arguments)
    space, limit = env.action_space(params), int(params.max_steps_in_episode)
    final = jax.jit(
        lambda key: first_episodes(
            RandomPolicy(space), env, params, key, RANDOM_EPISODES, limit + 1, greedy=False
        )
    )(jax.random.key(0))
    returns, lengths = np.asarray(final.returns), np.asarray(final.lengths)
    return table(
        {
            "environment": id,
            "observation": _space(env.observation_space(params)),
            "action": _space(space),
            "longest episode": f"{limit} steps",
            "random policy": f"return {returns.mean():.3f} ± {half_width(returns):.3f}, "
            f"length {lengths.mean():.1f} ({RANDOM_EPISODES} episodes)",
        }
    )


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
