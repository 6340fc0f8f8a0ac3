"""Runs: what is kept, what is refused, and that a killed run goes on bit for bit."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from omegaconf import OmegaConf

from ssmrl.errors import UsageError
from ssmrl.run import checkpoint, interrupt
from ssmrl.run.directory import RunDirectory
from ssmrl.run.logging import read_metrics
from ssmrl.run.trained import load_trained


def logged(run):
    """The metrics without the clock."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(run.metrics)]


def assert_same_bits(one, other):
    assert logged(one) == logged(other)
    a, b = load_trained(one.path), load_trained(other.path)
    assert a.update == b.update
    for x, y in zip(jax.tree.leaves(a.state), jax.tree.leaves(b.state), strict=True):
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def test_a_run_keeps_its_configuration_versions_metrics_checkpoint_and_report(runner):
    run = runner.train("name=mine", "seeds=2", "checkpoint_every=15")
    rows = read_metrics(run.metrics)
    meta = json.loads(run.meta.read_text())
    assert run.path.as_posix() == "runs/mine"
    assert OmegaConf.load(run.config).seeds == 2
    assert [row["env_steps"] for row in rows] == list(range(10, 401, 10))
    assert all(len(row["loss"]) == 2 and row["loss"][0] != row["loss"][1] for row in rows)
    assert checkpoint.updates(run.checkpoints) == [30, 40]
    assert {"jax", "numpy", "ssmrl", "python"} <= meta["versions"].keys()
    assert meta["sessions"][0]["compile_seconds"] > 0
    assert list(run.tensorboard.glob("events*"))
    evaluation = json.loads((run.report / "evaluation.json").read_text())
    assert len(evaluation["return_per_seed"]) == 2 and evaluation["update"] == 40
    assert "runs/mine/report/curve.png" in runner.printed


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_terminated_run_saves_and_goes_on_bit_for_bit(runner, seeds):
    whole = runner.train("name=whole", f"seeds={seeds}")
    child = runner.train_in_child("SIGTERM:13", "name=cut", f"seeds={seeds}")
    assert child.returncode == 0, child.stderr
    assert "ssmrl resume runs/cut" in child.stdout
    cut = RunDirectory.find("cut")
    assert checkpoint.updates(cut.checkpoints) == [13]
    assert_same_bits(runner.resume("cut"), whole)


def test_a_killed_run_goes_on_bit_for_bit_even_from_the_checkpoint_before_the_last(runner):
    whole = runner.train("name=whole", "checkpoint_every=10")
    child = runner.train_in_child("SIGKILL:27", "name=cut", "checkpoint_every=10")
    assert child.returncode == -signal.SIGKILL
    cut = RunDirectory.find("cut")
    assert len(logged(cut)) == 27 and checkpoint.updates(cut.checkpoints) == [10, 20]
    truncate(next(f for f in (cut.checkpoints / "20").rglob("d/*") if f.stat().st_size > 50))
    with cut.metrics.open("a") as file:
        file.write('{"update": 28, "env_st')  # a line that the kill cut off
    assert_same_bits(runner.resume("cut"), whole)
    assert "checkpoint 20 is damaged" in runner.printed


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_the_real_agent_goes_on_bit_for_bit_after_a_signal(runner, name):
    tiny = [
        "agent=in_context",
        "memory=s5",
        "env=gymnax/MemoryChain-bsuite",
        "env_args.memory_length=3",
        "agent.num_envs=4",
        "agent.rollout=8",
        "agent.minibatches=2",
        "agent.encoder=[8]",
        "agent.head=[8]",
        "memory.features=8",
        "memory.state=8",
        "memory.layers=1",
        "total_steps=384",
        "checkpoint_every=4",
        "eval_episodes=4",
    ]
    child = runner.child(["train", *tiny, "name=cut"], SSMRL_TEST_SIGNAL=f"{name}:7")
    assert child.returncode == (0 if name == "SIGTERM" else -signal.SIGKILL), child.stderr
    assert_same_bits(runner.resume("cut"), runner.train(*tiny, "name=whole"))


def test_a_run_without_a_checkpoint_starts_over(runner):
    child = runner.train_in_child("SIGKILL:3", "name=cut")
    cut = RunDirectory.find("cut")
    assert child.returncode == -signal.SIGKILL and not checkpoint.updates(cut.checkpoints)
    assert_same_bits(runner.resume("cut"), runner.train("name=whole"))


def test_twice_the_steps_continue_the_same_run(runner):
    runner.train("name=half", "total_steps=200")
    half = runner.resume("half", "total_steps=400")
    assert logged(half) == logged(runner.train("name=whole"))
    assert OmegaConf.load(half.config).agent.total_steps == 400
    assert [s["update"] for s in json.loads(half.meta.read_text())["sessions"]] == [0, 20]


def test_a_complete_run_is_not_resumed(runner):
    runner.train("name=done")
    with pytest.raises(UsageError, match=r"complete after 40 updates.*total_steps"):
        runner.resume("done")


def test_a_run_ends_early_at_the_return_that_was_asked_for(runner):
    run = runner.train("stop_at_return=0.9", "name=early", "total_steps=4000")
    rows = read_metrics(run.metrics)
    assert 25 < len(rows) < 400  # 100 episodes take 29 updates
    assert sum(row["episodes"][0] for row in rows) >= 100
    assert json.loads((run.report / "summary.json").read_text())[0]["final_return"] >= 0.9


def test_a_folder_with_something_in_it_is_refused(runner):
    runner.train("name=mine")
    with pytest.raises(UsageError, match="ssmrl resume runs/mine"):
        runner.train("name=mine")


def test_a_second_process_on_the_same_run_is_refused(runner):
    run = runner.train("name=mine", "total_steps=100")
    with run.lock(), pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
        runner.resume("mine", "total_steps=200")
    runner.resume("mine", "total_steps=200")


def test_an_unknown_run_names_the_nearest(runner):
    runner.train("name=first_try", "total_steps=10")
    with pytest.raises(UsageError, match="nearest in runs: first_try"):
        runner.resume("frist_try")


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(runner):
    with pytest.raises(UsageError, match=r"loss of seed 0 is not finite at update 23.*rate"):
        runner.train("name=bad", "agent.diverge_at=23", "checkpoint_every=10")
    bad = RunDirectory.find("bad")
    assert checkpoint.updates(bad.checkpoints) == [10, 20]
    assert logged(bad)[-1]["loss"] == [None]


def test_a_parameter_that_is_no_number_is_never_saved(runner):
    with pytest.raises(UsageError, match=r"parameter .*seed 0 is not finite at update 20"):
        runner.train("name=bad", "agent.poison_at=20", "checkpoint_every=10")
    assert checkpoint.updates(RunDirectory.find("bad").checkpoints) == [10]


def test_updates_in_which_no_episode_ends_are_fine(runner):
    run = runner.train("name=slow", "agent.episodes=[0,1]", "total_steps=100")
    assert [row["return"][0] is None for row in logged(run)] == [False, True] * 5


def test_a_mistake_in_the_configuration_leaves_no_folder(runner, tmp_path):
    with pytest.raises(UsageError):
        runner.train("agent=in_context", "agent.num_envs=6", "agent.minibatches=4")
    assert not (tmp_path / "runs").exists()


def test_the_first_interrupt_asks_and_the_second_one_stops_at_once():
    said = []
    before = signal.getsignal(signal.SIGINT)
    with interrupt.requested(said.append) as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop() and said
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
