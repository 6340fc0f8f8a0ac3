"""What a report shows of a world model is what the model does."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ssmrl.agents.r2i_state import Learner, Params, Row, State
from ssmrl.cli import main
from ssmrl.envs.contract import Box, Dict, Discrete
from ssmrl.run import open_loop, world_model_report
from ssmrl.run.open_loop import OpenLoopRows
from ssmrl.run.world_model_report import first_episodes, kinds_of_reward, recall
from tests.envs.probes import run_once

BOARD = Box(0, 1, (4, 4, 2))
CAMERA = Box(0, 255, (8, 8, 3), jnp.uint8)
SEED = np.random.default_rng(0)


def opened(file):
    with Image.open(file) as image:
        return image.size, getattr(image, "n_frames", 1)


def test_a_first_episode_has_its_last_observation_and_nothing_of_the_next():
    seen = np.array([[0, 10], [1, 11], [0, 12], [1, 13], [2, 14]])
    last = np.array([[-1, -1], [2, -1], [-1, -1], [-1, -1], [-1, 15]])
    x = jnp.asarray(np.stack([seen, last], 1))
    ended = jnp.asarray(last >= 0)
    rows = Row(x, x, x, x, x, None)
    played = run_once(first_episodes, rows, ended)
    np.testing.assert_array_equal(played.there.T, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(played.rows.obs[:3, 0], [0, 1, 2])
    np.testing.assert_array_equal(played.rows.obs[:, 1], [10, 11, 12, 13, 14])


def test_pictures_are_shown_with_their_difference_and_end_in_white(tmp_path):
    truth = SEED.integers(0, 255, (6, 4, 8, 8, 3)).astype(np.uint8)
    predicted = truth.copy()
    predicted[3] = 255 - truth[3]
    there = np.ones((6, 4), bool)
    there[4:, 0] = False
    tiles = open_loop.compare(CAMERA, truth, predicted, there)
    np.testing.assert_allclose(tiles[1, 0], truth[:, 1] / 255)
    same = np.array([0, 1, 2, 4, 5])
    assert (tiles[1, 2, same] == 1).all()
    distance = np.abs(255 - 2.0 * truth[3, 1]).mean(axis=-1) / 255
    np.testing.assert_allclose(tiles[1, 2, 3, ..., 0], 1 - distance)
    assert (tiles[0, :, 4:] == 1).all() and (tiles[1, 0, 4:] < 1).any()

    space = Dict({"camera": CAMERA, "speed": Box(-1, 1, (2,))})
    speed = SEED.normal(size=(6, 4, 2))
    both = ({"camera": pixels, "speed": speed} for pixels in (truth, predicted))
    rows = OpenLoopRows(*both, there, context=2)
    files = open_loop.draw(space, rows, tmp_path, "seen")
    assert [f.name for f in files] == ["seen_camera.png", "seen_camera.gif", "seen_speed.png"]
    sizes, frames = zip(*map(opened, files), strict=True)
    assert frames == (1, 6, 1) and min(size[0] for size in sizes) >= open_loop.WIDTH


def test_planes_of_a_board_are_told_apart_by_colour():
    assert open_loop.is_picture(BOARD)
    assert not any(map(open_loop.is_picture, (Discrete(3), Box(-1, 1, (4, 4, 2)))))
    board = np.zeros((3, 4, 4, 2), np.float32)
    board[1, 0, 0, 0] = board[1, 0, 1, 1] = 1
    colours = open_loop.in_colours(BOARD, board)
    assert len(np.unique(colours[1].reshape(-1, 3), axis=0)) == 3
    assert (colours[[0, 2]] == 1).all()


def test_errors_are_those_of_rows_that_an_episode_has():
    truth = np.arange(5.0)[:, None, None].repeat(2, 1)
    predicted = truth.copy()
    predicted[4, 0] += 1
    there = np.array([[1, 1], [1, 1], [1, 1], [1, 0], [0, 0]], bool)
    space = Box(0, 10, (1,))
    error = open_loop.errors(space, OpenLoopRows(truth, predicted, there, 2))["observation"]
    variance = np.var(truth[there])
    assert error["predicted"] == [0, 0, 0, 0]
    np.testing.assert_allclose(error["unchanged"], np.array([0, 0, 1, 4]) / variance)


def test_rewards_are_told_apart_by_sign_and_else_by_whether_there_is_one():
    there = np.ones((2, 40), bool)
    signs = np.repeat([[-1.0], [1.0]], 40, 1)
    gains = np.repeat([[0.0], [1.0]], 40, 1)
    rows = [[int(t) for t in np.unique(kind[:, 0])] for kind in kinds_of_reward(signs, there)]
    assert rows == [[0], [1]]
    rows = [[int(t) for t in np.unique(kind[:, 0])] for kind in kinds_of_reward(gains, there)]
    assert rows == [[1], [0]]
    assert len(kinds_of_reward(np.arange(1.0, 81.0).reshape(2, 40), there)) == 1
    assert kinds_of_reward(np.ones((2, 40)), there) == []


class RemembersTheFirst:
    """Predicts as the reward whatever it observed where the episode began."""

    def open_loop(self, latent, previous_action, obs, action, reset, context, key):
        reward = jnp.sum(jnp.where(reset, obs, 0), axis=0) * jnp.ones(obs.shape)
        return SimpleNamespace(reward=reward)


def test_the_reward_is_known_from_where_the_cue_is_of_the_same_episode(monkeypatch):
    model = RemembersTheFirst()
    monkeypatch.setattr(world_model_report, "merged", lambda graph, params: model)
    start = SimpleNamespace(init_carry=lambda batch: (jnp.zeros(batch), jnp.zeros(batch)))
    agent = SimpleNamespace(policy=lambda state: start, graphs=SimpleNamespace(model=None))
    learner = Learner(Params(None, None, None), None, None, None)
    state = State(learner, None, None, None, None)
    obs, reward = SEED.normal(size=(2, 8, 60)).astype(np.float32)
    obs[0] = np.sign(obs[0])
    reward[:] = 0
    reward[6] = obs[0]
    there = np.ones((8, 60), bool)
    there[7] = False
    rows = Row(jnp.asarray(obs), jnp.zeros((8, 60)), reward, None, None, None)
    played = world_model_report.Played(rows, there)
    curve = recall(agent, state, played, jax.random.key(0))
    assert curve.rows == [1, 2, 3, 4, 5, 6] and curve.measure == "accuracy"
    assert curve.score[-1] == 1 and max(curve.score[:-1]) < 0.8


def test_the_report_of_a_run_shows_its_world_model(runner, tmp_path, capsys):
    run = runner.train(
        "experiment=r2i_smoke", "agent=r2i", "memory=s5", "env=gymnax/MemoryChain-bsuite",
        "total_steps=256", "eval_episodes=4", "name=dream",
    )  # fmt: skip
    assert opened(run.report / "losses_dream.png")[0][0] > 1000
    runner.train("name=other")
    assert main(["report", "dream", "other", f"out={tmp_path / 'out'}"]) in (None, 0)
    made = {file.name for file in (tmp_path / "out").iterdir()}
    expected = {"losses_dream.png", "open_loop_dream.png", "memory_dream.png"}
    assert made - {"curve.png", "table.md", "summary.json"} == expected | {"world_model_dream.json"}
    printed = capsys.readouterr().out
    assert all(name in printed for name in expected)
    figures = json.loads((tmp_path / "out" / "world_model_dream.json").read_text())
    assert figures["memory"]["rows"] == [1, 2, 3, 4]
    assert len(figures["open_loop"]["observation"]["predicted"]) == 5  # the whole episode
