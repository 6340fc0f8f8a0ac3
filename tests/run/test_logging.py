"""Metrics on disk, the moving mean return, and what is shown while training."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from ssmrl.errors import UsageError
from ssmrl.run.display import Display, chart, si
from ssmrl.run.logging import MetricsLog, make_row, moving_return, read_metrics
from ssmrl.run.report import smooth


def row(update, returns, episodes):
    values = {"return": np.array(returns), "episodes": np.array(episodes), "loss": np.ones(2)}
    return make_row(update, 10 * update, 0.5 * update, values)


def test_the_moving_mean_weighs_updates_by_their_episodes():
    rows = [row(1, [9.0, 9.0], [100, 100]), row(2, [1.0, 2.0], [30, 40]), row(3, [0, 4], [90, 60])]
    mean, enough = moving_return(rows)
    assert enough
    assert mean == pytest.approx(np.mean([(1 * 30 + 0 * 90) / 120, (2 * 40 + 4 * 60) / 100]))


def test_the_moving_mean_says_when_there_are_too_few_episodes():
    assert moving_return([row(1, [1.0, 3.0], [50, 60])]) == (2.0, False)
    mean, enough = moving_return([row(1, [1.0, math.nan], [200, 0])])
    assert math.isnan(mean) and not enough
    assert math.isnan(moving_return([])[0])


def test_the_curve_of_the_report_is_the_moving_mean():
    rng = np.random.default_rng(0)
    episodes = rng.integers(0, 40, size=(50, 1)).astype(float)
    returns = np.where(episodes > 0, rng.normal(size=(50, 1)), np.nan)
    rows = [row(i + 1, returns[i], episodes[i]) for i in range(50)]
    expected = [moving_return(rows[: i + 1])[0] for i in range(50)]
    np.testing.assert_allclose(smooth(returns, episodes)[:, 0], expected)


def test_a_log_is_cut_back_to_the_update_it_goes_on_from(tmp_path):
    file = tmp_path / "metrics.jsonl"
    with MetricsLog(file, tmp_path / "events", 0) as log:
        for update in (1, 2, 3):
            log.write(row(update, [math.nan, 1.0], [0, 1]))
    with MetricsLog(file, tmp_path / "events", 2) as log:
        assert [r["update"] for r in log.rows] == [1, 2]
        log.write(row(3, [5.0, math.inf], [1, 1]))
    assert [json.loads(line) for line in file.read_text().splitlines()] == log.rows
    assert [r["return"] for r in read_metrics(file)] == [[None, 1.0], [None, 1.0], [5.0, None]]


def test_a_log_that_lacks_updates_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not have every update up to 4"):
        MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "events", 4)


def shown(terminal, width=100):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, height=30)
    with Display("title", 100, seeds=2, target=0.9, console=console) as display:
        display.start(0, 1.5)
        for update in (1, 2, 3):
            display.update(row(update, [0.5, 0.25 * update], [100, 100]), 0.3 * update)
    return console.file.getvalue()


def test_a_terminal_shows_a_panel():
    text = Text.from_ansi(shown(terminal=True)).plain
    for part in ("title", "30 of 100 steps", "× 2 seeds", "return 0.900", "stop 0.900", "█", "╰"):
        assert part in text


def test_anything_else_gets_plain_lines():
    text = shown(terminal=False)
    assert "\x1b" not in text and "╰" not in text
    assert text.splitlines()[:2] == ["title: compiling", "compiled in 1.5 s"]
    assert "update 3" in text.splitlines()[-1] and "return 0.900" in text.splitlines()[-1]


@pytest.mark.parametrize("width", [20, 60])
def test_a_narrow_terminal_is_no_problem(width):
    assert "╰" in shown(terminal=True, width=width)


def test_the_chart_rises_with_its_values():
    lines = chart([0.0, 1.0, 2.0, 3.0], width=4, rows=2)
    assert lines == ["  ▃█", "▁▆██"]
    assert chart([1.0, 1.0], width=2, rows=1) == ["▁▁"]


def test_large_numbers_are_short():
    assert [si(v) for v in (0, 950, 12_345, 1.5e6)] == ["0", "950", "12.3 k", "1.5 M"]
