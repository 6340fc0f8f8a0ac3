"""The command line: reads arguments, calls what does the work; imports nothing heavy itself."""

import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from ssmrl import __version__
from ssmrl.errors import UsageError, unknown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 for a mistake of the user, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(given)
    except UsageError as e:
        print(f"ssmrl: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ssmrl: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `ssmrl list envs | head`
        sys.stderr.close()
    return 0


def _dispatch(arguments: list[str]) -> None:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name in ("-V", "--version"):
        print(f"ssmrl {__version__}")
    elif name not in COMMANDS:
        raise unknown("command", name, COMMANDS, "see `ssmrl --help`")
    elif {"-h", "--help"} & set(rest):
        print(f"usage: ssmrl {name} {COMMANDS[name].usage}\n\n{COMMANDS[name].details}")
    else:
        COMMANDS[name].call(rest)


def _train(arguments: list[str]) -> None:
    from ssmrl.configs.compose import load
    from ssmrl.run.train import train

    train(load(arguments))


def _resume(arguments: list[str]) -> None:
    runs, overrides = _split("resume", arguments, most=1)
    from ssmrl.run.train import resume

    resume(runs[0], overrides)


def _eval(arguments: list[str]) -> None:
    runs, overrides = _split("eval", arguments, most=1)
    from ssmrl.run.commands import evaluate_run

    evaluate_run(runs[0], overrides)


def _report(arguments: list[str]) -> None:
    runs, overrides = _split("report", arguments)
    from ssmrl.run.commands import report_runs

    report_runs(runs, overrides)


def _list(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise _misused("list")
    from ssmrl.run.commands import names

    print("\n".join(names(arguments[0])))


def _inspect(arguments: list[str]) -> None:
    if not arguments:
        raise _misused("inspect")
    from ssmrl.run.commands import inspect_arguments

    inspect_arguments(arguments)


def _bench(arguments: list[str]) -> None:
    benchmarks, options = _split("bench", arguments, most=1)
    if benchmarks[0] not in BENCHMARKS:
        raise unknown("benchmark", benchmarks[0], BENCHMARKS)
    from ssmrl.run.commands import benchmark

    benchmark(import_module(f"ssmrl.bench.{benchmarks[0]}").run, options)


def _split(
    command: str, arguments: Sequence[str], most: int | None = None
) -> tuple[list[str], list[str]]:
    """Names and `key=value` options; at least one name and at most `most`."""
    names = [a for a in arguments if "=" not in a]
    if not names or (most is not None and len(names) > most):
        raise _misused(command)
    return names, [a for a in arguments if "=" in a]


def _misused(command: str) -> UsageError:
    return UsageError(
        f"usage: ssmrl {command} {COMMANDS[command].usage} (see `ssmrl {command} --help`)"
    )


class Command(NamedTuple):
    """A subcommand: what it calls, and its help in one line and in full."""

    call: Callable[[list[str]], Any]
    usage: str
    summary: str
    details: str


BENCHMARKS = ("envs", "memory", "ppo", "r2i", "scan")
COMMANDS = {
    "train": Command(
        _train,
        "[key=value ...]",
        "train an agent, evaluate it and write a report",
        """\
Without arguments: recurrent PPO on resettable S5 solves popgym/RepeatPreviousEasy.

  env=ID  env_args.NAME=VALUE     environment and its options   (ssmrl list envs)
  memory=NAME  memory.NAME=VALUE  memory and its options        (ssmrl inspect memory=s5)
  agent=NAME  agent.NAME=VALUE    agent and its options         (ssmrl inspect agent=in_context)
  experiment=NAME                 a preset of all of these      (ssmrl list experiments)
  total_steps=N                   environment steps of each seed
  seed=N  seeds=N                 random seed; agents trained side by side
  stop_at_return=X                end once the mean return is X (null: never)
  name=NAME  root=DIR             the run is kept in DIR/NAME, by default in runs/
  checkpoint_every=N  keep_checkpoints=N   in updates; how many of the latest stay
  eval_episodes=N                 fresh episodes of each seed at the end

Ctrl-C or SIGTERM saves and exits; `ssmrl resume` goes on bit for bit.""",
    ),
    "resume": Command(
        _resume,
        "RUN [total_steps=N] [stop_at_return=X] ...",
        "continue a run that was interrupted or killed, bit for bit",
        """\
RUN is the folder of a run or its name in runs/. It goes on from the latest whole checkpoint.
Besides total_steps and stop_at_return, checkpoint_every, keep_checkpoints and eval_episodes
can be changed.""",
    ),
    "eval": Command(
        _eval,
        "RUN [episodes=N] [greedy=BOOL] [env=ID] [env_args.NAME=VALUE] [forget_every=K] [seed=N] "
        "[parallel=N] [adaptation=BOOL] [out=FILE]",
        "mean return of a trained run on fresh episodes",
        """\
Prints the mean return and its 95 % interval for every seed of the run and saves them as JSON.
env and env_args try the policy elsewhere, as long as observations and actions are alike: one
trained on popgym/RepeatPreviousEasy on gymnasium/popgym-RepeatPreviousEasy-v0, for example.
parallel is how many environments run at the same time: those in Python take memory of their own.
forget_every wipes the memory every K steps: what the return loses by it, the memory was worth.
adaptation=true plays meta/... environments: mean return of each episode of a trial, next to that
of the policy to which every episode is the first. `ssmrl report` draws what it saves.""",
    ),
    "report": Command(
        _report,
        "RUN... [out=DIR] [threshold=X]",
        "learning curves and tables of one run or several",
        """\
Writes curve.png (mean and 95 % band over seeds), table.md and summary.json into DIR, by default
into report/ of the first run. threshold: the return whose first step is looked up.""",
    ),
    "list": Command(
        _list,
        "envs|agents|memories|experiments",
        "print the known names, one a line",
        "Every name can be given to `ssmrl train`: env=, agent=, memory=, experiment=.",
    ),
    "inspect": Command(
        _inspect,
        "RUN | env=ID [env_args.NAME=VALUE] | memory=NAME [memory.NAME=VALUE] [out=FILE] | "
        "agent=NAME",
        "sizes, spaces and options of a run, environment, memory or agent",
        """\
RUN     progress, parameters, size of the state
env     spaces, longest episode, return of uniform actions
memory  parameters, bytes of the carry, capabilities, options with their defaults, half-lives as
        a histogram, also drawn into out (memory_NAME.png in this folder)
agent   all options with their defaults""",
    ),
    "bench": Command(
        _bench,
        "scan|memory|ppo|envs [NAME=VALUE ...] [json=FILE]",
        "measure speed: the scan, the memories, PPO, or the environments",
        "Options are those of `ssmrl.bench.<name>.run`; json saves the rows.",
    ),
}


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {c.summary}" for name, c in COMMANDS.items()]
    return "\n".join(
        [
            "ssmrl: reinforcement learning with memory",
            "",
            "usage: ssmrl COMMAND [arguments]    (ssmrl COMMAND --help tells them)",
            "",
            *lines,
            "",
            "  ssmrl train                                  solve a memory task in a minute or two",
            "  ssmrl train memory=gru seeds=4 name=mine     another memory, four seeds",
            "  ssmrl resume mine && ssmrl report mine       go on after Ctrl-C; picture and table",
        ]
    )
