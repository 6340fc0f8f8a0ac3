"""Agents by name, and `make_agent`."""

from collections.abc import Mapping
from typing import Any

from ssmrl import memory as memories
from ssmrl.agents.hieros import Hieros
from ssmrl.agents.in_context import InContext
from ssmrl.agents.protocol import Agent
from ssmrl.agents.r2i import R2I
from ssmrl.errors import UsageError, unknown

AGENTS: dict[str, Any] = {"hieros": Hieros, "in_context": InContext, "r2i": R2I}
"""Each class has a `Config`, the frozen dataclass of its options, and makes an `Agent`."""


def make_agent(config: Any, env: Any, env_params: Any) -> Agent:
    """The agent that `config` describes, for an environment as `ssmrl.envs.make` returns it.

    Args:
        config: mapping with the entries `agent` and `memory`, themselves mappings with a
            `name` and the options to change, e.g.
            `{"agent": {"name": "in_context", "num_envs": 16}, "memory": {"name": "s5"}}`.
        env: a gymnax-style environment.
        env_params: its parameters.

    Raises:
        UsageError: unknown agent, memory or option; spaces that the agent cannot handle.
    """
    agent, memory = _entry(config, "agent"), _entry(config, "memory")
    name = agent.pop("name")
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    cls = AGENTS[name]
    known = cls.Config.__dataclass_fields__
    for option in agent:
        if option not in known:
            raise unknown(f"option of agent {name!r}", option, known)
    made: Agent = cls(
        cls.Config(**agent), memories.make(memory.pop("name"), **memory), env, env_params
    )
    return made


def _entry(config: Any, key: str) -> dict[str, Any]:
    entry = config[key] if isinstance(config, Mapping) and key in config else None
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise UsageError(
            f"the configuration needs an entry {key!r} that is a mapping with a 'name'; got "
            f"{config!r}"
        )
    return dict(entry)
