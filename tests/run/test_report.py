"""Reports: the figures are right, the files are there."""

import json

import matplotlib.image
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.run import report
from ssmrl.run.directory import RunDirectory


@pytest.fixture
def runs(runner):
    one = runner.train("name=one", "seeds=3", "stop_at_return=0.5", "total_steps=2000")
    return [one, runner.train("name=two", "agent.rate=0.02", "agent.episodes=[0,7]")]


def test_a_report_of_several_runs_is_a_picture_a_table_and_json(runs, tmp_path):
    report.write(runs, tmp_path / "out")
    picture = matplotlib.image.imread(tmp_path / "out" / "curve.png")
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 4), axis=0)) > 100
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert table[0].startswith("| run | environment | memory |")
    assert len({line.count("|") for line in table[:4]}) == 1
    assert "fake/RandomLength" in table[2] and "two" in table[3]
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["run"] for row in rows] == ["one", "two"]
    assert len(rows[0]["curve"]["return_per_seed"]) == 3
    assert rows[0]["config"]["agent"]["rate"] == 0.1
    assert rows[1]["curve"]["return_per_seed"][0][1] is None


def test_the_figures_of_a_run_are_those_of_its_metrics(runs):
    row = report.summarise(runs[0])
    returns = np.array(row["curve"]["return_per_seed"])
    assert row["best"] == pytest.approx(returns.max(axis=1).mean())
    assert row["steps_to_threshold"] == row["env_steps"]  # it stopped there
    assert row["final_return"] >= row["threshold"] == 0.5
    assert row["final_ci95"] > 0
    assert report.summarise(runs[0], threshold=9.0)["steps_to_threshold"] is None
    assert report.summarise(runs[1])["final_ci95"] is None


def test_a_run_without_metrics_has_no_report(tmp_path):
    with pytest.raises(UsageError, match="no metrics yet"):
        report.summarise(RunDirectory(tmp_path))
