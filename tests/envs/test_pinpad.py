"""Pin Pad against recordings of the original, and against its rules in plain Python."""

import hashlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import make
from ssmrl.envs.grid.oracle import score, steps_to_go
from ssmrl.envs.grid.pinpad import PADS, PinPadState
from tests.envs.probes import run_once
from tests.envs.test_grid import shortest_way

# Of danijar/director's embodied/envs/pinpad.py: where the agent was put (row, column), actions,
# and the first digits of the SHA-256 of all pictures and rewards (float32).
RECORDED = {
    "three": (
        [(6, 6), (7, 6), (1, 14)],
        "2244111111233221222231233334443444404222411141133322222333334444440411",
        "61c3599ec5d21290",
    ),
    "four": (
        [(12, 3), (12, 2), (10, 5)],
        "22212222221111331333333444444422223323333344444443112222222211113331333333444443444222"
        "2323333334444444111",
        "1ad817923fbb4710",
    ),
    "five": (
        [(12, 3), (12, 2), (10, 5)],
        "22212222211311133333332244444444223322233333311343444444442222222131331113333333224444"
        "444422322233333331134404444434",
        "45160b2e4abf28c9",
    ),
    "six": (
        [(12, 5), (10, 11), (7, 9)],
        "22222222244111111313333333322444443444444112322222323333333311322444444442222222444444"
        "4111111313333333322444444444411232222232333333331132244444444",
        "b43f1abea50e4e2e",
    ),
    "seven": (
        [(11, 12), (11, 14), (12, 5)],
        "22222222244444444411111111333333313322222244444444442323333333333111111414444122222222"
        "24444411111111333333031332222224444444444232333333333311111141444444414433322222022222"
        "22222224444444412444111111113333333133222222444444444423233333333334101111314144444441"
        "443332222222202",
        "1304bebbb590eaba",
    ),
    "eight": (
        [(2, 5), (7, 12), (2, 12)],
        "44111111113333333130322202224444444444232333333333311111141444421444144331232222222224"
        "44111111122222244444444411111111333333313321222222444444444423233333333331111114144444"
        "441443332222222224421411111",
        "daf159b18411db2b",
    ),
}


class Reference:
    """Pin Pad's rules and pictures in plain Python; places are (row, column)."""

    COLORS = ("f00", "0f0", "00f", "ff0", "f0f", "0ff", "800080", "008080")

    def __init__(self, tiles, spawns):
        self.tiles, self.spawns = tiles, list(spawns)
        self.target = list(range(1, tiles.max() + 1))
        self.place, self.visited, self.pause = self.spawns.pop(0), [], 0

    def step(self, action):
        if self.pause:
            self.pause -= 1
            if self.pause == 0:
                self.place, self.visited = self.spawns.pop(0), []
        row, column = np.add(self.place, [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)][action])
        tile = int(self.tiles[row, column])
        if tile >= 0:
            self.place = (int(row), int(column))
        if tile > 0 and self.visited[-1:] != [tile]:
            self.visited = [*self.visited, tile][-len(self.target) :]
        if self.visited != self.target or self.pause:
            return 0.0
        self.pause = 10
        return 10.0

    def image(self):
        grid = np.full((16, 16, 3), 192, np.uint8)
        for (row, column), tile in np.ndenumerate(self.tiles):
            if tile == 0:
                grid[row, column] = (223, 255, 223) if self.pause else 255
            if tile > 0:
                full = self.color(tile)
                here = tile == self.tiles[self.place]
                grid[row, column] = full if here else (10 * full + 90 * 255) / 100
        grid[self.place] = 0
        for i, tile in enumerate(self.visited):
            grid[14, 2 * i + 1] = self.color(tile)
        return np.kron(grid, np.ones((4, 4, 1), np.uint8))

    def color(self, tile):
        text = self.COLORS[tile - 1]
        text = text if len(text) == 6 else "".join(2 * c for c in text)
        return np.frombuffer(bytes.fromhex(text), np.uint8).astype(float)


@pytest.mark.parametrize("task", PADS)
def test_pin_pad_plays_and_looks_like_the_original(task):
    env, _ = make(f"pinpad/{task}", observation="symbolic")
    spawns, recorded, digest = RECORDED[task]
    rng = np.random.default_rng(0)
    wandering = np.repeat(rng.integers(0, 5, 120), 3)
    actions = np.concatenate([np.array(list(recorded), int), wandering]).astype(np.int32)
    other_places = map(tuple, env.free[rng.integers(0, len(env.free), 50)].tolist())
    reference = Reference(env.tiles, [*spawns, *other_places])
    start = reference.place
    images, rewards, symbols, upcoming = [reference.image()], [], [], []
    for action in actions:
        upcoming.append(reference.spawns[0])
        rewards.append(reference.step(action))
        images.append(reference.image())
        history = (reference.visited + [0] * env.pads)[: env.pads]
        symbols.append([*reference.place, *history, int(reference.pause > 0)])
    parts = [images[0].tobytes()]
    for reward, image in zip(rewards[: len(recorded)], images[1:], strict=False):
        parts += [np.float32(reward).tobytes(), image.tobytes()]
    assert hashlib.sha256(b"".join(parts)).hexdigest()[: len(digest)] == digest
    assert sum(rewards) >= 20

    def step(state, now):
        state, won = env.advance(state, *now)
        return state, (won, env.symbols(state), env.image(state))

    def run(actions, upcoming):
        zero = jnp.int32(0)
        first = PinPadState(zero, jnp.array(start), jnp.zeros(env.pads, jnp.int32), zero)
        return env.image(first), jax.lax.scan(step, first, (actions, upcoming))[1]

    first, (won, seen, pictures) = run_once(run, actions, np.array(upcoming, np.int32))
    np.testing.assert_array_equal(10 * won, rewards)
    np.testing.assert_array_equal(seen, symbols)
    np.testing.assert_array_equal(pictures, np.stack(images[1:]))
    np.testing.assert_array_equal(first, images[0])


@cache
def pin_pad_oracle():
    """(env, steps to go, returns of 24 episodes of 400 steps)."""
    env, params = make("pinpad/three", max_steps_in_episode=400)

    def run(key):
        return steps_to_go(env, env.start(key)), score(env, params, key, 24)[0]

    return env, *map(np.asarray, run_once(run, jax.random.key(0)))


def test_the_oracle_knows_the_length_of_the_shortest_sequence_of_pads():
    env, left, _ = pin_pad_oracle()
    left = left.reshape(3, 14, 16)

    walker = Reference(env.tiles, [(6, 6)])

    def walk(situation, action):
        walker.place, walker.visited, walker.pause = situation[0], list(situation[1]), 0
        paid = walker.step(action)
        return (walker.place, tuple(walker.visited)), paid > 0, paid

    for place, visited in (((6, 6), ()), ((2, 12), ()), ((12, 8), (2,)), ((1, 1), (3, 1))):
        done = 1 if visited[-1:] == (1,) else 0
        assert left[(done, *place)] == shortest_way(walk, (place, visited), actions=5)
    assert left[2, 6, 6] == shortest_way(walk, ((6, 6), (1, 2)), actions=5)


def test_after_a_sequence_the_agent_is_put_elsewhere_and_begins_anew():
    env, left, returns = pin_pad_oracle()
    # the tenth step after a reward is the first of the next sequence, and a blind one
    walk = left.reshape(3, 14, 16)[0][tuple(env.free.T)].mean()
    assert 10 * (400 / (11 + walk) - 0.5) < returns.mean() < 10 * 409 / (9 + walk)


def test_the_agent_is_put_anywhere_but_into_a_wall():
    env, _ = make("pinpad/seven")
    places = run_once(jax.vmap(env.spawn), jax.random.split(jax.random.key(0), 4000))
    found, counts = np.unique(np.asarray(places), axis=0, return_counts=True)
    assert (env.tiles[tuple(found.T)] >= 0).all()
    assert len(found) == 14 * 12 and counts.max() < 60


def test_the_text_of_pin_pad_shows_pads_agent_and_history():
    env, params = make("pinpad/four")
    zero = jnp.int32(0)
    state = PinPadState(zero + 3, jnp.array([6, 2]), jnp.array([2, 1, 0, 0]), zero)
    lines = env.render(state, params).splitlines()
    assert lines[0] == "step 3 of at most 10000" and lines[-1] == "visited: 2 1"
    assert lines[2] == "#1111......4444#" and lines[7] == "#.@............#"
    assert make("pinpad/four", observation="symbolic")[0].observation_space(params).shape == (7,)
