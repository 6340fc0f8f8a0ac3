"""From a configuration to its agent, and from the folder of a run to its trained state."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from omegaconf import DictConfig

from ssmrl import envs, make_agent
from ssmrl.configs.compose import plain, reload
from ssmrl.run import checkpoint
from ssmrl.run.directory import RunDirectory
from ssmrl.run.program import initial_state, use_cache
from ssmrl.shapes import PyTree


class Trained(NamedTuple):
    """A run read back; every leaf of `state` is (S, ...)."""

    run: RunDirectory
    config: DictConfig
    agent: Any
    update: int
    state: PyTree


def build_agent(config: DictConfig) -> Any:
    """The agent of a configuration, on its environment.

    Raises:
        UsageError: an option or a space that does not fit.
    """
    use_cache()
    values = plain(config)
    return make_agent(values, *envs.make(values["env"], **values["env_args"]))


def identity(config: DictConfig) -> dict[str, Any]:
    """What a checkpoint of this configuration belongs to."""
    values = plain(config)
    names = {group: values[group]["name"] for group in ("agent", "memory")}
    rest = {key: values[key] for key in ("env", "env_args", "seed", "seeds")}
    same: dict[str, Any] = json.loads(json.dumps(names | rest))
    return same


def state_like(config: DictConfig, agent: Any) -> PyTree:
    """Shapes and dtypes of the training state, without computing it."""
    return jax.eval_shape(lambda: initial_state(agent, config.seed, config.seeds))


def load_trained(name: str, say: Callable[[str], None] = print) -> Trained:
    """The latest whole checkpoint of a run, by its folder or its name in `runs/`.

    Raises:
        UsageError: no such run, no whole checkpoint, or one of something else.
    """
    run = RunDirectory.find(name)
    config = reload(run.config)
    agent = build_agent(config)
    like = state_like(config, agent)
    update, state = checkpoint.restore_latest(run.checkpoints, like, identity(config), say)
    return Trained(run, config, agent, update, state)
