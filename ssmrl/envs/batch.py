"""Many environments side by side.

`jax.vmap` makes a batch of nearly any environment. One that knows better what to do with a batch
has `reset_all`, `step_all` and `wrap` of its own, as `ssmrl.envs.meta.Mixture` has; these
functions take both kinds, and are what everything that steps environments uses.
"""

from collections.abc import Callable
from typing import Any

import jax

from ssmrl.envs.contract import EnvParams
from ssmrl.envs.wrappers import StepResult
from ssmrl.shapes import Array, Key, PyTree


def reset_all(env: Any, keys: Key, params: EnvParams) -> tuple[PyTree, PyTree]:
    """B first observations, (B, …), and a state of all for `step_all`.

    keys: (B,). params: those of the environment, the same for all.
    """
    if knows_batches(env):
        return env.reset_all(keys, params)
    return jax.vmap(env.reset, in_axes=(0, None))(keys, params)


def step_all(env: Any, keys: Key, state: PyTree, action: Array, params: EnvParams) -> StepResult:
    """A step of B environments: what `env.step` returns, (B, …) but for the state.

    keys: (B,). state: as `reset_all` or the last step of as many left it. action: (B, …).
    """
    if knows_batches(env):
        return env.step_all(keys, state, action, params)
    return jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)


def wrap(env: Any, wrapper: Callable[[Any], Any]) -> Any:
    """The environment in a wrapper, which is written for a single one."""
    return env.wrap(wrapper) if knows_batches(env) else wrapper(env)


def knows_batches(env: Any) -> bool:
    """Whether the environment has these functions of its own.

    Its class is asked: a wrapper that lends out all attributes of what is inside of it, as those
    of gymnax do, would be passed by.
    """
    return hasattr(type(env), "step_all")
