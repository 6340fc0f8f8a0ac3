"""Evaluation counts whole first episodes, and nothing else."""

import jax
import numpy as np
import pytest

from ssmrl import envs
from ssmrl.envs.meta import Mixture
from ssmrl.errors import UsageError
from ssmrl.run.evaluate import evaluate, half_width, summarise
from tests.agents.probes import Salary
from tests.run.fakes import FakeAgent, LengthParams, RandomLength

KEY = jax.random.key(3)


def trained(seeds, **arguments):
    agent = FakeAgent(FakeAgent.Config(), None, *envs.make("fake/RandomLength", **arguments))
    return agent, jax.vmap(agent.init)(jax.random.split(jax.random.key(0), seeds))


def test_short_episodes_are_not_favoured():
    agent, state = trained(seeds=2)
    episodes = evaluate(agent, state, KEY, 600)
    assert episodes.returns.shape == episodes.lengths.shape == (2, 600)
    assert set(np.unique(episodes.lengths)) == {1, 9}
    np.testing.assert_array_equal(episodes.returns, episodes.lengths)
    # mean 5, deviation 4; counting all episodes that end in a while would give 1.8
    assert abs(episodes.returns.mean() - 5) < 4 * 4 / np.sqrt(1200)
    assert (episodes.returns[0] != episodes.returns[1]).any()


def test_the_first_step_and_only_the_first_is_marked_as_a_reset():
    agent, state = trained(seeds=1, pay="action")
    episodes = evaluate(agent, state, KEY, 50, greedy=False)
    np.testing.assert_array_equal(episodes.returns, np.full((1, 50), 2.0))


def test_the_policy_is_told_whether_to_be_greedy():
    agent, state = trained(seeds=1, pay="action")
    episodes = evaluate(agent, state, KEY, 50, greedy=True)
    np.testing.assert_array_equal(episodes.returns, 2 + (episodes.lengths - 1))


def test_the_same_key_gives_the_same_episodes_somewhere_else_too():
    agent, state = trained(seeds=1)
    params = LengthParams(long=5)
    once, again = (evaluate(agent, state, KEY, 20, True, RandomLength(), params) for _ in range(2))
    np.testing.assert_array_equal(once.returns, again.returns)
    assert once.lengths.max() == 5


class Endless(RandomLength):
    """Never ends, whatever its parameters say."""

    def step_env(self, key, state, action, params):
        obs, state, reward, _, info = super().step_env(key, state, action, params)
        return obs, state, reward, state.time < 0, info

    def is_truncated(self, state, params):
        return state.time < 0


def test_an_episode_that_does_not_end_is_an_error():
    agent, state = trained(seeds=1)
    with pytest.raises(UsageError, match="3 episodes did not end within 21 steps"):
        evaluate(agent, state, KEY, 3, True, Endless(), LengthParams())


def test_rounds_are_as_even_as_can_be_so_that_a_mixture_plays_all_alike():
    env = Mixture([Salary(length=2), Salary(length=3)])
    agent, state = trained(seeds=1)
    lengths = evaluate(agent, state, KEY, 10, True, env, env.default_params, parallel=8).lengths
    assert lengths.tolist() == [[2, 2, 2, 3, 3] * 2]


def test_the_interval_is_that_of_student():
    # scipy.stats.t.interval(0.95, 3, loc=2.5, scale=sem) of 1, 2, 3, 4 is 2.5 ± 2.0542
    assert half_width(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(2.0542, abs=1e-4)
    assert half_width(np.array([1.0])) == 0


def test_the_summary_has_a_mean_and_an_interval_for_every_seed():
    agent, state = trained(seeds=3)
    summary = summarise(evaluate(agent, state, KEY, 10))
    assert len(summary["return_per_seed"]) == len(summary["ci95_per_seed"]) == 3
    assert summary["return"] == pytest.approx(np.mean(summary["return_per_seed"]))
