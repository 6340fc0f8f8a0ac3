"""A run whose replay lies on disk: the numbers of one on the device, killed or not."""

import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from ssmrl.agents.hieros_config import HierosConfig
from ssmrl.agents.r2i_config import R2IConfig
from ssmrl.errors import UsageError
from ssmrl.run.trained import load_trained
from tests.run.test_r2i_run import OPTIONS
from tests.run.test_train import logged


def test_a_killed_run_with_its_replay_on_disk_equals_a_whole_one_on_the_device(runner):
    options = [*OPTIONS, "agent.replay_place=disk", "name=cut"]
    child = runner.child(["train", *options], SSMRL_TEST_SIGNAL="SIGKILL:7")
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert "on disk for each seed (64 rows of 4 environments)" in child.stdout
    files = Path("runs/cut/replay")
    files.rename("aside")
    with pytest.raises(UsageError, match="is not the replay that this run wrote"):
        runner.resume("cut")
    Path("aside").rename(files)
    cut, whole = runner.resume("cut"), runner.train(*OPTIONS, "name=whole")
    assert logged(cut) == logged(whole)
    shutil.rmtree(files)  # of no use but to train on
    a, b = load_trained(cut.path), load_trained(whole.path)
    jax.tree.map(np.testing.assert_array_equal, a.state.params, b.state.params)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=2", "a replay on disk serves one seed, got seeds=2"),
        ("agent.replay_size=100_000_000_000_000", "TB on disk, but .* left; lower agent.replay_s"),
    ],
)
def test_a_replay_that_cannot_be_is_refused_before_there_is_a_folder(runner, override, message):
    known = [o for o in OPTIONS if not o.startswith("agent.replay_size") or "seeds" in override]
    with pytest.raises(UsageError, match=message):
        runner.train(*known, "agent.replay_place=disk", override, "name=never")
    assert not Path("runs").exists()


def test_the_replays_of_all_seeds_have_to_fit_the_device_together(runner, monkeypatch):
    monkeypatch.setattr("ssmrl.run.replay_files.device_memory", lambda: 100_000)
    with pytest.raises(UsageError, match="lower seeds=1000 or"):
        runner.train(*OPTIONS, "seeds=1000", "name=never")
    assert not Path("runs").exists()


def test_a_place_that_an_agent_does_not_know_is_refused():
    with pytest.raises(UsageError, match=r"replay_place is one of device, disk; got 'dsk'"):
        R2IConfig(replay_place="dsk")
    with pytest.raises(UsageError, match="hieros keeps its replays on the device"):
        HierosConfig(replay_place="disk")
