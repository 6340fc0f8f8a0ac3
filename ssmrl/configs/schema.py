"""What can be configured, and of which type.

The options of an agent are the fields of its `Config` dataclass and those of a memory are
what `ssmrl.memory.options` says. Neither is repeated here or in a file: the schemas that
Hydra checks against are made from them, so whatever is registered is configurable at once.
"""

import dataclasses
import functools
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

GROUPS = ("agent", "memory", "experiment")


@dataclass
class TrainConfig:
    """What `ssmrl train` reads. `agent` and `memory` are filled by their groups."""

    agent: Any = MISSING
    memory: Any = MISSING
    env: str = MISSING  # an id of `ssmrl list envs`
    env_args: dict[str, Any] = field(default_factory=dict)  # options of the environment
    total_steps: int = MISSING  # environment steps of each seed
    seed: int = 0
    seeds: int = 1  # agents trained side by side
    name: str | None = None  # of the run; by default environment, memory and time
    root: str = "runs"  # the folder of all runs
    stop_at_return: float | None = None  # end early once the moving mean return is this
    checkpoint_every: int = 50  # updates from one checkpoint to the next
    keep_checkpoints: int = 2  # how many of the latest stay
    eval_episodes: int = 256  # fresh episodes of each seed at the end


AT_LEAST = {
    "total_steps": 1,
    "seed": 0,
    "seeds": 1,
    "checkpoint_every": 1,
    "keep_checkpoints": 1,
    "eval_episodes": 1,
}


def registered(group: str) -> list[str]:
    """The names of all agents, or of all memories, shipped or the user's own."""
    from ssmrl.agents import AGENTS
    from ssmrl.memory import MEMORIES

    known: dict[str, Iterable[str]] = {"agent": AGENTS, "memory": MEMORIES}
    return sorted(known.get(group, ()))


def shipped(group: str) -> list[str]:
    """The names of the files of a configuration group."""
    files = resources.files("ssmrl.configs").joinpath(group).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def choices(group: str) -> list[str]:
    """The names that `group=NAME` accepts."""
    return sorted({*registered(group), *shipped(group)})


def options(group: str, name: str) -> dict[str, tuple[Any, Any]]:
    """Type and default of every option of an agent or of a memory, by option."""
    if group == "memory":
        from ssmrl import memory

        return memory.options(name)
    from ssmrl.agents import AGENTS

    config = AGENTS[name].Config
    types = typing.get_type_hints(config)
    return {option: (types[option], default) for option, default in vars(config()).items()}


def store_schemas() -> None:
    """Tell Hydra the schema of the run and of every registered agent and memory.

    One that has no file of its own in the group is made a choice of it as well.
    """
    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig, package="_global_")
    for group in ("agent", "memory"):
        files = shipped(group)
        for name in registered(group):
            schema = _schema(name, options(group, name))
            store.store(group=f"schema/{group}", name=name, node=schema)
            if name not in files:
                store.store(group=group, name=name, node=schema)


def type_name(kind: Any) -> str:
    """A type as people write it: `int`, `float | None`."""
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _schema(name: str, known: dict[str, tuple[Any, Any]]) -> type:
    """A structured config with a field for every option; `total_steps` follows the run's."""
    fields: list[tuple[str, Any, Any]] = [("name", str, field(default=name))]
    for option, (kind, default) in known.items():
        value = "${total_steps}" if option == "total_steps" else default
        fields.append((option, kind, field(default_factory=functools.partial(_same, value))))
    return dataclasses.make_dataclass(name, fields)


def _same(value: Any) -> Any:
    return value
