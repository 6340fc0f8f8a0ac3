"""`ssmrl report`: learning curves as a picture, figures as Markdown and JSON."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from ssmrl.errors import UsageError
from ssmrl.run.directory import RunDirectory, write_json
from ssmrl.run.evaluate import half_width
from ssmrl.run.logging import RECENT, read_metrics

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito (2008): told apart by the colour-blind as well."""
FEWEST_FOR_A_BAND = 3  # seeds: the t-interval of two says next to nothing

COLUMNS = {
    "run": "run",
    "env": "environment",
    "memory": "memory",
    "seeds": "seeds",
    "env_steps": "steps per seed",
    "final_return": "final return",
    "final_ci95": "± 95 %",
    "evaluation_return": "fresh episodes",
    "best": "best (MMER)",
    "threshold": "threshold",
    "steps_to_threshold": "steps to it",
    "steps_per_second": "steps/s",
    "compile_seconds": "compile s",
    "seconds": "train s",
}


class Curve(NamedTuple):
    """Returns of a run over its U updates.

    Attributes:
        env_steps: (U,) of each seed.
        returns: (U, S) mean of the episodes that ended in each update, NaN if none did.
        smooth: (U, S) mean of about the latest `RECENT` episodes, NaN before the first.
        enough: (U,) whether every seed has ended that many.
    """

    env_steps: np.ndarray
    returns: np.ndarray
    smooth: np.ndarray
    enough: np.ndarray


def read_curve(run: RunDirectory) -> Curve:
    """The learning curve that a run has logged so far.

    Raises:
        UsageError: it has not finished an update yet.
    """
    rows = read_metrics(run.metrics)
    if not rows:
        raise UsageError(f"{run.path} has no metrics yet: nothing to report")
    returns = np.array([row["return"] for row in rows], float)
    episodes = np.array([row["episodes"] for row in rows], float)
    steps = np.array([row["env_steps"] for row in rows])
    enough = np.all(np.cumsum(episodes, axis=0) >= RECENT, axis=1)
    return Curve(steps, returns, smooth(returns, episodes), enough)


def smooth(returns: np.ndarray, episodes: np.ndarray, window: int = RECENT) -> np.ndarray:
    """Mean return over about the latest `window` episodes, `(U, S)`, NaN before the first.

    At every update the window grows backwards by whole updates until it has that many.
    """
    total = np.cumsum(np.where(episodes > 0, returns, 0.0) * episodes, axis=0)
    count = np.cumsum(episodes, axis=0)
    out = np.full(returns.shape, math.nan)
    for seed in range(returns.shape[1]):
        t, n = np.append(0.0, total[:, seed]), np.append(0.0, count[:, seed])
        before = np.searchsorted(n, n[1:] - window, side="right") - 1
        before = np.maximum(before, 0)
        ended = n[1:] - n[before]
        np.divide(t[1:] - t[before], ended, out=out[:, seed], where=ended > 0)
    return out


def summarise(run: RunDirectory, threshold: float | None = None) -> dict[str, Any]:
    """The figures of a run: one row of the table, with its configuration and commit.

    Args:
        run: its folder.
        threshold: return whose first step is looked up; by default the run's `stop_at_return`.
    """
    curve, meta = read_curve(run), run.read_meta()
    config: Any = OmegaConf.to_container(OmegaConf.load(run.config), resolve=True)
    threshold = config["stop_at_return"] if threshold is None else threshold
    final = curve.smooth[-1]
    seconds = read_metrics(run.metrics)[-1]["seconds"]
    evaluation = run.report / "evaluation.json"
    return {
        "run": run.path.name,
        "env": config["env"],
        "memory": config["memory"]["name"],
        "seeds": config["seeds"],
        "env_steps": int(curve.env_steps[-1]),
        "final_return": _number(final.mean()),
        "final_return_per_seed": [_number(r) for r in final],
        "final_ci95": _number(half_width(final)) if len(final) > 1 else None,
        "evaluation_return": json.loads(evaluation.read_text())["return"]
        if evaluation.exists()
        else None,
        "best": _number(_best(curve.returns).mean()),
        "threshold": threshold,
        "steps_to_threshold": _steps_to(curve, threshold),
        "steps_per_second": round(curve.env_steps[-1] * config["seeds"] / max(seconds, 1e-9)),
        "compile_seconds": sum(s["compile_seconds"] for s in meta.get("sessions", [])),
        "seconds": seconds,
        "commit": meta.get("commit"),
        "device": meta.get("device"),
        "created": meta.get("created"),
        "versions": meta.get("versions"),
        "config": config,
        "curve": {
            "env_steps": curve.env_steps.tolist(),
            "return_per_seed": [[_number(v) for v in seed] for seed in curve.returns.T],
        },
    }


def write(
    runs: Sequence[RunDirectory],
    out: Path,
    console: Console | None = None,
    threshold: float | None = None,
) -> None:
    """Write `curve.png`, `table.md` and `summary.json` to `out`, and show the table.

    Raises:
        UsageError: a run has no metrics yet.
    """
    rows = [summarise(run, threshold) for run in runs]
    out.mkdir(parents=True, exist_ok=True)
    plot(runs, rows, out / "curve.png")
    (out / "table.md").write_text(markdown(rows))
    write_json(out / "summary.json", rows)
    if console:
        console.print(rich_table(rows))
        console.print(f"report: {out / 'curve.png'}, table.md, summary.json", soft_wrap=True)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table, and below it what they were made with."""
    keys = _used(rows)
    lines = ["| " + " | ".join(COLUMNS[k] for k in keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(cell(row[k]) for k in keys) + " |" for row in rows]
    lines += ["", f"Returns are means of the latest {RECENT} episodes or more of each seed; "]
    lines[-1] += "± is the half-width of the t-interval over seeds."
    for row in rows:
        lines.append(f"\n- {row['run']}: commit {row['commit']}, {row['device']}, {row['created']}")
    return "\n".join(lines) + "\n"


def rich_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The same table for a terminal, a line for every figure and a column for every run."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    for _ in rows:
        table.add_column(overflow="fold")
    for key in _used(rows):
        table.add_row(COLUMNS[key], *(cell(row[key]) for row in rows))
    return table


def plot(runs: Sequence[RunDirectory], rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Learning curves of all runs in one picture: every seed, their mean, its 95 % t-band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    axes.margins(x=0.02, y=0.08)
    curves = [read_curve(run) for run in runs]
    for i, (curve, label) in enumerate(zip(curves, _labels(rows), strict=True)):
        color, style = COLORS[i % len(COLORS)], ("-", "--", ":")[i // len(COLORS) % 3]
        mean, seeds = curve.smooth.mean(axis=1), curve.smooth.shape[1]
        thin = curve.smooth if seeds > 1 else curve.returns
        axes.plot(curve.env_steps, thin, color=color, linewidth=0.7, alpha=0.35)
        axes.plot(curve.env_steps, mean, style, color=color, linewidth=2.2, label=label, zorder=3)
        axes.plot(curve.env_steps[-1], mean[-1], "o", color=color, markersize=5, zorder=4)
    for threshold in {row["threshold"] for row in rows} - {None}:
        axes.axhline(threshold, color="0.55", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    limits = axes.get_ylim()  # of the curves: a band over few seeds would squeeze them
    for i, curve in enumerate(curves):
        mean, seeds = curve.smooth.mean(axis=1), curve.smooth.shape[1]
        if seeds >= FEWEST_FOR_A_BAND:
            band = np.array([half_width(returns) for returns in curve.smooth])
            color = COLORS[i % len(COLORS)]
            axes.fill_between(
                curve.env_steps, mean - band, mean + band, color=color, alpha=0.15, lw=0
            )
    axes.set_ylim(limits)
    axes.set_title(", ".join(sorted({row["env"] for row in rows})), loc="left", weight="bold")
    _style(axes)
    figure.savefig(file)


def _style(axes: Any) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel("environment steps per seed")
    axes.set_ylabel("mean return of an episode")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.6")
    axes.tick_params(color="0.6", labelcolor="0.25")
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="best")


def _labels(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The shortest names that tell the runs apart."""
    several_envs = len({row["env"] for row in rows}) > 1
    labels = [f"{row['memory']}, {row['env']}" if several_envs else row["memory"] for row in rows]
    if len(set(labels)) < len(rows):
        labels = [row["run"] for row in rows]
    seeds = [f" ({row['seeds']} seeds)" if row["seeds"] > 1 else "" for row in rows]
    return [label + count for label, count in zip(labels, seeds, strict=True)]


def _best(returns: np.ndarray) -> np.ndarray:
    """Largest mean return of any update, (S,): what POPGym calls MMER."""
    best = np.where(np.isnan(returns), -np.inf, returns).max(axis=0)
    return np.where(np.isinf(best), math.nan, best)


def _steps_to(curve: Curve, threshold: float | None) -> int | None:
    """Steps of each seed until the mean over seeds first was at `threshold`."""
    if threshold is None:
        return None
    there = np.flatnonzero(curve.enough & (curve.smooth.mean(axis=1) >= threshold))
    return int(curve.env_steps[there[0]]) if len(there) else None


def _used(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The columns in which some run has an entry."""
    return [key for key in COLUMNS if any(row[key] is not None for row in rows)]


def cell(value: Any) -> str:
    """A figure as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return str(value)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
