"""Wiping the memory of a policy every k steps shows how much of it is used."""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.cli import main
from ssmrl.envs import make
from ssmrl.errors import UsageError
from ssmrl.run.forced_reset import Forgetful, forced_reset

KEY = jax.random.key(0)


class LastBit(NamedTuple):
    """Solves FlipFlop: remembers the bit last written; 0 before."""

    def init_carry(self, batch_shape):
        return jnp.zeros(batch_shape, jnp.int32)

    def act(self, carry, obs, reset, key, greedy=False):
        carry = jnp.where(reset, 0, carry)
        carry = jnp.where(obs[..., 0] == 0, obs[..., 1], carry)
        return carry, carry, {}


class Clock(NamedTuple):
    """Acts with the number of steps since its last reset."""

    def init_carry(self, batch_shape):
        return jnp.zeros(batch_shape, jnp.int32)

    def act(self, carry, obs, reset, key, greedy=False):
        carry = jnp.where(reset, 0, carry + 1)
        return carry, carry, {}


def test_the_return_rises_with_the_memory_that_is_left():
    env, params = make("probe/FlipFlop", length=24, ignore=0.6)
    curve = forced_reset(LastBit(), env, params, KEY, (1, 2, 4, 8, 24, None), episodes=200)
    assert curve.every[-1] is None and curve.returns.shape == (6, 200)
    mean = curve.returns.mean(axis=1)
    assert (np.diff(mean) >= 0).all() and (curve.returns[-2] == curve.returns[-1]).all()
    # a memory of nothing names 0, right half of the time
    assert abs(mean[0] / mean[-1] - 0.5) < 0.05 and mean[2] < 0.85 * mean[-1]


def test_the_memory_is_wiped_every_k_steps_of_each_episode():
    policy = Forgetful(Clock(), 3)
    reset = jnp.zeros((10, 2), bool).at[0].set(True).at[4, 1].set(True)

    def step(carry, reset):
        carry, action, _ = policy.act(carry, None, reset, KEY)
        return carry, action

    _, actions = jax.lax.scan(step, policy.init_carry((2,)), reset)
    assert actions[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert actions[:, 1].tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 1, 2]


def test_a_wrong_k_and_an_endless_episode_are_refused():
    env, params = make("probe/FlipFlop")
    for every in ((), (0, 1)):
        with pytest.raises(UsageError, match="at least one k, all >= 1"):
            forced_reset(LastBit(), env, params, KEY, every)
    env, params = make("gymnax/CartPole-v1")
    with pytest.raises(UsageError, match="did not end within"):
        forced_reset(
            Clock(), Endless(env), params.replace(max_steps_in_episode=3), KEY, (1,), episodes=2
        )


class Endless(NamedTuple):
    """An environment whose episodes do not end, whatever its parameters say."""

    env: object

    def reset(self, key, params):
        return self.env.reset(key, params)

    def step(self, key, state, action, params):
        obs, state, reward, end, _, info = self.env.step(key, state, 0, params)
        no = jnp.zeros_like(end)
        return obs, state, reward, no, no, info


def test_a_run_is_evaluated_with_its_memory_wiped(runner, capsys):
    runner.train("name=mine")
    settings = ["greedy=false", "env_args.pay=action", "forget_every=3"]
    assert main(["eval", "mine", *settings, "episodes=40"]) == 0
    assert "sampled, memory wiped every 3 steps, 40 episodes" in capsys.readouterr().out
    saved = json.loads(Path("runs/mine/report/eval.json").read_text())
    # 2 at each reset, else 0: a long episode of 9 steps has three of them, a short one has one
    assert saved["forget_every"] == 3 and saved["length"] > 1
    assert saved["return"] == pytest.approx(2 + (saved["length"] - 1) / 2)
    assert main(["eval", "mine", "forget_every=0"]) == 2
    assert "forget_every: expected at least 1, got 0" in capsys.readouterr().err
