"""What a run writes down: `metrics.jsonl`, one JSON object per update, and TensorBoard.

    {"update": 1, "env_steps": 6656, "seconds": 0.61, "return": [-0.5, -0.48], "loss": ...}

`env_steps` counts the steps of each seed and `seconds` the time spent training, compilation
apart. Every other entry is a list over seeds; null stands for NaN, as where no episode ended.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssmrl.errors import UsageError

Row = dict[str, Any]
CLOCK = ("update", "env_steps", "seconds")  # the entries that are not lists over seeds
RECENT = 100  # episodes of each seed behind a moving mean return


def read_metrics(file: Path) -> list[Row]:
    """The rows of a `metrics.jsonl`; a last line that was cut off is left out."""
    rows: list[Row] = []
    if file.exists():
        for line in file.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def moving_return(rows: Sequence[Row], episodes: int = RECENT) -> tuple[float, bool]:
    """Mean over seeds of each one's mean return over about its latest `episodes` episodes.

    The window grows backwards by whole updates until every seed has that many.

    Returns:
        The mean (NaN if a seed has ended none yet), and whether all seeds had that many.
    """
    total, count = np.zeros(()), np.zeros(())
    for row in reversed(rows):
        ended = np.array(row["episodes"], float)
        mean = np.array(row["return"], float)  # None becomes NaN
        total = total + np.where(ended > 0, mean * ended, 0.0)
        count = count + ended
        if count.min() >= episodes:
            break
    if not rows or count.min() == 0:
        return math.nan, False
    return float((total / count).mean()), bool(count.min() >= episodes)


class MetricsLog:
    """Appends to `metrics.jsonl` and to TensorBoard; use it as a context manager.

    Args:
        file: the `metrics.jsonl`.
        tensorboard: folder of the event files.
        update: the update the run goes on from; whatever was logged later is cut off, since
            it is about to happen again.

    Raises:
        UsageError: rows before `update` are missing.
    """

    def __init__(self, file: Path, tensorboard: Path, update: int) -> None:
        from tensorboardX import SummaryWriter

        self.rows = [row for row in read_metrics(file) if row["update"] <= update]
        if [row["update"] for row in self.rows] != list(range(1, update + 1)):
            raise UsageError(
                f"{file} does not have every update up to {update}, the one of the checkpoint: "
                "put the file back, or start a new run"
            )
        aside = file.with_name(f".{file.name}")
        aside.write_text("".join(map(_line, self.rows)))
        aside.replace(file)
        self._file = file.open("a")
        steps = self.rows[-1]["env_steps"] + 1 if self.rows else None
        self._events = SummaryWriter(str(tensorboard), purge_step=steps)

    def write(self, row: Row) -> None:
        """Log one update."""
        self.rows.append(row)
        self._file.write(_line(row))
        self._file.flush()
        for name, values in row.items():
            known = [v for v in values if v is not None] if name not in CLOCK else []
            if known:
                self._events.add_scalar(name, float(np.mean(known)), row["env_steps"])

    def sync(self) -> None:
        """Have the system write all rows to the disk: a checkpoint must not outlive them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._events.close()


def make_row(update: int, env_steps: int, seconds: float, metrics: Mapping[str, np.ndarray]) -> Row:
    """A row from metrics of shape (S,) each."""
    clock = {"update": update, "env_steps": env_steps, "seconds": round(seconds, 3)}
    return clock | {
        name: [float(v) if math.isfinite(v) else None for v in values]
        for name, values in metrics.items()
    }


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
