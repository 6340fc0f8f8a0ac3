"""The return by episode of a trial shows what a policy learns within it."""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from ssmrl.agents import AGENTS
from ssmrl.cli import main
from ssmrl.envs import make
from ssmrl.envs.meta import FixedTask, Mixture, Trial
from ssmrl.envs.meta.t_maze import DOWN, FORWARD, UP
from ssmrl.envs.wrappers import EpisodeStatistics, PreviousStep
from ssmrl.errors import UsageError
from ssmrl.run.adaptation import (
    WipedEachEpisode,
    best_possible,
    by_environment,
    find_trial,
    play_trials,
)
from ssmrl.run.evaluate import PARALLEL, batches
from tests.agents.probes import Salary
from tests.envs.probes import run_once
from tests.run.fakes import FakeAgent

KEY = jax.random.key(0)


class Rat(NamedTuple):
    """Goes up at the junction of a T-maze of length 1, down where up has failed before."""

    def init_carry(self, batch_shape):
        return jnp.zeros(batch_shape, bool)

    def act(self, carry, obs, reset, key, greedy=False):
        failed = (obs["action"] == UP) & (obs["reward"][..., 0] < 0)
        carry = (carry & ~reset) | failed
        junction = obs["observation"]["observation"] == 2
        return carry, jnp.where(junction, jnp.where(carry, DOWN, UP), FORWARD), {}


def maze(episodes=3):
    env, params = make("meta/TMaze", length=1, episodes=episodes)
    return EpisodeStatistics(PreviousStep(env)), params


def test_the_return_rises_once_the_task_is_known_and_not_with_a_wiped_memory():
    env, params = maze()
    first = env.reset(KEY, params)[0]

    def both(key):
        wiped = WipedEachEpisode(Rat(), first)
        return [play_trials(p, env, params, key, 100, True) for p in (Rat(), wiped)]

    learns, wiped = map(np.asarray, run_once(both, KEY))
    up = learns[:, 0] > 0
    assert 30 < up.sum() < 70
    np.testing.assert_array_equal(learns[:, 1:], 4.0)
    np.testing.assert_array_equal(
        wiped, np.where(up, np.float32(4), np.float32(-0.1))[:, None] * [1, 1, 1]
    )


def test_the_best_possible_is_that_of_the_trials_that_are_played():
    env, _ = make("meta/DarkRoom", size=5, steps=6, episodes=2)
    env = PreviousStep(env)

    class Knows(NamedTuple):
        """Stays in the middle: pays where the goal is there, which it never is."""

        def init_carry(self, batch_shape):
            return jnp.zeros(batch_shape)

        def act(self, carry, obs, reset, key, greedy=False):
            return carry, jnp.where(obs["start"][..., 0] > 0, 2, 0), {}

    def run(key):
        returns = play_trials(Knows(), env, env.default_params, key, 200, True)
        return returns, best_possible(env, key, 200)

    returns, best = map(np.asarray, run_once(run, KEY))
    assert best.shape == (200,) and best.min() == 3
    # the goal below the middle pays at each of the 6 steps, if it is there that one waits
    assert (best[returns[:, 0] > 0] == 6).all() and 0 < (returns[:, 0] > 0).sum() < 30


def test_trials_of_several_mazes_are_told_by_episode_and_have_no_best_possible():
    mazes = [make("meta/TMaze", length=1, episodes=3)[0] for _ in range(2)]
    env = Mixture([EpisodeStatistics(PreviousStep(maze)) for maze in mazes])

    def run(key):
        return play_trials(Rat(), env, env.default_params, key, 100, True)

    returns = np.asarray(run_once(run, KEY))
    assert 30 < (returns[:, 0] > 0).sum() < 70
    np.testing.assert_array_equal(returns[:, 1:], 4.0)
    assert best_possible(env, KEY, 100) is None


class Idle(NamedTuple):
    """Always takes the first of the actions."""

    def init_carry(self, batch_shape):
        return jnp.zeros(batch_shape)

    def act(self, carry, obs, reset, key, greedy=False):
        return carry, jnp.zeros(reset.shape, jnp.int32), {}


def test_trials_of_several_environments_are_told_by_environment_too():
    games = [Salary(length=n) for n in (2, 3)]  # which is what an episode of it pays
    env = Mixture([Trial(FixedTask(game, game.default_params), 2) for game in games])

    def run(key):
        return play_trials(Idle(), env, env.default_params, key, 151, True)

    returns = np.asarray(run_once(run, KEY))
    assert batches(301, PARALLEL) == (151, 2)  # two times as many as were played
    lines = {"policy": np.concatenate([returns, returns])[None, :301]}
    parts = by_environment(env, lines)
    assert list(parts) == ["1 Salary", "2 Salary"]
    for part, paid, trials in zip(parts.values(), (2, 3), (152, 149), strict=True):
        np.testing.assert_array_equal(part["policy"], np.full((1, trials, 2), paid))
    one, none = {"policy": returns[None, :1]}, find_trial(maze()[0])
    assert by_environment(env, one) == by_environment(none, lines) == {}
    assert by_environment(EpisodeStatistics(env), lines) == {}  # chance says who is played


def test_an_environment_without_trials_is_refused():
    shorter = [make("meta/TMaze", length=1, episodes=n)[0] for n in (2, 3)]
    for env in (make("gymnax/CartPole-v1")[0], Mixture(shorter)):
        with pytest.raises(UsageError, match="one of the meta/"):
            find_trial(PreviousStep(env))


class FakeMetaAgent(FakeAgent):
    """Sees environments as a real agent does, and plays like a rat."""

    def __init__(self, config, memory, env, env_params):
        super().__init__(config, memory, *self.evaluation_env(env, env_params))

    def policy(self, state):
        return Rat()

    def evaluation_env(self, env, env_params):
        return EpisodeStatistics(PreviousStep(env)), env_params


def test_eval_saves_the_adaptation_and_report_draws_it(runner, capsys, monkeypatch):
    monkeypatch.setitem(AGENTS, "fake_meta", FakeMetaAgent)
    run = ["agent=fake_meta", "env=meta/TMaze", "env_args.length=1", "env_args.episodes=2"]
    runner.train("name=mine", "seeds=2", *run)
    assert main(["eval", "mine", "adaptation=true", "episodes=300", "env_args.episodes=3"]) == 0
    shown = capsys.readouterr().out
    assert all(f"episode {n}" in shown for n in (1, 2, 3))  # first, last trained on, last
    saved = json.loads(Path("runs/mine/report/adaptation.json").read_text())
    assert (saved["episodes"], saved["trained_episodes"], saved["trials"]) == (3, 2, 300)
    lines = saved["lines"]
    assert set(lines) == {"policy", "wiped", "best possible"}
    assert lines["best possible"]["first"] == lines["policy"]["last"] == 4.0
    assert lines["wiped"]["last"] == pytest.approx(lines["policy"]["first"])
    assert np.shape(lines["policy"]["return_per_seed"]) == (2, 3)
    # up is right in half of the mazes, and known to be from the second episode on: 4.1 and 0
    rise, beyond = lines["policy"]["changes"]
    assert [rise["from"], rise["to"], beyond["to"]] == [1, 2, 3]
    assert rise["per_seed"] == pytest.approx([4.0 - lines["policy"]["first"]] * 2)
    assert rise["ci95_per_seed"] == pytest.approx([1.96 * 4.1 / 2 / 300**0.5] * 2, rel=0.05)
    assert beyond["per_seed"] == lines["wiped"]["changes"][0]["per_seed"] == [0, 0]
    assert f"episode 1 to 2, by seed: {rise['per_seed'][0]:+.3f} ±" in shown
    assert "episode 2 to 3, by seed: +0.000 ± 0.000" in shown
    assert main(["report", "mine", "out=here"]) == 0
    picture = matplotlib.image.imread("here/adaptation.png")
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 4), axis=0)) > 50
