"""The task: which ball pays, what is asked for next, when it ends, and what is told."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssmrl.envs import make
from ssmrl.envs.contract import contains
from ssmrl.envs.memory_maze import MemoryMaze
from ssmrl.envs.memory_maze.body import TOUCH, at_rest
from ssmrl.envs.memory_maze.driver import NOWHERE, explore, oracle
from ssmrl.envs.memory_maze.layout import SIZES, WALL
from ssmrl.envs.memory_maze.recording import record, save_video, write_dataset
from ssmrl.envs.memory_maze.state import measurements, sight
from ssmrl.envs.memory_maze.textures import TARGETS
from ssmrl.errors import UsageError
from tests.envs.memory_maze_original import episode, first_mazes, recorded
from tests.envs.probes import run_once

FORWARD = 1


def first_state(size="9x9", seed=0, **options):
    """An environment and a state in the original's maze of that seed."""
    env = MemoryMaze(size=size, observation="state", **options)
    maze = jax.tree.map(lambda x: x[seed], first_mazes(size))
    return env, run_once(lambda key: env.state_from_maze(key, maze), jax.random.key(seed))


@pytest.mark.parametrize("size", ["9x9", "15x15"])
def test_recorded_drives_are_paid_as_they_were(size):
    env, state = first_state(size)
    drive = episode("", f"bfs_{size}_s0_mj2.3.1.npz")
    targets = jnp.asarray(drive["targets_pos"])

    def step(_, now):
        start, end, goal, key = now
        way = start + jnp.linspace(0.0, 1.0, 26)[1:, None] * (end - start)
        apart = jnp.linalg.norm(way[:, None] - targets, axis=-1)
        before = state.replace(targets=targets, goal=goal)
        after, reward = env.touch(key, before, jnp.any(apart <= TOUCH, axis=0))
        return None, (reward, after.goal)

    poses = jnp.asarray(drive["agent_pos"])
    asked = jnp.asarray(drive["target_ix"], jnp.int32)
    keys = jax.random.split(jax.random.key(0), len(poses) - 1)
    play = lambda *now: jax.lax.scan(step, None, now)[1]  # noqa: E731
    reward, goal = run_once(play, poses[:-1], poses[1:], asked[:-1], keys)
    ours, theirs = np.flatnonzero(reward), np.flatnonzero(drive["reward"][1:])
    assert len(ours) == len(theirs) >= 5
    assert np.abs(ours - theirs).max() <= 1
    assert (np.asarray(goal)[ours] != np.asarray(asked)[:-1][ours]).all()


def test_only_the_ball_that_is_asked_for_pays_and_another_is_asked_for_then():
    env, state = first_state("15x15")

    def touch(key, met):
        after, reward = env.touch(key, state.replace(goal=jnp.int32(2)), met)
        return reward, after.goal, after.asked, after.time

    keys = jax.random.split(jax.random.key(0), 600)
    both = jnp.stack([jnp.arange(6) == 2, jnp.arange(6) == 3, jnp.arange(6) < 0])
    reward, goal, asked, time = run_once(
        jax.vmap(jax.vmap(touch, (0, None)), (None, 0)), keys, both
    )
    np.testing.assert_array_equal(np.unique(reward[0]), [1])
    np.testing.assert_array_equal(reward[1:], 0)
    np.testing.assert_array_equal(goal[1:], 2)
    np.testing.assert_array_equal(asked, np.array([[1], [0], [0]]).repeat(600, 1))
    assert (np.asarray(time) == 1).all()
    counts = np.bincount(np.asarray(goal[0]), minlength=6)
    assert counts[2] == 0 and np.abs(counts[[0, 1, 3, 4, 5]] - 120).max() < 40


def test_a_ball_is_touched_from_the_originals_distance():
    env, state = first_state()
    target = state.targets[state.goal]

    def reach(distance):
        body = at_rest(target + jnp.stack([distance, jnp.float32(0)]), jnp.float32(0))
        return env.advance(jax.random.key(0), state.replace(body=body), jnp.int32(0))[1]

    paid = run_once(jax.vmap(reach), jnp.array([0.0, 0.387, 0.388, 0.45]))
    np.testing.assert_array_equal(paid, [1, 1, 0, 0])


def test_an_episode_is_as_long_as_the_originals_and_only_truncated():
    limits = [make(f"memory_maze/{size}")[1].max_steps_in_episode for size in SIZES]
    assert limits == [1000, 2000, 3000, 4000]
    env, params = make("memory_maze/15x15", observation="state", level="fast")
    _, state = first_state("15x15")

    def last_steps(state):
        def step(state, key):
            result = env.step(key, state, jnp.int32(0), params)
            return result[1], (result[1].time, *result[3:5])

        state = state.replace(time=state.time + params.max_steps_in_episode - 2)
        return jax.lax.scan(step, state, jax.random.split(jax.random.key(0), 3))[1]

    time, terminated, truncated = run_once(last_steps, state)
    assert not terminated.any()
    np.testing.assert_array_equal(truncated, [False, True, False])
    np.testing.assert_array_equal(time, [params.max_steps_in_episode - 1, 0, 1])


def begin(**options):
    """128 first states."""
    env, params = make("memory_maze/9x9", observation="state", **options)
    keys = jax.random.split(jax.random.key(3), 128)
    return jax.tree.map(np.asarray, run_once(jax.vmap(lambda k: env.reset(k, params)[1]), keys))


beginnings = cache(begin)


def test_episodes_begin_in_any_room_looking_anywhere_with_any_ball_asked_for():
    start = beginnings()
    cells = np.floor(start.body.position).astype(int) + 1
    room = start.maze.cells[np.arange(128), cells[:, 1], cells[:, 0]]
    assert set(room) == {2, 3, 4, 5}
    assert np.bincount(start.goal).min() > 25
    assert np.histogram(start.body.heading, 4, (-np.pi, np.pi))[0].min() > 15
    assert set(start.blocks.ravel()) == set(range(8))
    np.testing.assert_array_equal(start.colors, np.tile([0, 1, 2], (128, 1)))
    for targets, objects in zip(start.targets, start.maze.objects, strict=True):
        assert {*map(tuple, targets - 0.5)} <= {*map(tuple, objects)}


def test_numbered_places_are_the_same_at_every_visit():
    start = beginnings(mazes=64, shuffle_colors=True)
    places = {
        (m.tobytes(), b.tobytes(), t.tobytes(), c.tobytes())
        for m, b, t, c in zip(
            start.maze.cells, start.blocks, start.targets, start.colors, strict=True
        )
    }
    assert 32 < len(places) <= 64
    assert len(np.unique(start.body.heading)) == 128
    others = beginnings(mazes=64, first_maze=64)
    assert not {p[0] for p in places} & {m.tobytes() for m in others.maze.cells}


def test_a_pool_is_drawn_from():
    pool = jax.tree.map(lambda x: x[:5], first_mazes("9x9"))
    start = begin(pool=pool)
    given = {np.asarray(m).tobytes() for m in pool.cells}
    assert {m.tobytes() for m in start.maze.cells} == given
    with pytest.raises(UsageError, match="not both"):
        MemoryMaze(pool=pool, mazes=3)
    with pytest.raises(UsageError, match=r"expected cells \(P, 17, 17\), got \(5, 11, 11\)"):
        MemoryMaze(size="15x15", pool=pool)


def test_shuffled_colours_are_different_ones_of_six():
    colors = beginnings(mazes=64, shuffle_colors=True).colors
    assert set(colors.ravel()) == set(range(6))
    assert all(len(set(row)) == 3 for row in colors)


def test_a_new_colour_is_shown_for_as_long_as_asked():
    env, state = first_state(cue_steps=3)

    def prompts(state):
        def wait(state, _):
            after, _ = env.touch(jax.random.key(0), state, jnp.zeros(3, bool))
            return after, env.observe_state(state)["prompt"].sum()

        return jax.lax.scan(wait, state, length=5)[1]

    np.testing.assert_array_equal(run_once(prompts, state), [1, 1, 1, 0, 0])
    again = state.replace(time=state.time + 9, asked=state.asked + 8)
    np.testing.assert_array_equal(run_once(prompts, again), [1, 1, 0, 0, 0])


@pytest.mark.parametrize("size", ["9x9", "13x13"])
def test_measurements_equal_the_recorded_ones(size):
    trace = episode(f"{size}_s0/")
    _, state = first_state(size)

    def tell(position, heading):
        body = at_rest(position, heading)
        targets = jnp.asarray(trace["targets_pos"])
        return measurements(state.replace(body=body, targets=targets))

    heading = np.arctan2(trace["agent_dir"][:, 1], trace["agent_dir"][:, 0])
    told = run_once(jax.vmap(tell), jnp.asarray(trace["agent_pos"]), jnp.asarray(heading))
    np.testing.assert_allclose(told["agent_dir"], trace["agent_dir"], atol=1e-5)
    np.testing.assert_allclose(told["targets_vec"], trace["targets_vec"], atol=1e-4)
    np.testing.assert_array_equal(told["maze_layout"][0], trace["layout"])
    goal = int(state.goal)
    np.testing.assert_array_equal(told["target_vec"], told["targets_vec"][:, goal])
    np.testing.assert_allclose(told["target_color"][0], TARGETS[goal])


def test_without_pixels_a_ball_is_told_of_where_a_pixel_shows_it():
    _, state = first_state()
    poses = jnp.asarray(recorded("render_9x9_s0_mj2.3.1.npz")["pose_grid_xy_theta"])
    targets = jnp.asarray(recorded("seeds0-63_initial_states.npz")["9x9/targets"][0])

    def tell(pose):
        there = state.replace(body=at_rest(pose[:2], pose[2]), targets=targets)
        return sight(there, jnp.array(True)), measurements(there)["targets_vec"]

    told, vectors = run_once(jax.vmap(tell), poses)
    seen = np.asarray(told["balls"])[:, :3, 0] > 0
    pixels = recorded("render_9x9_s0_mj2.3.1.npz")["seg"]
    shown = np.stack([(pixels == 10 + k).sum((1, 2)) for k in range(3)], axis=1)
    aside, ahead = np.moveaxis(np.asarray(vectors), -1, 0)
    centred = np.abs(aside) < 0.9 * (ahead - 0.075)
    np.testing.assert_array_equal(seen, (shown > 0) & centred)
    assert seen.sum() >= 8
    told_of = 9 * np.asarray(told["balls"])[:, :3, 1:] + [0, 0.075]
    np.testing.assert_allclose(told_of[seen], np.asarray(vectors)[seen], atol=1e-4)
    assert (np.asarray(told["balls"])[:, 3:] == 0).all()


def test_all_that_is_told_lies_in_its_space():
    env, params = make("memory_maze/9x9", observation="extra", level="fast", resolution=16)
    obs = run_once(lambda key: env.reset(key, params)[0], jax.random.key(0))
    assert contains(env.observation_space(params), obs)
    assert obs["image"].shape == (16, 16, 3) and obs["targets_vec"].shape == (3, 2)


def test_the_oracle_collects_many_balls_and_random_actions_few():
    env = MemoryMaze(observation="state")
    steps, batch = 250, 16

    def play(key):
        key_start, key_play = jax.random.split(key)
        maze = jax.tree.map(lambda x: x[:batch], first_mazes("9x9"))
        start = jax.vmap(env.state_from_maze)(jax.random.split(key_start, batch), maze)

        def step(states, key):
            key_act, key_step = jax.random.split(key)
            keys = jax.random.split(key_step, batch)
            random = jax.random.randint(key_act, (batch,), 0, 6)
            led, paid = jax.vmap(env.advance)(keys, states[0], jax.vmap(oracle)(states[0]))
            lost, found = jax.vmap(env.advance)(keys, states[1], random)
            return (led, lost), (paid, found)

        return jax.lax.scan(step, (start, start), jax.random.split(key_play, steps))[1]

    paid, found = jax.tree.map(lambda x: x.sum(0), run_once(play, jax.random.key(0)))
    assert paid.mean() > 6 and paid.min() >= 2  # the original's scripted driver: 7
    assert found.mean() < 1


def test_a_data_set_has_the_originals_keys_and_a_video_is_written(tmp_path):
    maze = jax.tree.map(lambda x: x[:3], first_mazes("9x9"))
    env = MemoryMaze(level="fast", resolution=16, pool=maze)
    params = env.default_params
    paths = write_dataset(tmp_path, env, params, jax.random.key(0), explore, NOWHERE, 2, steps=40)
    assert [p.name for p in paths] == ["000000.npz", "000001.npz"]
    with np.load(paths[0]) as file:
        episode = dict(file)
    keys = "image action reward maze_layout agent_pos agent_dir targets_pos targets_vec"
    assert set(episode) == {*keys.split(), "target_pos", "target_vec", "target_color"}
    assert {len(x) for x in episode.values()} == {41}
    assert episode["image"].dtype == np.uint8 and episode["maze_layout"].shape == (41, 9, 9)
    np.testing.assert_array_equal(episode["action"].sum(1), [0] + [1] * 40)
    assert episode["reward"][0] == 0
    cell = np.floor(episode["agent_pos"]).astype(int)
    assert episode["maze_layout"][np.arange(41), cell[:, 1], cell[:, 0]].all()
    assert np.ptp(episode["agent_pos"], axis=0).max() > 1
    save_video(tmp_path / "film.gif", episode["image"])
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames > 20 and film.size == (64, 64)
    with pytest.raises(UsageError, match=r"written as .gif"):
        save_video(tmp_path / "film.mp4", episode["image"])


def test_a_picture_shows_the_view_and_the_maze_from_above():
    env, state = first_state(level="fast")
    picture = np.asarray(env.render(state, env.default_params))
    assert picture.shape == (256, 512, 3) and picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": "10x10"}, "unknown size '10x10'; nearest: .*'11x11'"),
        ({"level": "exakt"}, "nearest: 'exact'"),
        ({"observation": "images"}, "nearest: 'image'"),
        ({"resolution": 50}, "multiple of 8, got 50"),
        ({"mazes": 0}, "mazes: expected 1 or more"),
        ({"cue_steps": 0}, "cue_steps: expected 1 or more"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make("memory_maze/9x9", **options) if "size" not in options else MemoryMaze(**options)


def test_the_body_stays_in_the_maze_whatever_is_done():
    env, _ = make("memory_maze/9x9", observation="state", level="fast")

    def play(key):
        keys = jax.random.split(key, 1000)
        maze = jax.tree.map(lambda x: x[:8], first_mazes("9x9"))
        start = jax.vmap(env.state_from_maze)(keys[:8], maze)

        def step(states, key):
            action = jnp.repeat(jax.random.randint(key, (1,), 0, 6), 8)
            states, _ = jax.vmap(env.advance)(jax.random.split(key, 8), states, action)
            return states, states.body.position

        return jax.lax.scan(step, start, keys)[1], start.maze.cells

    path, cells = run_once(play, jax.random.key(0))
    assert np.isfinite(path).all()
    x, y = np.moveaxis(np.floor(np.asarray(path)).astype(int) + 1, -1, 0)
    assert (np.asarray(cells)[np.arange(8), y, x] != WALL).all()


def test_an_episode_can_be_recorded_under_the_oracle():
    env = MemoryMaze(level="fast", resolution=8, pool=first_mazes("9x9"))
    lead = lambda key, carry, state: (carry, oracle(state))  # noqa: E731
    episode = record(env, env.default_params, jax.random.key(2), lead, steps=60)
    assert episode["reward"].sum() >= 1 and episode["reward"].shape == (61,)


def test_new_episodes_compile_nothing_and_a_batch_plays_as_each_alone():
    options = {"observation": "state", "level": "fast", "max_steps_in_episode": 2}
    env, params = make("memory_maze/9x9", pool=first_mazes("9x9"), **options)
    keys = jax.random.split(jax.random.key(5), 7)
    _, alone = env.reset(keys[0], params)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), alone)
    together = jax.jit(jax.vmap(env.step, (None, 0, None, None)))
    compiled = []
    for key in keys[1:]:
        obs, alone, *flags = env.step(key, alone, jnp.int32(FORWARD), params)
        many, batch, *_ = together(key, batch, jnp.int32(FORWARD), params)
        compiled.append((MemoryMaze.step._cache_size(), together._cache_size()))
        for ours, theirs in zip(jax.tree.leaves(many), jax.tree.leaves(obs), strict=True):
            np.testing.assert_allclose(ours[1], theirs, rtol=1e-5, atol=1e-5)
    assert flags[2]  # the third episode has ended
    assert len(set(compiled)) == 1
