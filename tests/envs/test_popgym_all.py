"""What holds for all 48 environments: spaces, a uniform policy's scores, pictures."""

import json
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import EpisodeStatistics, make
from ssmrl.envs import popgym as ours
from ssmrl.envs.contract import Box, Discrete, MultiDiscrete, Tuple
from ssmrl.envs.popgym.board import CHOSEN, HIDING
from tests.envs.original import level, original_env
from tests.envs.probes import run_once

NAMES = list(ours.ENVIRONMENTS)
RECORD = json.loads(Path(__file__).with_name("popgym_original.json").read_text())
EPISODES = 2000


def test_there_are_sixteen_families_of_three():
    assert len(NAMES) == 48
    assert len({n.removesuffix(level(n)) for n in NAMES}) == 16


def sizes(space):
    """Numbers of values, or bounds, for spaces of ours and of gymnasium alike."""
    if isinstance(space, Discrete | gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, MultiDiscrete | gymnasium.spaces.MultiDiscrete):
        return [int(n) for n in space.nvec]
    if isinstance(space, Box | gymnasium.spaces.Box):
        bounds = [np.broadcast_to(b, space.shape) for b in (space.low, space.high)]
        return space.shape, [np.float32(b).tolist() for b in bounds]
    assert isinstance(space, Tuple | gymnasium.spaces.Tuple)
    return tuple(map(sizes, space.spaces))


@pytest.mark.parametrize("name", NAMES)
def test_spaces_are_those_of_the_original(name):
    env, params = make(f"popgym/{name}")
    mine = [sizes(env.observation_space(params)), sizes(env.action_space(params))]
    if name.startswith("Labyrinth"):  # the original needs mazelib even for its spaces
        assert mine == [[5] * 10, 4]
        return
    real = original_env(name)
    assert mine == [sizes(real.observation_space), sizes(real.action_space)]
    assert params.max_steps_in_episode == env.episode_steps


def random_episodes(name, batch=EPISODES // 2):
    """Returns and lengths of the first two episodes in each of `batch` environments."""
    inner, params = make(f"popgym/{name}")
    env = EpisodeStatistics(inner)
    space = inner.action_space(params)
    shape = (batch, *space.shape)

    def step(state, key):
        key_act, key_step = jax.random.split(key)
        if isinstance(space, Box):
            action = jax.random.uniform(key_act, shape, minval=space.low, maxval=space.high)
        else:
            n = space.n if isinstance(space, Discrete) else space.nvec[0]
            action = jax.random.randint(key_act, shape, 0, n)
        keys = jax.random.split(key_step, batch)
        *_, state, _, _, _, info = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        return state, [info[k] for k in ("episode_return", "episode_length", "episode_end")]

    def play(key):
        _, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, batch), params)
        return jax.lax.scan(step, state, jax.random.split(key, 2 * inner.episode_steps))[1]

    level = int(name.startswith("Labyrinth"))  # up to 2,048 steps, each with a maze to draw
    total, length, end = map(np.asarray, run_once(play, jax.random.key(11), level=level))
    chosen = end & (end.cumsum(axis=0) <= 2)
    assert chosen.sum() == 2 * batch, "an episode took longer than the longest"
    return {"return": total[chosen], "length": length[chosen]}


@pytest.mark.parametrize("name", NAMES)
def test_a_uniform_policy_earns_what_it_earns_in_the_original(name):
    mine = random_episodes(name)
    assert RECORD["versions"]["popgym"] == "1.0.7"
    for what, theirs in RECORD["uniform_policy"][name].items():
        error = np.hypot(mine[what].std(ddof=1), theirs["std"]) / np.sqrt(EPISODES)
        # four standard errors; returns of float32 sums, where there is no spread
        assert abs(mine[what].mean() - theirs["mean"]) <= 4 * error + 1e-5, (name, what)


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_draws_itself(name):
    env, params = make(f"popgym/{name}")
    state = env.blank_state()
    picture = env.render(state, params)
    assert picture == env.render(jax.tree.map(np.asarray, state), params)
    assert picture.startswith(f"step 0 of at most {env.episode_steps}")
    later = env.render(state.replace(time=jnp.int32(1)), params)
    assert later.startswith(f"step 1 of at most {env.episode_steps}")
    assert all(len(line) <= 100 for line in picture.splitlines())


def drawn(name, **changes):
    """The lines of a picture behind the headline, of the blank state with some changes."""
    env, params = make(f"popgym/{name}")
    state = env.blank_state()
    if "deck" in changes:
        cards, dealt = changes.pop("deck")
        cards = jnp.asarray(cards, jnp.int8)
        state = state.replace(deck=state.deck.replace(cards=cards, dealt=jnp.int32(dealt)))
    changes = {k: jnp.asarray(v) for k, v in changes.items()}
    head, *lines = env.render(state.replace(**changes), params).splitlines()
    return head, "\n".join(lines)


def test_pictures_show_the_cards_dealt():
    suits = np.arange(52) % 4
    assert drawn("RepeatFirstEasy", deck=(suits, 5))[1] == "♠ ♦ ♣ ♥ ♠"
    ranks = np.arange(52) % 13
    assert drawn("HigherLowerEasy", deck=(ranks, 13))[1] == "A 2 3 4 5 6 7 8 9 T J Q K"
    head, cards = drawn("AutoencodeEasy", deck=(suits, 3), time=2)
    assert head.endswith("watch") and cards == "♠ ♦ ♣"
    head, cards = drawn("AutoencodeEasy", deck=(suits, 52), time=101)
    assert head.endswith("recite") and cards == "♠ ♦"
    counts = drawn("CountRecallEasy", deck=(np.arange(52) % 2, 3), time=2, counts=[2, 1])[1]
    assert counts == "how many B? dealt: B 2  R 1\nB R B"
    table = np.where(np.arange(52) < 4, np.arange(52) // 2, 13).astype(np.int8)
    face_up = np.arange(52) < 2
    head, cards = drawn("ConcentrationHard", table=table, face_up=face_up, first=2, found=1)
    assert head.endswith("1 of 26 pairs") and cards.startswith("A A 2 · ·")


def test_pictures_show_the_board():
    squares = np.zeros((4, 4), np.int8)
    squares[0, 0] = squares[1, 1] = HIDING
    squares[0, 1] = squares[3, 3] = CHOSEN
    board = "* 2 · ·\n· * · ·\n· · · ·\n· · · 0"
    assert drawn("MineSweeperEasy", squares=squares)[1] == board
    squares = np.zeros((8, 8), np.int8)
    squares[0, :3] = HIDING
    squares[0, 1] |= CHOSEN
    squares[1, 1] = CHOSEN
    assert drawn("BattleshipEasy", squares=squares)[1].startswith(
        "☐ ☒ ☐ · · · · ·\n· o · · · · · ·\n"
    )
    odds = np.array([0.0, 0.5, *[0.9] * 8], np.float32)
    assert drawn("MultiarmedBanditEasy", odds=odds)[1].splitlines()[:2] == [
        "  0  0.00 ",
        "  1  0.50 ##########",
    ]


def test_pictures_show_the_pole_the_rod_and_the_maze():
    head, picture = drawn("PositionOnlyCartPoleEasy", position=0.0, angle=np.radians(8))
    assert head.endswith("+0.00 m, +8.0 degrees")
    assert picture == " " * 24 + "/\n" + "─" * 20 + "█" + "─" * 20
    head, picture = drawn("PositionOnlyPendulumEasy", angle=np.pi / 2)
    assert "+90 degrees" in head and "@ * * * o" in picture.splitlines()[4]
    env, params = make("popgym/LabyrinthEscapeEasy")
    squares = np.ones((11, 11), np.int8)
    squares[1, :4] = [2, 0, 0, 0]
    squares[1, 10] = 3
    state = env.blank_state()
    state = state.replace(
        maze=state.maze.replace(squares=squares),
        place=np.array([1, 2]),
        explored=(squares == 0) & (np.arange(11) < 2),
    )
    assert env.render(state, params).splitlines()[2] == "S+@ ######G"
