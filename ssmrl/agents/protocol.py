"""What every agent offers to `ssmrl.run`, whatever its algorithm."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ssmrl.envs.contract import Environment, EnvParams, same_space
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, PyTree, Scalar


class Policy(NamedTuple):
    """How to act with the parameters of a state."""

    init_carry: Any  # (batch_shape) -> carry
    act: Any  # (carry, obs, reset, key, greedy) -> (carry, action, info)


class Agent(Protocol):
    """Pure functions of one state, for one seed; `jax.vmap` over more.

    Attributes:
        env, env_params: the environment as the policy sees it.
        steps_per_update: environment steps of one `train_step`, all environments together.
    """

    env: Any
    env_params: Any
    steps_per_update: int

    def init(self, key: Key) -> Any:
        """The state before training: one pytree of everything that changes."""
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
