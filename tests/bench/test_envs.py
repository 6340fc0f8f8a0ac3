"""Environments against the packages they were ported from."""

import pytest

from ssmrl.bench import envs

SMALL = {"batch": 2, "steps": 3, "original_steps": 60, "repeats": 1, "cores": 1}


def test_ours_and_the_original_play_and_are_compared():
    (row,) = envs.run(ids=["popgym/RepeatFirstEasy"], **SMALL)
    assert row["env"] == "popgym/RepeatFirstEasy"
    assert row["ratio"] == pytest.approx(row["ours_steps_per_s"] / row["original_steps_per_s"])
    assert row["compile_s"] > 0


def test_without_the_original_ours_is_measured_alone(monkeypatch):
    monkeypatch.setattr(envs, "find_spec", lambda name: None)
    (row,) = envs.run(ids=["popgym/RepeatFirstEasy"], **SMALL)
    assert row["ours_steps_per_s"] > 0
    assert row["original_steps_per_s"] is None and row["ratio"] is None
    assert envs._original("memory_maze/9x9") is None
