"""What the command line does besides training: arguments in, tables and files out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
from omegaconf import DictConfig, OmegaConf
from rich.console import Console, RenderableType
from rich.table import Table

from ssmrl import envs
from ssmrl.configs.compose import apply, parse, plain
from ssmrl.configs.schema import registered, shipped
from ssmrl.errors import UsageError, unknown
from ssmrl.run import adaptation, inspect, levels, report, world_model_report
from ssmrl.run.directory import RunDirectory, write_json
from ssmrl.run.evaluate import evaluate, summarise
from ssmrl.run.forced_reset import Forgetful
from ssmrl.run.inspect_memory import inspect_memory
from ssmrl.run.trained import Trained, load_trained

GYMNASIUM = "gymnasium/<id>  (any environment that Gymnasium knows, e.g. gymnasium/CartPole-v1)"


@dataclass
class EvalOptions:
    """Options of `ssmrl eval`."""

    episodes: int = 256  # of each seed
    greedy: bool = True  # the most likely action instead of a sample
    seed: int = 1_000_000  # fixes the episodes
    env: str | None = None  # by default that of the training
    env_args: dict[str, Any] = field(default_factory=dict)
    forget_every: int | None = None  # wipe the memory every so many steps
    parallel: int | None = None  # environments at the same time; by default 256, in Python 8
    adaptation: bool = False  # return by episode within a trial: meta/... environments
    out: str | None = None  # JSON file; by default <run>/report/eval.json


@dataclass
class ReportOptions:
    """Options of `ssmrl report`."""

    out: str | None = None  # folder; by default the report/ of the first run
    threshold: float | None = None  # by default the stop_at_return of each run


def evaluate_run(name: str, overrides: Sequence[str]) -> None:
    """`ssmrl eval`: mean return of every seed of a run on fresh episodes.

    Raises:
        UsageError: no such run, a wrong option, or an environment with other spaces.
    """
    options = _options(EvalOptions, overrides)
    if options.episodes < 1:
        raise UsageError(f"episodes: expected at least 1, got {options.episodes}")
    if options.parallel is not None and options.parallel < 1:
        raise UsageError(f"parallel: expected at least 1, got {options.parallel}")
    if (every := options.forget_every) is not None and every < 1:
        raise UsageError(f"forget_every: expected at least 1, got {every}")
    run, config, agent, update, state = load_trained(name)
    own = plain(config)
    id = options.env or own["env"]
    arguments = (own["env_args"] if id == own["env"] else {}) | dict(options.env_args)
    env, params = agent.evaluation_env(*envs.make(id, **arguments))
    key = jax.random.key(options.seed)
    if options.adaptation:
        where = {"env": id, "env_args": arguments}
        out = Path(options.out) if options.out else run.report / adaptation.ADAPTATION
        trained = Trained(run, config, agent, update, state)
        curves = adaptation.measure(trained, env, params, key, options.episodes, options.greedy)
        adaptation.save(trained, env, curves, where | {"seed": options.seed}, out, Console())
        return
    player = agent
    if every is not None:
        player = SimpleNamespace(policy=lambda state: Forgetful(agent.policy(state), every))
    episodes = evaluate(
        player, state, key, options.episodes, options.greedy, env, params, options.parallel
    )
    summary = summarise(episodes)
    table = Table("seed", "mean return", "± 95 %", box=None, pad_edge=False)
    lines = zip(summary["return_per_seed"], summary["ci95_per_seed"], strict=True)
    for seed, (mean, ci95) in enumerate(lines):
        table.add_row(str(seed), f"{mean:.3f}", f"{ci95:.3f}")
    file = Path(options.out) if options.out else run.report / "eval.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = {"update": update, "env": id, "env_args": arguments, "greedy": options.greedy}
    settings |= {} if every is None else {"forget_every": every}
    write_json(file, settings | {"seed": options.seed} | summary)
    console = Console()
    how = "greedy" if options.greedy else "sampled"
    how += "" if every is None else f", memory wiped every {every} steps"
    console.print(f"{id}, {how}, {options.episodes} episodes of each seed, update {update}")
    console.print(table)
    console.print(f"saved: {file}", soft_wrap=True)


def report_runs(names: Sequence[str], overrides: Sequence[str]) -> None:
    """`ssmrl report`: picture and tables of one run or several.

    Raises:
        UsageError: no such run, or one without metrics.
    """
    options = _options(ReportOptions, overrides)
    runs = [RunDirectory.find(name) for name in names]
    out = Path(options.out) if options.out else runs[0].report
    console = Console()
    report.write(runs, out, console, options.threshold)
    adaptation.report(runs, out)
    levels.report(runs, out)
    if files := world_model_report.report(runs, out, console.print):
        console.print("world models: " + ", ".join(file.name for file in files), soft_wrap=True)


def names(kind: str) -> list[str]:
    """The names that `ssmrl list KIND` prints: envs, agents, memories or experiments.

    Raises:
        UsageError: another kind.
    """
    kinds = {
        "envs": lambda: [*envs.list_envs(), GYMNASIUM],
        "agents": lambda: registered("agent"),
        "memories": lambda: registered("memory"),
        "experiments": lambda: shipped("experiment"),
    }
    if kind not in kinds:
        raise unknown("kind of thing to list", kind, kinds)
    return kinds[kind]()


def inspect_arguments(arguments: Sequence[str]) -> None:
    """`ssmrl inspect RUN`, or `env=ID`, `memory=NAME`, `agent=NAME` with their options.

    Raises:
        UsageError: none of these, or unknown names.
    """
    what, *rest = arguments
    if "=" not in what:
        if rest:
            raise UsageError(f"inspect RUN takes no options, got {rest[0]!r}")
        Console().print(inspect.inspect_run(what))
        return
    kind, *_ = parsed = parse(arguments)
    prefix = {"env": "env_args.", "memory": "memory.", "agent": ""}.get(kind.key_or_group)
    if prefix is None:
        raise unknown("thing to inspect", kind.key_or_group, ("env", "memory", "agent"))
    given: dict[str, Any] = {}
    out = f"memory_{kind.value()}.png"
    for override in parsed[1:]:
        if (kind.key_or_group, override.key_or_group) == ("memory", "out"):
            out = str(override.value())
            continue
        if not prefix or not override.key_or_group.startswith(prefix):
            raise UsageError(
                f"inspect {what} does not take {override.key_or_group!r}"
                + (f", only {prefix}<option>=..." if prefix else "")
            )
        given[override.key_or_group.removeprefix(prefix)] = override.value()
    name = str(kind.value())
    table: RenderableType
    if kind.key_or_group == "env":
        table = inspect.inspect_env(name, given)
    elif kind.key_or_group == "memory":
        table = inspect_memory(name, given, Path(out))
    else:
        table = inspect.inspect_agent(name)
    Console().print(table)


def benchmark(run: Callable[..., list[dict[str, Any]]], options: Sequence[str]) -> None:
    """`ssmrl bench`: call `run` with the options, print its rows; `json=FILE` saves them.

    Raises:
        UsageError: an option that `run` does not have.
    """
    given = {o.key_or_group: o.value() for o in parse(options)}
    file = given.pop("json", None)
    known = signature(run).parameters
    for name in given:
        if name not in known:
            raise unknown("option", name, [*known, "json"])
    rows = run(**given)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, box=None, pad_edge=False, header_style="dim")
    for row in rows:
        table.add_row(*(report.cell(row.get(column)) for column in columns))
    Console().print(table)
    if file is not None:
        write_json(Path(str(file)), rows)


def _options(schema: type, overrides: Sequence[str]) -> Any:
    config = cast(DictConfig, OmegaConf.structured(schema))
    apply(config, parse(overrides))
    return OmegaConf.to_object(config)
