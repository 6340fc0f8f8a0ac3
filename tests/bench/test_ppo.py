import sys

import pytest

from ssmrl.bench import ppo

TINY = {"d": 4, "layers": 1, "num_envs": 2, "rollout": 3, "epochs": 1, "minibatches": 1}


@pytest.fixture
def trained(monkeypatch):
    """How often each side made an update; ours is replaced by a count."""
    counts = {"ssmrl": 0, "original": 0}

    def count(side):
        def update():
            counts[side] += 1

        return update

    monkeypatch.setattr(ppo, "_ours", lambda *_: (count("ssmrl"), 7, 0.5))
    monkeypatch.setattr(ppo, "_recurrent_ppo", lambda *_, **__: (count("original"), 8))
    return counts


def test_both_sides_train_in_turns_and_ours_is_given_as_a_multiple(trained):
    ours, original = ppo.run(updates=3, repetitions=2)
    assert trained == {"ssmrl": 9, "original": 3}
    assert (ours["parameters"], original["parameters"]) == (7, 8)
    assert (ours["compile_s"], original["compile_s"]) == (0.5, None)
    assert original["x_original"] == 1.0
    assert ours["x_original"] > 0


def test_the_original_can_be_left_out(trained):
    (row,) = ppo.run(updates=1, repetitions=1, original=False)
    assert row["x_original"] is None
    assert trained["original"] == 0


def test_our_agent_is_trained_for_real_and_alone_where_sb3_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    (row,) = ppo.run(**TINY, updates=1, repetitions=1)
    assert row["what"] == "ssmrl in_context, S5"
    assert row["compile_s"] > 0
    assert row["steps_per_s"] > 0
    assert row["parameters"] > 2 * 128**2
