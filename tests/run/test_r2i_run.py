"""A run of R2I: what is said at its start, and that a killed one goes on with its replay."""

import signal

import jax

from ssmrl.run.trained import load_trained
from tests.run.test_train import assert_same_bits

OPTIONS = [
    "experiment=r2i_smoke",
    "agent=r2i",
    "memory=s5",
    "env=gymnax/MemoryChain-bsuite",
    "total_steps=640",
    "checkpoint_every=4",
    "eval_episodes=4",
    "agent.start=stored",
    "agent.burn_in=1",
    "agent.sampler=time_balanced",
    "agent.replay_size=256",  # wraps after a few steps
]


def test_a_killed_run_goes_on_bit_for_bit_with_its_replay(runner):
    child = runner.child(["train", *OPTIONS, "name=cut"], SSMRL_TEST_SIGNAL="SIGKILL:7")
    assert child.returncode == -signal.SIGKILL, child.stderr
    whole = runner.train(*OPTIONS, "name=whole")
    assert_same_bits(runner.resume("cut"), whole)
    trained = load_trained(whole.path)
    assert (jax.device_get(trained.state.replay.size) == 64).all()
    # what was said before anything was allocated is what the rows take
    size = sum(x.nbytes for x in jax.tree.leaves(trained.state.replay.rows))
    note = f"replay {size / 1000:.1f} kB on device for each seed (64 rows of 4 environments)"
    assert note == trained.agent.note and note in child.stdout
