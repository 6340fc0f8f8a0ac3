"""Key, door and goal, and ordered pads, against their rules in plain Python."""

from collections import deque
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import make
from ssmrl.envs.contract import contains
from ssmrl.envs.grid.oracle import FAR, oracle, score, steps_to_go
from ssmrl.errors import UsageError
from tests.envs.probes import run_once

BATCH, STEPS, LIMIT = 16, 120, 40
WORLDS = {
    "rooms": ("grid/KeyDoorGoal", {"subtask_reward": 0.25}),
    "large rooms": ("grid/KeyDoorGoal", {"size": 13, "observation": "image"}),
    "pads": ("grid/OrderedPads", {"observation": "image"}),
    "hidden order": ("grid/OrderedPads", {"order": "hidden", "pads": 4, "size": 6}),
}


def ahead_of(place, action, size):
    row, column = np.add(place, [(-1, 0), (1, 0), (0, -1), (0, 1)][action])
    return (row, column) if 0 <= row < size and 0 <= column < size else place


def after_walking_between_rooms(state, situation, action, size):
    """situation: place, has the key, is the door open. Also the reward, 0.25 for a subtask."""
    place, key, open_ = situation
    row, column = ahead_of(place, action, size)
    is_door = column == state.wall and row == state.door
    if column == state.wall and not (is_door and key):
        row, column = place
    now = (row, column), key or (row, column) == tuple(state.key), open_ or (is_door and key)
    won = (row, column) == tuple(state.goal)
    return now, won, won + 0.25 * (sum(now[1:]) - sum(situation[1:]))


def after_walking_over_pads(state, situation, action, size):
    """situation: place, turns of the pads that are lit."""
    place, lit = situation
    place = ahead_of(place, action, size)
    here = [int(t) for pad, t in zip(state.pads, state.turn, strict=True) if tuple(pad) == place]
    if here and here[0] not in lit[-1:]:
        lit = (*lit, *here)
        if lit != tuple(range(1, len(lit) + 1)):
            lit = (1,) if here == [1] else ()
    won = len(lit) == len(state.pads)
    return (place, lit), won, float(won)


def situation_of(state):
    place = tuple(state.place.tolist())
    if hasattr(state, "pads"):
        return place, tuple(range(1, int(state.progress) + 1))
    return place, bool(state.phase > 0), bool(state.phase > 1)


def rules(world):
    return after_walking_over_pads if hasattr(world, "pads") else after_walking_between_rooms


def shortest_way(walk, start, actions=4):
    """Steps to win from a situation, breadth first."""
    seen, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        for action in range(actions):
            there, won, _ = walk(here, action)
            if won:
                return seen[here] + 1
            if there not in seen:
                seen[there] = seen[here] + 1
                queue.append(there)
    return FAR


@cache
def played(name):
    """(env, trajectory) of an oracle that errs in one step of five; arrays (STEPS, BATCH, …)."""
    id, options = WORLDS[name]
    env, params = make(id, max_steps_in_episode=LIMIT, **options)

    def step(now, key):
        obs, state = now
        key_act, key_err, key_step = jax.random.split(key, 3)
        way = steps_to_go(env, state)
        err = jax.random.uniform(key_err) < 0.2
        random = env.action_space(params).sample(key_act)
        action = jnp.where(err, random, oracle(env, state))
        left = way[env.index(state)]
        obs_after, after, reward, terminated, truncated, info = env.step(
            key_step, state, action, params
        )
        final = info["final_observation"]
        out = (obs, env.symbols(state), env.image(state), state, action, left)
        return (obs_after, after), (*out, reward, terminated, truncated, final)

    def play(key):
        key_start, key_steps = jax.random.split(key)
        start = env.reset(key_start, params)
        return jax.lax.scan(step, start, jax.random.split(key_steps, STEPS))[1]

    def run(key):
        out = jax.vmap(play, out_axes=1)(jax.random.split(key, BATCH))
        return (*out, contains(env.observation_space(params), out[0]))

    *out, inside = run_once(run, jax.random.key(0), level=1)
    assert inside
    return env, jax.tree.map(np.asarray, out)


@pytest.mark.parametrize("name", WORLDS)
def test_every_step_is_by_the_rules_and_an_episode_ends_when_it_is_won_or_time_is_up(name):
    env, (_, _, _, states, action, _, reward, terminated, truncated, _) = played(name)
    begun = []
    for b in range(BATCH):
        at = [jax.tree.map(lambda x, t=t, b=b: x[t, b], states) for t in range(STEPS)]
        for t in range(STEPS - 1):
            now, won, paid = rules(env)(at[t], situation_of(at[t]), action[t, b], env.size)
            paid = paid if getattr(env, "subtask_reward", 0) else float(won)
            assert (reward[t, b], terminated[t, b]) == (paid, won)
            assert truncated[t, b] == (at[t].time + 1 == LIMIT and not won)
            if terminated[t, b] or truncated[t, b]:
                begun.append(at[t + 1])
            else:
                assert situation_of(at[t + 1]) == now
                assert at[t + 1].time == at[t].time + 1
    assert len(begun) > BATCH and terminated.sum() > truncated.sum() / 2
    assert all(state.time == 0 and not any(situation_of(state)[1:]) for state in begun)
    assert len({tuple(np.concatenate([x.ravel() for x in jax.tree.leaves(s)])) for s in begun}) > 10


@pytest.mark.parametrize("name", WORLDS)
def test_the_oracle_knows_the_length_of_the_shortest_way(name):
    env, (_, _, _, states, _, left, *_) = played(name)
    for t in range(0, STEPS, 10):
        for b in range(0, BATCH, 4):
            state = jax.tree.map(lambda x, t=t, b=b: x[t, b], states)
            walk = partial(rules(env), state, size=env.size)
            assert left[t, b] == shortest_way(walk, situation_of(state)) < LIMIT


@pytest.mark.parametrize("name", ["rooms", "hidden order"])
def test_an_oracle_that_does_not_err_takes_that_way_and_gets_all_there_is(name):
    id, options = WORLDS[name]
    env, params = make(id, **options)

    def run(key):
        starts = jax.vmap(env.start)(jax.vmap(jax.random.split)(jax.random.split(key, 32))[:, 0])
        left = jax.vmap(lambda s: steps_to_go(env, s)[env.index(s)])(starts)
        return left, score(env, params.replace(max_steps_in_episode=LIMIT), key, 32)

    left, (returns, lengths) = run_once(run, jax.random.key(3))
    np.testing.assert_array_equal(lengths, left)
    assert set(returns.tolist()) == ({1.5} if name == "rooms" else {1.0})


def some_states(states):
    return [(t, jax.tree.map(lambda x, t=t: x[t, 0], states)) for t in range(0, STEPS, 9)]


@pytest.mark.parametrize("name", WORLDS)
def test_planes_show_where_everything_is(name):
    env, (obs, symbols, _, states, *_) = played(name)
    for t, state in some_states(states):
        planes = symbols[t, 0].astype(bool)
        assert env.observation == "image" or (obs[t, 0] == planes).all()
        assert planes[(*state.place, -1)] and planes[..., -1].sum() == 1
        if name.endswith("rooms"):
            walls, door, key, goal = np.moveaxis(planes[..., :4], -1, 0)
            assert walls[:, state.wall].sum() == walls.sum() == env.size - 1
            assert not walls[state.door, state.wall]
            for plane, place, there in (
                (door, (state.door, state.wall), state.phase < 2),
                (key, tuple(state.key), state.phase < 1),
                (goal, tuple(state.goal), True),
            ):
                assert plane.sum() == plane[place] == there
            continue
        for i, (pad, turn) in enumerate(zip(state.pads, state.turn, strict=True)):
            assert planes[(*pad, i)] and planes[..., i].sum() == 1
            assert planes[(*pad, -2)] == (turn <= state.progress)
        assert planes[..., -2].sum() == state.progress


@pytest.mark.parametrize("name", ["large rooms", "pads"])
def test_a_picture_shows_in_colours_what_the_text_shows_in_letters(name):
    env, (obs, _, image, states, *_, final) = played(name)
    np.testing.assert_array_equal(obs, image)
    assert final.dtype == np.uint8 and final.shape == obs.shape == (STEPS, BATCH, 64, 64, 3)
    n, scale = env.size, 64 // env.size
    for t, state in some_states(states):
        head, *board = env.render(state, env.default_params).splitlines()
        assert head == f"step {state.time} of at most {25 * n}"
        board, foot = np.array([list(line) for line in board[:n]]), board[n:]
        assert board[tuple(state.place)] == "@" and (board == "@").sum() == 1
        picture = image[t, 0]
        assert (picture[n * scale :] == 192).all() and (picture[:, n * scale :] == 192).all()
        colors = picture[: n * scale : scale, : n * scale : scale]
        enlarged = np.kron(colors, np.ones((scale, scale, 1), np.uint8))
        np.testing.assert_array_equal(picture[: n * scale, : n * scale], enlarged)
        pairs = set(zip(board.ravel(), map(tuple, colors.reshape(-1, 3).tolist()), strict=True))
        letters = {letter for letter, _ in pairs}
        assert len(pairs) == len(letters) == len({color for _, color in pairs})
        if name == "pads":  # a lit one may be hidden by the agent
            strong = {letter for letter, color in pairs if letter.isdigit() and min(color) == 0}
            assert strong == letters.intersection(foot[0].removeprefix("lit: ").split())


@cache
def many_starts(id, **options):
    env, _ = make(id, **options)
    start = jax.vmap(env.start)
    return jax.tree.map(np.asarray, run_once(start, jax.random.split(jax.random.key(1), 2000)))


def test_rooms_are_placed_everywhere_with_agent_and_key_on_one_side_and_the_goal_on_the_other():
    s = many_starts("grid/KeyDoorGoal")
    assert set(s.wall.tolist()) == set(range(2, 6)) and set(s.door.tolist()) == set(range(8))
    assert (s.key[:, 1] < s.wall).all() and (s.place[:, 1] < s.wall).all()
    assert (s.goal[:, 1] > s.wall).all()
    assert (s.key != s.place).any(1).all()
    for what, columns in ((s.key, range(5)), (s.place, range(5)), (s.goal, range(3, 8))):
        assert {tuple(p) for p in what.tolist()} == {(r, c) for r in range(8) for c in columns}


def test_pads_never_touch_and_the_agent_starts_beside_them():
    s = many_starts("grid/OrderedPads", pads=8, order="hidden")
    apart = np.abs(s.pads[:, :, None] - s.pads[:, None]).max(-1) + 9 * np.eye(8, dtype=int)
    assert apart.min() == 2
    assert (s.pads != s.place[:, None]).any(-1).all()
    assert len({tuple(p) for p in s.place.tolist()}) == 64
    assert (np.sort(s.turn, 1) == np.arange(1, 9)).all() and len(np.unique(s.turn, axis=0)) > 1500


def test_order_and_layout_are_the_same_in_every_episode_where_they_are_fixed():
    s = many_starts("grid/OrderedPads", layout="fixed")
    assert len(np.unique(s.pads, axis=0)) == len(np.unique(s.turn, axis=0)) == 1
    assert len(np.unique(s.place, axis=0)) == 61
    assert len(np.unique(many_starts("grid/OrderedPads").pads, axis=0)) > 1000


@pytest.mark.parametrize(
    "id, options, message",
    [
        ("grid/KeyDoorGoal", {"size": 4}, "size: expected 5 to 64 cells a side, got 4"),
        ("grid/KeyDoorGoal", {"subtask_reward": True}, "subtask_reward: expected a number"),
        ("grid/KeyDoorGoal", {"observation": "pixels"}, "unknown observation 'pixels'.*image"),
        ("grid/OrderedPads", {"size": 65}, "size: expected 4 to 64 cells a side, got 65"),
        ("grid/OrderedPads", {"pads": 9}, "pads: expected 1 to 8 with size=8, got 9"),
        ("grid/OrderedPads", {"pads": 5, "size": 5}, "pads: expected 1 to 4 with size=5"),
        ("grid/OrderedPads", {"order": "random"}, "unknown order 'random'.*hidden"),
        ("grid/OrderedPads", {"layout": "hidden"}, "unknown layout 'hidden'"),
        ("pinpad/three", {"task": "nine"}, "unknown task 'nine'.*five"),
    ],
)
def test_an_impossible_world_is_refused(id, options, message):
    with pytest.raises(UsageError, match=message):
        make(id, **options)
