"""Atari through Gymnasium, prepared as in Atari 100k."""

import sys

import numpy as np
import pytest

from ssmrl.envs import make
from ssmrl.envs.contract import Box, Discrete, same_space
from ssmrl.errors import UsageError


def test_a_game_shows_small_coloured_pictures_and_acts_every_fourth_frame():
    env, params = make("gymnasium/ALE/Pong-v5", noops=0, max_steps_in_episode=3)
    assert same_space(env.observation_space(params), Box(0, 255, (64, 64, 3), np.uint8))
    assert same_space(env.action_space(params), Discrete(6))
    emulator = env.make()
    emulator.reset(seed=0)
    frame = emulator.unwrapped.ale.getFrameNumber()
    emulator.step(0)
    assert emulator.unwrapped.ale.getFrameNumber() == frame + 4
    emulator.close()
    envs = env.start(2)
    first = envs.reset(np.arange(2))
    answers = [envs.step(np.zeros(2, np.int32)) for _ in range(3)]
    envs.close()
    assert first.shape == (2, 64, 64, 3) and first.dtype == np.uint8 and first.std() > 1
    assert [a.truncated.tolist() for a in answers] == [[False] * 2, [False] * 2, [True] * 2]
    assert not any(a.terminated.any() for a in answers)


def test_games_are_played_without_chance_but_for_their_first_frames():
    env, _ = make("gymnasium/ALE/Breakout-v5", noops=0)
    games = [env.make() for _ in range(2)]
    for game, seed in zip(games, (0, 1), strict=True):
        game.reset(seed=seed)
    actions = np.random.default_rng(0).integers(0, 4, 40)
    played = [[game.step(action)[0] for action in actions] for game in games]
    np.testing.assert_array_equal(*played)
    assert not (np.array(played[0][0]) == played[0][-1]).all()


def test_options_reach_the_game_and_what_is_missing_is_named(monkeypatch):
    env, params = make("gymnasium/ALE/Breakout-v5", side=32, full_action_space=True)
    assert env.observation_space(params).shape == (32, 32, 3)
    assert env.action_space(params).n == 18
    with pytest.raises(UsageError, match="nearest: 'gymnasium/ALE/Pong-v5'"):
        make("gymnasium/ALE/Pnog-v5")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"pip install 'ssmrl\[atari\]'"):
        make("gymnasium/ALE/Pong-v5")
