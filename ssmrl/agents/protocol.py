"""What every agent offers to `ssmrl.run`, whatever its algorithm.

Training takes turns: all environments take a few steps, then the agent learns from what was
kept of them. `rollout` is the first half on environments in JAX, `ssmrl.run.collect` the same
on those of the host.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ssmrl.envs.batch import step_all
from ssmrl.envs.contract import Environment, EnvParams, same_space
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, B, Key, PyTree, Scalar


class Policy(NamedTuple):
    """How to act with the parameters of a state."""

    init_carry: Any  # (batch_shape) -> carry
    act: Any  # (carry, obs, reset, key, greedy) -> (carry, action, info)


class Outcome(NamedTuple):
    """What a step of B environments led to, `(B, ...)`: as `step` of the contract tells it."""

    obs: PyTree
    env_state: PyTree
    reward: B
    terminated: B
    truncated: B
    info: dict[str, Any]


class Behaviour(NamedTuple):
    """How to act in training with the parameters of a state, one step of B environments at a time.

    Actors, choices and records are the agent's own. Actors have `env_state`, choices are what
    `record` needs to know of the step.

    Attributes:
        decide: `(actors, key) -> (choice, action)`, actions `(B, ...)` within bounds.
        record: `(actors, choice, outcome) -> (actors, record)`, the actors after the step and
            what is kept of it.
    """

    decide: Callable[[Any, Key], tuple[Any, Array]]
    record: Callable[[Any, Any, Outcome], tuple[Any, Any]]


class Agent(Protocol):
    """Pure functions of one state, for one seed; `jax.vmap` over more.

    Attributes:
        config: its options, `num_envs` and `rollout` (steps of each in a train step) among them.
        env, env_params: the environment as the policy sees it.
        steps_per_update: environment steps of one `train_step`, all environments together.
    """

    config: Any
    env: Any
    env_params: Any
    steps_per_update: int

    def init(self, key: Key) -> Any:
        """The state before training: one pytree of everything that changes.

        It has `params`, `actors` and `key`.
        """
        ...

    def begin(self, params: Any, obs: PyTree, env_state: PyTree) -> Any:
        """The actors where all environments begin an episode, `obs` and `env_state` `(B, ...)`."""
        ...

    def behaviour(self, state: Any) -> Behaviour:
        """How `rollout` acts from this state."""
        ...

    def learn(self, state: Any, actors: Any, records: Any) -> tuple[Any, dict[str, Scalar]]:
        """The update from a rollout that began at `state.actors` and ended at `actors`.

        records: of every step, `(T, ...)`. Metrics are those of `train_step`.
        """
        ...

    def train_step(self, state: Any) -> tuple[Any, dict[str, Scalar]]:
        """Acts and learns; metrics, float32 scalars, have `return`, `length` and `episodes`."""
        ...

    def policy(self, state: Any) -> Any:
        """A `Policy` with this state's parameters."""
        ...

    def evaluation_env(self, env: Environment, env_params: EnvParams) -> tuple[Any, Any]:
        """Another environment, wrapped as the policy expects it."""
        ...


def rollout_keys(config: Any, key: Key) -> tuple[Key, Key]:
    """The next key of a state, and those of its rollout: `(T, B + 1)`, the last the policy's."""
    keys = jax.random.split(key, (config.rollout + 1, config.num_envs + 1))
    return keys[0, 0], keys[1:]


def rollout(agent: Agent, state: Any, keys: Key) -> tuple[Any, Any]:
    """T steps of all environments from `state.actors`; keys as `rollout_keys` gives them.

    Returns the actors afterwards, and the records of all steps, `(T, ...)`.
    """
    behaviour = agent.behaviour(state)

    def step(actors: Any, keys: Key) -> tuple[Any, Any]:
        choice, action = behaviour.decide(actors, keys[-1])
        outcome = step_all(agent.env, keys[:-1], actors.env_state, action, agent.env_params)
        return behaviour.record(actors, choice, Outcome(*outcome))

    return jax.lax.scan(step, state.actors, keys)


def progress(config: Any, update: Array) -> Scalar:
    """Share of a run of `total_steps` done before this update, 0 to 1."""
    updates = max(config.total_steps // (config.num_envs * config.rollout), 1)
    return jnp.minimum(update.astype(jnp.float32) / updates, 1.0)


def entropy_weight(config: Any, update: Array) -> Array | float:
    """`entropy_coef`, or on the straight way from there to `entropy_final` where it is given."""
    start, end = config.entropy_coef, config.entropy_final
    return start if end is None else start + (end - start) * progress(config, update)


def check_same_spaces(env: Any, env_params: Any, other: Any, other_params: Any) -> None:
    """Refuse an environment that a policy trained on `env` cannot play.

    Raises:
        UsageError: its spaces differ.
    """
    for kind in ("observation_space", "action_space"):
        mine = getattr(env, kind)(env_params)
        theirs = getattr(other, kind)(other_params)
        if not same_space(mine, theirs):
            raise UsageError(
                f"this policy was trained with {kind} {mine!r}, but {other.name} has "
                f"{theirs!r}; evaluate it on an environment with the same spaces"
            )


def episode_numbers(info: dict[str, Array]) -> dict[str, Array]:
    """What `EpisodeStatistics` adds to `info`, alone."""
    return {name: info[name] for name in ("episode_end", "episode_return", "episode_length")}


def episode_means(info: dict[str, Array]) -> dict[str, Scalar]:
    """`return` and `length`, means over the episodes that ended (NaN if none), and `episodes`.

    info: `episode_return`, `episode_length` and `episode_end` of a rollout, `(T, B)`.
    """
    ended = info["episode_end"]
    episodes = jnp.sum(ended.astype(jnp.float32))
    return {
        "return": jnp.sum(info["episode_return"] * ended) / episodes,
        "length": jnp.sum(info["episode_length"] * ended) / episodes,
        "episodes": episodes,
    }


def strongly_typed(state: PyTree) -> Any:
    """The same state without weak types, which some environments leave behind in places.

    They would make the state of a later update compile the training step once more.
    """
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
