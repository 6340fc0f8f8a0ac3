"""What the wrappers add, at every step and at the start of every episode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import EpisodeStatistics, PreviousStep, make
from ssmrl.envs.contract import (
    Box,
    Discrete,
    MultiDiscrete,
    Tuple,
    contains,
    feature_size,
    flatten,
)
from ssmrl.errors import UsageError
from tests.envs.probes import Counter, CounterParams, run_once


def drive(env, params, actions, seed=0):
    """The reset observation, then everything each step returned, stacked over time."""

    def run(actions):
        first, state = env.reset(jax.random.key(seed), params)

        def step(state, x):
            obs, state, *rest = env.step(x[0], state, x[1], params)
            return state, (obs, *rest)

        keys = jax.random.split(jax.random.key(seed + 1), len(actions))
        return first, jax.lax.scan(step, state, (keys, actions))[1]

    return run_once(run, actions)


ACTIONS = jnp.array([1, 2, 3, 0, 1, 2, 3], jnp.int32)  # episodes of three steps, and one more


def test_the_first_observation_of_every_episode_has_no_past():
    env = PreviousStep(Counter())
    first, (obs, *_) = drive(env, env.default_params, ACTIONS)
    parts = ["observation", "action", "reward", "start"]
    assert list(env.observation_space(env.default_params).spaces) == parts
    assert sorted(first) == sorted(parts)
    assert (first["action"], first["reward"], first["start"]) == (4, 0, 1)
    assert obs["action"].tolist() == [1, 2, 4, 0, 1, 4, 3]
    assert obs["reward"][:, 0].tolist() == [1, 2, 0, 1, 2, 0, 1]
    assert obs["start"][:, 0].tolist() == [0, 0, 1, 0, 0, 1, 0]
    assert obs["observation"][:, 0].tolist() == [1, 2, 0, 1, 2, 0, 1]


def test_the_final_observation_carries_the_action_and_reward_that_ended_the_episode():
    env = PreviousStep(Counter())
    _, (_, reward, terminated, _, info) = drive(env, env.default_params, ACTIONS)
    final = info["final_observation"]
    assert terminated.tolist() == [False, False, True, False, False, True, False]
    np.testing.assert_array_equal(final["action"], ACTIONS)
    np.testing.assert_array_equal(final["reward"][:, 0], reward)
    assert final["observation"][:, 0].tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert not final["start"].any()


def test_a_truncated_episode_leaves_no_past_either():
    env = PreviousStep(Counter())
    params = CounterParams(max_steps_in_episode=2)
    _, (obs, _, terminated, truncated, _) = drive(env, params, ACTIONS[:4])
    assert not terminated.any() and truncated.tolist() == [False, True, False, True]
    assert obs["action"].tolist() == [1, 4, 3, 4]


@pytest.mark.parametrize(
    "space, none",
    [
        (Discrete(4), 4),
        (MultiDiscrete((2, 3)), [2, 3]),
        (Box(-1.0, 1.0, (2,)), [0.0, 0.0]),
        (Box(2.0, 3.0, (2,)), [0.0, 0.0]),
    ],
    ids=str,
)
def test_no_action_is_an_element_of_its_own_of_each_action_space(space, none):
    env = PreviousStep(Counter(space))
    params = env.default_params
    action = space.sample(jax.random.key(0))
    first, (obs, *_) = drive(env, params, jnp.stack([action] * 4))
    assert first["action"].tolist() == none
    np.testing.assert_array_equal(obs["action"][0], action)
    assert obs["action"][2].tolist() == none
    seen = env.observation_space(params)
    assert contains(seen, first) and contains(seen, obs)
    assert flatten(seen, obs).shape == (4, feature_size(seen))


def test_parts_can_be_switched_off():
    env = PreviousStep(Counter(), reward=False, start=False)
    first, _ = drive(env, env.default_params, ACTIONS)
    assert set(first) == set(env.observation_space(env.default_params).spaces)
    assert set(first) == {"observation", "action"}
    with pytest.raises(UsageError, match="switch on"):
        PreviousStep(Counter(), action=False, reward=False, start=False)


def test_actions_that_have_no_none_are_refused_at_construction():
    with pytest.raises(UsageError, match="Discrete, MultiDiscrete or Box"):
        PreviousStep(Counter(Tuple((Discrete(2),))))


def test_statistics_are_the_finished_episodes_at_its_end_and_running_before():
    env = EpisodeStatistics(Counter())
    _, (*_, info) = drive(env, env.default_params, ACTIONS)
    assert info["episode_return"].tolist() == [1, 3, 6, 1, 3, 6, 1]
    assert info["episode_length"].tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert info["episode_end"].tolist() == [False, False, True, False, False, True, False]
    assert info["episode_return"].dtype == jnp.float32
    assert info["episode_length"].dtype == jnp.int32


def test_wrappers_stack_in_either_order_and_keep_what_they_do_not_change():
    inner, params = make("popgym/ConcentrationEasy")
    both = PreviousStep(EpisodeStatistics(inner)), EpisodeStatistics(PreviousStep(inner))
    actions = jax.random.randint(jax.random.key(0), (230,), 0, 52)
    (_, one), (_, other) = (drive(env, params, actions) for env in both)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert other[-1]["episode_length"][103] == 104
    assert one[0]["start"][:, 0].nonzero()[0].tolist() == [103, 207]
    for env in both:
        assert (env.name, env.num_actions) == (inner.name, 52)
        assert env.action_space(params).n == 52
        assert env.default_params == params
