"""Environments by id: `popgym/RepeatPreviousEasy`, `gymnasium/CartPole-v1`, the user's own."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import gymnasium
from gymnax import registration
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from ssmrl.envs import from_brax, grid, memory_maze, meta, popgym, probe
from ssmrl.envs.contract import Environment, EnvParams
from ssmrl.envs.from_brax import BraxEnvironment
from ssmrl.envs.from_gymnasium import GymnasiumEnvironment
from ssmrl.errors import UsageError, unknown

Factory = Callable[..., Environment]

_registered: dict[str, Factory] = {}


def make(id: str, **kwargs: Any) -> tuple[Environment, EnvParams]:
    """The environment of that `id` and its parameters.

    A keyword that the environment's constructor names goes there; any other must be a field of
    its parameters (`max_steps_in_episode` always is) and replaces that field's default.
    `make("popgym/RepeatPreviousEasy", k=10)`, `make("gymnax/MemoryChain-bsuite",
    memory_length=100)`.

    `gymnasium/<id>` is any environment that Gymnasium knows; it runs in Python (see
    `from_gymnasium`), and all keywords but two go to `gymnasium.make`.

    gymnax ends `MemoryChain` after 1000 steps, and pays in step `memory_length` + 1: with a
    longer memory no episode would ever pay. Unless you set `max_steps_in_episode` yourself it
    is raised to `memory_length` + 2 where needed.

    Raises UsageError for an unknown id or keyword, a value of the wrong type, a package that is
    not installed, and an environment whose data set cannot be loaded.
    """
    kind, _, gymnasium_id = id.partition("/")
    if kind == "gymnasium":
        host = GymnasiumEnvironment(gymnasium_id, **kwargs)
        return host, host.default_params
    factories = _factories()
    if id not in factories:
        known = [*factories, *(f"gymnasium/{name}" for name in gymnasium.registry)]
        raise unknown("environment", id, known, hint="see `ssmrl list envs`")
    options = _options(factories[id])
    named = {k: v for k, v in kwargs.items() if k in options}
    for name, value in named.items():
        _check(f"{name} of {id}", value, options[name])
    try:
        env = factories[id](**named)
    except OSError as error:  # urllib's errors are OSErrors
        raise UsageError(f"environment {id!r} could not load its data set: {error}") from error
    changes = {k: v for k, v in kwargs.items() if k not in options}
    params = _replace(id, env.default_params, changes, options)
    if id == "gymnax/MemoryChain-bsuite" and "max_steps_in_episode" not in kwargs:
        enough = max(params.max_steps_in_episode, params.memory_length + 2)
        params = params.replace(max_steps_in_episode=enough)
    return env, params


def list_envs() -> list[str]:
    """Every id that `make` takes, sorted."""
    return sorted(_factories())


def register(id: str, factory: Factory) -> None:
    """Make your own environment available as `make(id)`.

    factory: called with the keywords it names, returns an `Environment`. Its id then works
    wherever one is asked for, on the command line where your module was imported. Raises
    UsageError where the id is taken.
    """
    if id in _factories():
        raise UsageError(f"environment {id!r} is registered already: choose another id")
    _registered[id] = factory


def _factories() -> dict[str, Factory]:
    """All factories; gymnax's are read anew, for its registry may grow too."""
    ours: dict[str, Factory] = {
        f"popgym/{name}": game for name, game in popgym.ENVIRONMENTS.items()
    }
    mazes = {f"memory_maze/{size}": maze for size, maze in memory_maze.ENVIRONMENTS.items()}
    probes = {f"probe/{name}": task for name, task in probe.ENVIRONMENTS.items()}
    trials = {f"meta/{name}": trial for name, trial in meta.ENVIRONMENTS.items()}
    gymnax = {f"gymnax/{name}": make_ for name, make_ in registration._registry.items()}
    worlds = {f"grid/{name}": world for name, world in grid.ENVIRONMENTS.items()}
    pinpads = {f"pinpad/{task}": world for task, world in grid.PIN_PADS.items()}
    ours = {**ours, **mazes, **probes, **trials, **worlds, **pinpads}
    brax = {f"brax/{name}": partial(BraxEnvironment, name) for name in from_brax.NAMES}
    return {**ours, **gymnax, **brax, **_registered}


def _options(factory: Factory) -> dict[str, Any]:
    """Names of the keywords that `factory` takes, and their types: Any where none is told."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(factory).parameters.values()
    types = {p.name: p.annotation for p in parameters if p.kind in named}
    empty = inspect.Parameter.empty
    return {k: Any if t is empty or isinstance(t, str) else t for k, t in types.items()}


def _check(what: str, value: Any, expected: Any) -> None:
    """Raises UsageError unless `value` is of that type."""
    try:
        check_type(value, expected, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        name = inspect.formatannotation(expected)
        got = f"{value!r} ({type(value).__name__})"
        raise UsageError(f"{what}: expected {name}, got {got}") from error


def _replace(
    id: str, params: EnvParams, changes: dict[str, Any], options: Iterable[str]
) -> EnvParams:
    """`params` with some fields changed, each to a value of its default's type.

    A whole number given for a float becomes one: gymnax compares the dtypes of some.
    """
    fields = [f.name for f in dataclasses.fields(params)]
    for name, value in changes.items():
        if name not in fields:
            raise unknown(f"setting of {id}", name, [*fields, *options])
        default = getattr(params, name)
        if not _fits(value, default):
            raise UsageError(
                f"{name} of {id}: expected a value like {default!r} "
                f"({type(default).__name__}), got {value!r} ({type(value).__name__})"
            )
        if name == "max_steps_in_episode" and value < 1:
            raise UsageError(f"{name} of {id}: expected 1 or more, got {value}")
        changes[name] = float(value) if isinstance(default, float) else value
    return params.replace(**changes)


def _fits(value: Any, default: Any) -> bool:
    """Whether `value` may stand where a plain number or flag `default` stood."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int | float):
        return isinstance(value, int) or (isinstance(default, float) and isinstance(value, float))
    return True
