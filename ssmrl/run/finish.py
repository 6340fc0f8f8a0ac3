"""What follows training: fresh episodes, and the report."""

import json

import jax
from rich.console import Console

from ssmrl.run import levels, report, world_model_report
from ssmrl.run.directory import RunDirectory, write_json
from ssmrl.run.evaluate import evaluate, summarise
from ssmrl.run.trained import Trained

EVALUATION = "evaluation.json"
EPISODES_KEY = 0x5EED  # folded into the run's seed, so that no training episode is replayed


def evaluate_and_report(trained: Trained, console: Console) -> None:
    """Evaluate on the environment of the training and write the run's report."""
    run, config, agent, update, state = trained
    key = jax.random.fold_in(jax.random.key(config.seed), EPISODES_KEY)
    episodes = evaluate(agent, state, key, config.eval_episodes)
    summary = {"update": update, "env": config.env, "greedy": True} | summarise(episodes)
    run.report.mkdir(exist_ok=True)
    write_json(run.report / EVALUATION, summary)
    report.write([run], run.report, console)
    levels.report([run], run.report)
    world_model_report.losses(run, run.report)
    levels.draw_subgoals(trained, run.report / "subgoals.png")


def is_evaluated(run: RunDirectory, update: int) -> bool:
    """Whether the run was evaluated after `update` updates."""
    file = run.report / EVALUATION
    return file.exists() and json.loads(file.read_text()).get("update") == update
