"""How a policy gets better within a trial: the return of each of its episodes, on fresh tasks.

The same trials are played by the policy, by the policy to which every episode is the first (what
is left is what it knows before it has seen the task), and by the references that the family has;
the best possible is drawn where it can be computed.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from ssmrl.envs.batch import reset_all, step_all
from ssmrl.envs.meta import Mixture, Trial
from ssmrl.envs.wrappers import PreviousStep, inside
from ssmrl.errors import UsageError
from ssmrl.run.directory import RunDirectory, write_json
from ssmrl.run.evaluate import PARALLEL, batches, half_width
from ssmrl.run.report import COLORS, FEWEST_FOR_A_BAND
from ssmrl.run.trained import Trained
from ssmrl.shapes import Array, B, Key, PyTree

ADAPTATION = "adaptation.json"


class WipedEachEpisode:
    """A policy to which every episode looks like the first of a trial.

    Its memory is reset, and the previous action and reward are hidden from it.

    policy: anything with `init_carry` and `act`.
    first: what `PreviousStep` shows at the first step of a trial, without batch axes.
    """

    def __init__(self, policy: Any, first: dict[str, Any]) -> None:
        self.init_carry, self._act = policy.init_carry, policy.act
        self.first = {k: v for k, v in first.items() if k != "observation"}

    def act(
        self, carry: PyTree, obs: PyTree, reset: B, key: Key, greedy: bool = False
    ) -> tuple[PyTree, Array, dict[str, Any]]:
        """Acts as the policy does at the first episode."""
        begins = obs["observation"]["episode_start"][..., 0] > 0

        def hide(first: Array, told: Array) -> Array:
            return jnp.where(begins.reshape(begins.shape + (1,) * first.ndim), first, told)

        told = {name: hide(first, obs[name]) for name, first in self.first.items()}
        return self._act(carry, obs | told, reset | begins, key, greedy)


def play_trials(policy: Any, env: Any, params: Any, key: Key, trials: int, greedy: bool) -> Array:
    """The return of every episode of `trials` fresh trials: (trials, episodes) float32.

    Pure. An episode that the time limit of the trial cut off, or that it did not reach, counts
    with what it has paid.

    Args:
        policy: anything with `init_carry` and `act`, e.g. `agent.policy(state)`.
        env: the trials as the policy expects them; a `Trial` or a `Mixture` of some is inside.
        params: their parameters.
        key: fixes the tasks and everything else that is random.
        trials: how many.
        greedy: take the most likely action instead of a sample.
    """
    key_reset, key = jax.random.split(key)
    obs, state = reset_all(env, jax.random.split(key_reset, trials), params)
    episodes = jnp.arange(find_trial(env).episodes)
    start = (
        (obs, state, jnp.ones(trials, bool), policy.init_carry((trials,))),
        jnp.ones(trials, bool),
        jnp.zeros((trials, len(episodes)), jnp.float32),
        jnp.zeros((), jnp.int32),
    )

    def step(now: PyTree) -> PyTree:
        (obs, state, reset, carry), alive, returns, time = now
        key_act, key_step = jax.random.split(jax.random.fold_in(key, time))
        carry, action, _ = policy.act(carry, obs, reset, key_act, greedy)
        obs, state, reward, terminated, truncated, info = step_all(
            env, jax.random.split(key_step, trials), state, action, params
        )
        here = (info["episode"][:, None] == episodes) & alive[:, None]
        returns = returns + jnp.where(here, reward[:, None], 0.0)
        end = terminated | truncated
        return (obs, state, end, carry), alive & ~end, returns, time + 1

    return jax.lax.while_loop(lambda now: jnp.any(now[1]), step, start)[2]


def best_possible(env: Any, key: Key, trials: int) -> Array | None:
    """Mean return of an episode of the best policy that knows the task, of those trials: (trials,).

    None where the family cannot tell, or there are several. Arguments as for `play_trials`.
    """
    trial = find_trial(env)
    if isinstance(trial, Mixture) or not hasattr(trial.env, "optimal_return"):
        return None
    keys = jax.random.split(jax.random.split(key)[0], trials)
    return jax.vmap(lambda key: trial.env.optimal_return(trial.reset(key)[1].task))(keys)


def find_trial(env: Any) -> Trial | Mixture:
    """The trials inside of wrappers; of a mixture of them all are as long.

    Raises:
        UsageError: there are none.
    """
    found = inside(env, Trial, Mixture)
    if found is None or found.episodes is None:
        raise UsageError(
            f"adaptation is the return by episode of a trial, and {env.name} has none: use one of "
            "the meta/... environments"
        )
    return found


def measure(
    trained: Trained, env: Any, params: Any, key: Key, trials: int, greedy: bool
) -> dict[str, np.ndarray]:
    """Returns by episode of everybody who plays: (S, trials, episodes) each, S = 1 of a reference.

    "policy" and "wiped" have a row for each seed of the run; "best possible" is repeated for
    every episode. All play the same trials. Arguments as for `play_trials`; env, params: as
    `agent.evaluation_env` returns them.
    """
    agent, state = trained.agent, trained.state
    batch, rounds = batches(trials, PARALLEL)

    def everybody(key: Key) -> dict[str, Array]:
        def own(wrap: Any) -> Array:
            def one(state: PyTree) -> Array:
                return play_trials(wrap(agent.policy(state)), env, params, key, batch, greedy)

            return jax.lax.map(one, state)

        trial = find_trial(env)
        told = PreviousStep(trial)
        first = env.reset(key, params)[0]
        lines = {
            "policy": own(lambda policy: policy),
            "wiped": own(lambda policy: WipedEachEpisode(policy, first)),
        }
        alone = isinstance(trial, Trial) and hasattr(trial.env, "references")
        references = trial.env.references() if alone else {}
        for name, policy in references.items():
            lines[name] = play_trials(policy, told, params, key, batch, False)[None]
        if (best := best_possible(env, key, batch)) is not None:
            lines["best possible"] = jnp.repeat(
                best[None, :, None], lines["policy"].shape[2], axis=2
            )
        return lines

    play = jax.jit(everybody)
    parts = [jax.device_get(play(jax.random.fold_in(key, i))) for i in range(rounds)]
    return {name: np.concatenate([p[name] for p in parts], 1)[:, :trials] for name in parts[0]}


def by_environment(env: Any, lines: dict[str, np.ndarray]) -> dict[str, Any]:
    """`lines` of the trials of each environment of a mixture, by its name; else nothing.

    Nothing too where chance says who is played: where there are fewer trials than environments,
    or a wrapper around the mixture.
    """
    trials = lines["policy"].shape[1]
    batch, rounds = batches(trials, PARALLEL)
    if not isinstance(env, Mixture) or batch < len(env.envs):
        return {}
    owners = np.tile(env.owners(batch), rounds)[:trials]
    return {
        f"{i + 1} {one.name}": {name: line[:, owners == i] for name, line in lines.items()}
        for i, one in enumerate(env.envs)
    }


def summarise(lines: dict[str, np.ndarray], shown: Sequence[int]) -> dict[str, Any]:
    """By line: mean returns by seed and episode, their 95 % half-widths over trials, totals.

    Where the best possible is known, regret is what a trial's total falls short of it. `changes`
    are the differences, within a trial, between one of the episodes `shown`, counted from 1, and
    the next of them.
    """
    best = lines["best possible"].sum(axis=2).mean() if "best possible" in lines else None

    def one(returns: np.ndarray) -> dict[str, Any]:
        mean, totals = returns.mean(axis=1), returns.sum(axis=2)
        regret = {} if best is None else {"regret_per_seed": (best - totals.mean(axis=1)).tolist()}
        return regret | {
            "first": float(mean[:, 0].mean()),
            "last": float(mean[:, -1].mean()),
            "trial_return_per_seed": totals.mean(axis=1).tolist(),
            "trial_ci95_per_seed": [half_width(seed) for seed in totals],
            "return_per_seed": mean.tolist(),
            "ci95_per_seed": [[half_width(x) for x in seed.T] for seed in returns],
            "changes": [change(returns, *span) for span in itertools.pairwise(shown)],
        }

    return {name: one(returns) for name, returns in lines.items()}


def change(returns: np.ndarray, start: int, end: int) -> dict[str, Any]:
    """From episode `start` to `end`, counted from 1: mean and 95 % half-width over trials, by seed.

    returns: (S, trials, episodes).
    """
    differences = returns[..., end - 1] - returns[..., start - 1]
    return {
        "from": start,
        "to": end,
        "per_seed": differences.mean(axis=1).tolist(),
        "ci95_per_seed": [half_width(seed) for seed in differences],
    }


def save(
    trained: Trained,
    env: Any,
    lines: dict[str, np.ndarray],
    settings: dict[str, Any],
    out: Path,
    console: Console,
) -> None:
    """Write the summary of `lines` and how they were made as JSON, and show a table."""
    made = {
        "update": trained.update,
        "memory": trained.config.memory.name,
        "trials": lines["policy"].shape[1],
        "episodes": find_trial(env).episodes,
        "trained_episodes": find_trial(trained.agent.env).episodes,
    }
    last = made["episodes"]
    shown = sorted({1, min(made["trained_episodes"], last), last})
    summary = summarise(lines, shown)
    parts = by_environment(env, lines)
    each = {name: summarise(part, shown) for name, part in parts.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, settings | made | {"lines": summary} | ({"environments": each} if each else {}))
    console.print(table(summary, shown))
    for name, part in each.items():
        console.print(f"\n{name}", table(part, shown))
    for span in summary["policy"]["changes"]:
        seeds = zip(span["per_seed"], span["ci95_per_seed"], strict=True)
        figures = ", ".join(f"{mean:+.3f} ± {ci95:.3f}" for mean, ci95 in seeds)
        line = f"policy, episode {span['from']} to {span['to']}, by seed: {figures}"
        console.print(line, soft_wrap=True)
    console.print(f"saved: {out}", soft_wrap=True)


def table(summary: dict[str, Any], shown: Sequence[int]) -> Table:
    """Episodes `shown` of every line, counted from 1, and the return of a trial."""
    columns = [f"episode {episode}" for episode in shown]
    rows = Table("", *columns, "trial", "± 95 %", "regret", box=None)
    for name, line in summary.items():
        totals = np.array(line["trial_return_per_seed"])
        spread = half_width(totals) if len(totals) > 1 else line["trial_ci95_per_seed"][0]
        means = np.mean(line["return_per_seed"], axis=0)
        figures = (*(means[episode - 1] for episode in shown), totals.mean(), spread)
        regret = f"{np.mean(line['regret_per_seed']):.3f}" if "regret_per_seed" in line else "–"
        rows.add_row(name, *(f"{figure:.3f}" for figure in figures), regret)
    return rows


def report(runs: Sequence[RunDirectory], out: Path) -> Path | None:
    """Draw `adaptation.png` into `out` from what `ssmrl eval RUN adaptation=true` has saved.

    The policy and its wiped copy of every run, the references of the first. None where no run
    has been evaluated so.
    """
    files = [run.report / ADAPTATION for run in runs if (run.report / ADAPTATION).exists()]
    if not files:
        return None
    saved = [json.loads(file.read_text()) for file in files]
    file = out / "adaptation.png"
    plot(saved, file)
    write_json(out / ADAPTATION, saved)
    return file


def plot(saved: Sequence[dict[str, Any]], file: Path) -> None:
    """Return by episode: a coloured line for each run, dashed with its memory wiped."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=200, layout="constrained")
    axes = figure.subplots()
    for i, run in enumerate(saved):
        color = COLORS[i % len(COLORS)]
        for name, style in (("policy", "-"), ("wiped", "--")):
            line = np.array(run["lines"][name]["return_per_seed"])
            label = run["memory"] + ("" if name == "policy" else ", wiped at every episode")
            _line(axes, line, run["lines"][name]["ci95_per_seed"], label, color, style)
    references = [name for name in saved[0]["lines"] if name not in ("policy", "wiped")]
    for name, dots in zip(references, (":", "-.", "--"), strict=False):
        line = np.array(saved[0]["lines"][name]["return_per_seed"])
        axes.plot(np.arange(1, line.shape[1] + 1), line[0], ls=dots, color="0.4", label=name)
    if saved[0]["episodes"] > (trained := saved[0]["trained_episodes"]):
        axes.axvline(trained + 0.5, color="0.6", lw=1)
        where = (trained + 0.5, 0.01)
        axes.annotate("trained on ", where, xycoords=("data", "axes fraction"), ha="right")
    axes.set_title(saved[0]["env"], loc="left", weight="bold")
    axes.set(xlabel="episode of the trial", ylabel="mean return of the episode")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(file)


def _line(axes: Any, line: np.ndarray, ci95: Any, label: str, color: str, style: str) -> None:
    """The mean over seeds with its 95 % band, over trials where there are too few seeds."""
    episodes, mean = np.arange(1, line.shape[1] + 1), line.mean(axis=0)
    if len(line) >= FEWEST_FOR_A_BAND:
        band = np.array([half_width(returns) for returns in line.T])
    else:
        band = np.mean(ci95, axis=0) / np.sqrt(len(line))
    axes.plot(episodes, mean, ls=style, color=color, lw=2, label=label)
    axes.fill_between(episodes, mean - band, mean + band, color=color, alpha=0.15, lw=0)
