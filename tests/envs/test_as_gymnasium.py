"""Our environments pass for Gymnasium's."""

import warnings

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ssmrl.envs import make, to_gymnasium, to_gymnasium_vector
from ssmrl.errors import UsageError

IDS = [
    "popgym/RepeatPreviousEasy",  # Discrete
    "popgym/AutoencodeEasy",  # a Tuple of them
    "popgym/CountRecallEasy",  # MultiDiscrete observations
    "popgym/BattleshipEasy",  # MultiDiscrete actions
    "popgym/PositionOnlyPendulumEasy",  # Box, Box
    "gymnax/CartPole-v1",
]


@pytest.fixture(autouse=True)
def as_gymnax_is_written():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("id", IDS)
def test_gymnasiums_own_check_passes(id):
    env = to_gymnasium(*make(id))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*recommend using a symmetric and normalized.*")
        check_env(env, skip_render_check=True)


def test_the_seed_decides_and_the_end_shows_its_own_observation():
    env = to_gymnasium(*make("popgym/RepeatPreviousEasy"), render_mode="ansi")
    episodes = []
    for seed in (5, 5, 6):
        obs, _ = env.reset(seed=seed)
        seen, ended = [int(obs)], False
        while not ended:
            obs, reward, ended, truncated, info = env.step(0)
            assert obs in env.observation_space and isinstance(reward, float) and not truncated
            seen.append(int(obs))
        assert not {"final_observation", "terminated", "truncated"} & set(info)
        episodes.append(seen)
    assert len(episodes[0]) == 52 and sorted(episodes[0]) == sorted([0, 1, 2, 3] * 13)
    assert episodes[0] == episodes[1] != episodes[2]
    assert isinstance(env.render(), str)


def test_a_mode_that_there_is_not_is_answered_with_those_that_there_are():
    with pytest.raises(UsageError, match="known: ansi"):
        to_gymnasium(*make("popgym/RepeatPreviousEasy"), render_mode="rgb_array")
    assert to_gymnasium(*make("gymnax/CartPole-v1")).metadata["render_modes"] == []
    maze = make("memory_maze/9x9", observation="state")[0]
    assert to_gymnasium(maze).metadata["render_modes"] == ["rgb_array"]


def test_the_vector_form_resets_in_the_same_step_and_tells_the_last_observation():
    env, params = make("popgym/AutoencodeEasy", max_steps_in_episode=3)
    envs = to_gymnasium_vector(env, 4, params)
    assert isinstance(envs, gymnasium.vector.VectorEnv)
    first, _ = envs.reset(seed=2)
    again, _ = envs.reset(seed=2)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for step in range(1, 8):
        obs, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
        assert obs in envs.observation_space
        assert reward.shape == (4,) and reward.dtype == np.float64
        assert truncated.all() == (step % 3 == 0) and not terminated.any()
        assert ("final_obs" in info) == (step % 3 == 0)
        if step % 3 == 0:
            assert info["_final_obs"].all()
            assert info["final_obs"][2] in envs.single_observation_space
    with pytest.raises(UsageError, match="at least 1, got 0"):
        to_gymnasium_vector(env, 0)
