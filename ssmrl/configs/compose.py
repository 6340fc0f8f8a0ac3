"""From command line overrides to a checked configuration.

Hydra composes the choice of each group; the other `key=value` overrides are then written
one by one, so that every mistake is reported with its own key. Everything that the user
can get wrong raises `UsageError`.
"""

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ssmrl.configs.schema import AT_LEAST, GROUPS, choices, store_schemas, type_name
from ssmrl.errors import UsageError, unknown

RESUMABLE = (
    "total_steps",
    "stop_at_return",
    "checkpoint_every",
    "keep_checkpoints",
    "eval_episodes",
)


def load(overrides: Sequence[str]) -> DictConfig:
    """The configuration of a new run.

    An override that names another environment drops the preset's `stop_at_return`, since
    returns of two environments do not compare, unless it is overridden as well.

    Raises:
        UsageError: unknown key, choice or environment; malformed override; value of a
            wrong type or out of range.
    """
    parsed = parse(overrides)
    values = {o.key_or_group: o for o in parsed if o.key_or_group not in GROUPS}
    config = _compose({o.key_or_group: str(o.value()) for o in parsed if o.key_or_group in GROUPS})
    preset = config.env
    apply(config, values.values())
    if config.env != preset and "stop_at_return" not in values:
        config.stop_at_return = None
    validate(config)
    return config


def reload(file: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration saved in `file`, with overrides that leave the experiment the same.

    Raises:
        UsageError: as `load`; also for a key that a resumed run cannot change.
    """
    parsed = parse(overrides)
    for override in parsed:
        if override.key_or_group not in RESUMABLE:
            raise UsageError(
                f"a run that goes on cannot change {override.key_or_group!r}, only "
                f"{', '.join(RESUMABLE)}; for anything else start a new one: ssmrl train"
            )
    try:
        saved: Any = OmegaConf.load(file)
        groups = {group: str(saved[group].name) for group in ("agent", "memory")}
    except (OSError, KeyError, AttributeError, TypeError, ValueError, YAMLError) as e:
        raise UsageError(f"{file} is not the configuration of a run: {_gist(e)}") from e
    config = _compose(groups)
    try:
        config.merge_with(saved)
    except OmegaConfBaseException as e:
        raise UsageError(f"{file} does not fit this version of ssmrl: {_gist(e)}") from e
    apply(config, parsed)
    validate(config)
    return config


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain Python values, every reference resolved."""
    values: Any = OmegaConf.to_container(config, resolve=True)
    for group in ("agent", "memory"):
        for option, value in values[group].items():
            if isinstance(value, list):  # OmegaConf's stand-in for a tuple
                values[group][option] = tuple(value)
    return dict(values)


def parse(overrides: Sequence[str]) -> list[Override]:
    """Read `key=value` strings in Hydra's grammar (`+key=value` means the same).

    Raises:
        UsageError: neither of these, or several values for one key.
    """
    parser = OverridesParser.create()
    parsed: list[Override] = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as e:
            raise _malformed(text) from e
        if override.is_sweep_override():
            raise UsageError(f"{text!r} gives several values: a run has one (a list: [1,2])")
        if override.is_delete() or override.package or not override.key_or_group:
            raise _malformed(text)
        if override.key_or_group in {o.key_or_group for o in parsed}:
            raise UsageError(f"{override.key_or_group!r} is given twice")
        parsed.append(override)
    return parsed


def apply(config: DictConfig, overrides: typing.Iterable[Override]) -> None:
    """Write `overrides` into `config`.

    Raises:
        UsageError: unknown key, with the nearest ones, or a value of another type.
    """
    for override in overrides:
        key, value = override.key_or_group, override.value()
        wanted = _check_key(config, key)
        if wanted is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # a million is written 1e6
        try:
            OmegaConf.update(config, key, value)
        except OmegaConfBaseException as e:
            raise UsageError(
                f"{key}: expected {type_name(wanted)}, got {value!r} of type {type(value).__name__}"
            ) from e


def validate(config: DictConfig) -> None:
    """Check ranges, the options of the memory and those of the environment.

    Raises:
        UsageError: the key, what was expected and what was got.
    """
    from ssmrl import envs, memory

    for key, least in AT_LEAST.items():
        if config[key] < least:
            raise UsageError(f"{key}: expected at least {least}, got {config[key]}")
    values = plain(config)
    memory.make(**values["memory"])
    envs.make(values["env"], **values["env_args"])


def _compose(groups: Mapping[str, str]) -> DictConfig:
    for group, name in groups.items():
        if name not in choices(group):
            raise unknown(group, name, choices(group))
    store_schemas()
    with initialize_config_module("ssmrl.configs", version_base="1.3"):
        config = compose("train", [f"{group}={name}" for group, name in groups.items()])
    OmegaConf.set_struct(config.env_args, False)  # its keys depend on the environment
    return config


def _check_key(config: DictConfig, key: str) -> Any:
    """The type that the option `key` expects; a UsageError if there is none of that name."""
    node: Any = config
    *path, last = key.split(".")
    for depth, name in enumerate([*path, last]):
        if path and path[0] == "env_args" and depth:
            return Any
        if not isinstance(node, DictConfig) or name not in node:
            known = _keys(config)
            raise unknown("configuration key", key, known)
        if name == "name" and depth == 1:
            raise UsageError(f"{key} follows the group: choose it by {path[0]}=NAME")
        parent, node = node, node._get_node(name)
    schema = OmegaConf.get_type(parent)
    kind = typing.get_type_hints(schema).get(last, Any)
    return dict if isinstance(node, DictConfig) else kind


def _keys(config: DictConfig) -> list[str]:
    """Every key that can be set, with dots: `seed`, `memory.features`, ..."""
    groups = [g for g in ("agent", "memory") if g in config]
    return [
        *(str(k) for k in config),
        *(f"{g}.{k}" for g in groups for k in config[g] if k != "name"),
    ]


def _malformed(text: str) -> UsageError:
    return UsageError(
        f"malformed override {text!r}: expected key=value, such as seeds=4 "
        "(a value with special characters needs quotes of its own: 'name=\"a (b)\"')"
    )


def _gist(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
