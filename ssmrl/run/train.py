"""`ssmrl train` and `ssmrl resume`: the loop of a run.

What happens next depends on the state of the agent and the metrics logged so far, never on
the clock: a run that is killed and resumed gives the same numbers bit for bit.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import jax
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ssmrl.configs.compose import reload
from ssmrl.errors import UsageError
from ssmrl.run import checkpoint, finish, guard, interrupt, replay_files
from ssmrl.run.collect import HostProgram, host_environment, train_program
from ssmrl.run.directory import RunDirectory
from ssmrl.run.display import Display
from ssmrl.run.logging import MetricsLog, make_row, moving_return
from ssmrl.run.program import Program, compiled, initial_state
from ssmrl.run.trained import Trained, build_agent, identity, state_like


def train(config: DictConfig, console: Console | None = None) -> RunDirectory:
    """Train a new run, evaluate it and write its report.

    Raises:
        UsageError: its folder is taken, or the configuration does not fit together.
        Diverged: a metric or a parameter is not finite.
    """
    agent = build_agent(config)  # before there is a folder: a mistake leaves none behind
    replay_files.check(config, agent)
    name = f"{config.env.split('/')[-1]}-{config.memory.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run = RunDirectory.create(config.root, config.name or name)
    with run.lock():
        return _run(run, config, agent, console or Console())


def resume(
    name: str, overrides: Sequence[str] = (), console: Console | None = None
) -> RunDirectory:
    """Continue a run from its latest whole checkpoint, or from its start if it has none.

    Raises:
        UsageError: no such run, in use, complete, without a whole checkpoint, or an override
            that would make it another experiment.
        Diverged: a metric or a parameter is not finite.
    """
    run = RunDirectory.find(name)
    with run.lock():
        config = reload(run.config, overrides)
        return _run(run, config, build_agent(config), console or Console())


def _run(run: RunDirectory, config: DictConfig, agent: Any, console: Console) -> RunDirectory:
    title = f"{config.agent.name} · {config.memory.name} · {config.env}"
    display = Display(title, config.total_steps, config.seeds, config.stop_at_return, console)
    with interrupt.requested(display.note) as stop, display, ExitStack() as stack:
        like, update, state = state_like(config, agent), 0, None
        if checkpoint.updates(run.checkpoints):
            update, state = checkpoint.restore_latest(
                run.checkpoints, like, identity(config), display.say
            )
        log = stack.enter_context(MetricsLog(run.metrics, run.tensorboard, update))
        if _done(config, log) and finish.is_evaluated(run, update):
            goal = "total_steps=..., stop_at_return=..."
            raise UsageError(
                f"{run.path} is complete after {update} updates; move its goal: {goal}"
            )
        OmegaConf.save(config, run.config)
        trained = Trained(run, config, agent, update, state)
        if not _done(config, log):
            if note := getattr(agent, "note", None):
                display.say(note)
            replay_files.begin(run, config, agent, state, display.say)
            with train_program(agent, like, config.seeds) as program:
                if update and host_environment(agent.env):
                    display.say("environments in Python cannot be saved: they begin new episodes")
                trained = _loop(trained, program, log, display, stop)
    if _done(config, log):
        finish.evaluate_and_report(trained, console)
    else:
        console.print(f"saved update {trained.update}; go on with: ssmrl resume {run.path}")
    return run


def _loop(
    begin: Trained,
    program: Program | HostProgram,
    log: MetricsLog,
    display: Display,
    stop: Callable[[], bool],
) -> Trained:
    """Train until the goal is reached or `stop` says so, and save."""
    run, config, agent, update, state = begin
    run.add_session(update, program.compile_seconds)
    if state is None:
        begin_at = partial(initial_state, agent, seeds=config.seeds)
        state = compiled(begin_at, config.seed, once=True)(config.seed)
    display.start(update * agent.steps_per_update, program.compile_seconds)
    start = time.perf_counter() - (log.rows[-1]["seconds"] if log.rows else 0.0)

    def save() -> None:
        if log.rows:
            guard.check_parameters(state, log.rows[-1])
        log.sync()
        replay_files.flush(agent)
        checkpoint.save(run.checkpoints, update, state, identity(config), config.keep_checkpoints)

    recent = moving_return(log.rows)
    while not _done(config, log, recent) and not stop():
        state, metrics = program.step(state)
        update, values = update + 1, jax.device_get(metrics)
        seconds = time.perf_counter() - start
        log.write(make_row(update, update * agent.steps_per_update, seconds, values))
        guard.check_metrics(log.rows[-1])
        recent = moving_return(log.rows)
        display.update(log.rows[-1], recent[0])
        if update % config.checkpoint_every == 0:
            save()
    if update % config.checkpoint_every or not update:
        save()
    return begin._replace(update=update, state=state)


def _done(config: DictConfig, log: MetricsLog, recent: tuple[float, bool] | None = None) -> bool:
    """All steps are done, or enough episodes have the return that was asked for."""
    if log.rows and log.rows[-1]["env_steps"] >= config.total_steps:
        return True
    mean, enough = recent or moving_return(log.rows)
    return config.stop_at_return is not None and enough and mean >= config.stop_at_return
