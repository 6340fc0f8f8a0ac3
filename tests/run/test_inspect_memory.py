"""`ssmrl inspect memory=...` tells the half-lives of the state, as text and as a picture."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from ssmrl.cli import main
from ssmrl.run.inspect_memory import bins


def test_half_lives_are_counted_by_factors_of_two():
    lives = np.array([0.0, 0.5, 1.0, 3.0, 9.0, np.inf])
    assert bins(lives) == ([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, np.inf], [2, 1, 1, 0, 1, 1])
    assert bins(np.array([0.5])) == ([0.0, 1.0, 2.0], [1, 0])
    assert bins(np.array([np.inf])) == ([0.0, 1.0, 2.0, np.inf], [0, 0, 1])


def test_the_histogram_of_s5_lies_between_the_half_lives_of_its_step_lengths(capsys):
    options = ["memory.state=16", "memory.dt_min=0.01", "memory.dt_max=0.1", "memory.layers=1"]
    assert main(["inspect", "memory=s5", *options, "out=pictures/s5.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("capabilities" in line for line in lines)
    rows = [line.split() for line in lines if "steps" in line and "–" in line]
    counted = {float(low): int(number) for low, _, _, _, number, *_ in rows}
    assert sum(counted.values()) == 8
    assert all(low in (8, 16, 32, 64, 128) for low, n in counted.items() if n)  # 14 to 139 steps
    assert image.imread("pictures/s5.png").shape[0] > 100
    assert "saved: pictures/s5.png" in lines


def test_a_memory_that_carries_nothing_has_no_picture(capsys):
    assert main(["inspect", "memory=mlp"]) == 0
    out = capsys.readouterr().out
    assert "0 numbers, 0 bytes" in out and "half-lives" not in out
    assert not list(Path().glob("*.png"))


@pytest.mark.parametrize("out", ["picture.nothing", "/proc/picture.png"])
def test_a_picture_that_cannot_be_saved_is_a_mistake(capsys, out):
    assert main(["inspect", "memory=gru", "memory.features=4", f"out={out}"]) == 2
    assert f"cannot draw into {out}" in capsys.readouterr().err
