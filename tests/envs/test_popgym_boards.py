"""Our boards and bandits against the Python package, and how their hidden parts are drawn."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ssmrl.envs import make
from ssmrl.envs import popgym as ours
from ssmrl.envs.popgym.battleship import Battleship
from ssmrl.envs.popgym.board import CHOSEN, HIDING
from ssmrl.envs.popgym.minesweeper import MineSweeper
from ssmrl.envs.popgym.multiarmed_bandit import MultiarmedBandit
from ssmrl.errors import UsageError
from tests.envs.original import (
    assert_same_game,
    names_of,
    original_env,
    play_original,
    play_ours,
)
from tests.envs.probes import run_once

BOARDS = names_of(ours.ENVIRONMENTS, "Battleship", "MineSweeper")
BANDITS = names_of(ours.ENVIRONMENTS, "MultiarmedBandit")
POLICIES = ("random", "oracle", "adversarial", "constant")
SEEDS = (3, 4)


def choices(policy, steps, hidden, seed, battleship):
    """Squares to choose, (steps, 2), knowing what is hidden."""
    rng = np.random.default_rng(seed)
    wanted, others = np.argwhere(hidden == battleship), np.argwhere(hidden != battleship)
    if policy == "random":
        return rng.integers(len(hidden), size=(steps, 2))
    if policy == "oracle":
        return np.concatenate([rng.permutation(wanted), others, others])[:steps]
    if policy == "constant":
        return np.repeat(wanted[:1], steps, axis=0)
    if battleship:  # water, then the ships up to the last square, which the last step hits
        return np.concatenate([others, wanted])[:steps]
    return np.concatenate([wanted[:3], wanted[:1], others[-1:], wanted])[:steps]


@cache
def games(name):
    """[(policy, what the original did, what ours did)] for whole games, ours in one call."""
    env, params = make(f"popgym/{name}")
    real = original_env(name)
    cases, states, actions = [], [], []
    for seed in SEEDS:
        real.reset(seed=seed)
        battleship = name.startswith("Battleship")
        hidden = (real.board if battleship else real.hidden_grid).astype(bool)
        for policy in POLICIES:
            actions.append(choices(policy, env.episode_steps, hidden, seed, battleship))
            states.append(env.blank_state().replace(squares=jnp.asarray(hidden, jnp.int8)))
            cases.append((policy, play_original(real, seed, actions[-1])))
    played = play_ours(env, params, states, actions)
    return [(p, theirs, [x[b] for x in played]) for b, (p, theirs) in enumerate(cases)]


@pytest.mark.parametrize("name", BOARDS)
def test_whole_games_equal_the_originals_step_by_step(name):
    for policy, theirs, mine in games(name):
        assert_same_game(theirs, mine, policy)
        assert theirs[2][-1] or theirs[3][-1], "the game was not played to its end"
        total = mine[1][: len(theirs[1])].sum()
        if policy == "oracle":
            assert total == pytest.approx(1.0, abs=1e-4) and theirs[2][-1]
        if policy == "adversarial" and name.startswith("Battleship"):  # each square once
            assert total == pytest.approx(0.0, abs=1e-4)
            assert theirs[2][-1] and theirs[3][-1], "the last shot should end it twice"


@pytest.mark.parametrize("name", BANDITS)
def test_bandits_with_certain_odds_equal_the_originals(name):
    env, params = make(f"popgym/{name}")
    real, rng = original_env(name), np.random.default_rng(1)
    odds = rng.integers(2, size=env.arms).astype(np.float32)
    certain = {
        "random": rng.integers(env.arms, size=env.episode_steps),
        "oracle": np.full(env.episode_steps, odds.argmax()),
        "adversarial": np.full(env.episode_steps, odds.argmin()),
    }
    states = [env.blank_state().replace(odds=jnp.asarray(odds))] * len(certain)
    played = play_ours(env, params, states, list(certain.values()))
    for b, (policy, actions) in enumerate(certain.items()):
        theirs = play_original(real, 0, actions, lambda r: setattr(r, "bandits", odds))
        assert_same_game(theirs, [x[b] for x in played], policy)
        assert theirs[3][-1] and len(theirs[1]) == env.episode_steps
        if policy != "random":
            total = played[1][b].sum()
            assert total == pytest.approx({"oracle": 1, "adversarial": -1}[policy], abs=1e-4)


def test_the_odds_of_all_arms_are_drawn_anew_for_every_episode_and_kept_until_its_end():
    env = MultiarmedBandit(arms=2, steps=150)
    params = env.default_params

    def play(key):
        _, state = env.reset(key, params)

        def step(state, key):
            obs, after, *_ = env.step(key, state, jnp.int32(1), params)
            return after, (obs, state.odds)

        return jax.lax.scan(step, state, jax.random.split(key, 300))[1]

    paid, odds = map(np.asarray, run_once(jax.vmap(play), jax.random.split(jax.random.key(2), 400)))
    first, second = odds[:, 0], odds[:, 150]
    assert (odds[:, :150] == first[:, None]).all() and (odds[:, 150:] == second[:, None]).all()
    drawn = np.concatenate([first, second], axis=1).T
    assert all(stats.kstest(arm, "uniform").pvalue > 1e-3 for arm in drawn)
    assert abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.2
    share = paid[:, :149].mean(axis=1)  # the last observation is the next episode's first
    errors = (share - first[:, 1]) / np.sqrt(first[:, 1] * (1 - first[:, 1]) / 149 + 1e-4)
    assert abs(errors.mean()) < 4 / np.sqrt(400) and 0.8 < errors.std() < 1.2


def layouts(env, count=20_000):
    draw = jax.jit(jax.vmap(env.hide))
    return np.asarray(draw(jax.random.split(jax.random.key(7), count)))


def test_every_layout_of_mines_is_equally_likely():
    mined = layouts(MineSweeper(size=3, mines=2)).reshape(-1, 9)
    assert (mined.sum(axis=1) == 2).all()
    counts = np.unique(mined @ (1 << np.arange(9)), return_counts=True)[1]
    assert len(counts) == 36
    assert stats.chisquare(counts).pvalue > 1e-3


def ships_of_the_original(size, ships):
    """Chance of each board where ships are placed one after the other, as in the original:
    start square and direction drawn until the ship fits, so all places that fit are alike."""
    boards = {0: 1.0}
    for length in ships:
        after = {}
        line = [[(r, c + i) for i in range(length)] for r in range(size) for c in range(size)]
        places = [p for p in line if p[-1][1] < size]
        places += [[(c, r) for r, c in place] for place in places]
        masks = [sum(1 << (r * size + c) for r, c in place) for place in places]
        for board, chance in boards.items():
            free = [m for m in masks if not m & board]
            for mask in free:
                after[board | mask] = after.get(board | mask, 0) + chance / len(free)
        boards = after
    return boards


def test_ships_lie_as_in_the_original():
    env = Battleship(size=4, ships=(2, 2))
    boards = layouts(env).reshape(-1, 16)
    codes, counts = np.unique(boards @ (1 << np.arange(16)), return_counts=True)
    chances = ships_of_the_original(4, (2, 2))
    assert set(codes) <= set(chances) and len(codes) == len(chances)
    expected = np.array([chances[code] for code in codes]) * len(boards)
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_longer_ships_fill_the_squares_of_the_real_board_as_often_as_in_the_original():
    mine = layouts(Battleship(size=8), 4000).mean(axis=0)
    real = original_env("BattleshipEasy")
    theirs = np.zeros((8, 8))
    for seed in range(1500):
        real.reset(seed=seed)
        theirs += real.board / 1500
    error = np.sqrt(mine * (1 - mine) * (1 / 4000 + 1 / 1500))
    z = (mine - theirs) / error
    assert abs(z).max() < 4.5 and 0.6 < z.std() < 1.5
    assert theirs.sum() == pytest.approx(12) and mine.sum() == pytest.approx(12, abs=1e-4)


def test_each_game_has_a_board_of_its_own():
    env, params = make("popgym/MineSweeperEasy")

    def step(state, key):
        action = env.action_space(params).sample(key)
        _, after, _, terminated, truncated, _ = env.step(key, state, action, params)
        return after, (after.squares, after.time, terminated | truncated)

    def play(key):
        first = env.reset(key, params)[1]
        return first.squares, jax.lax.scan(step, first, jax.random.split(key, 40))[1]

    keys = jax.random.split(jax.random.key(3), 64)
    first, played = run_once(jax.vmap(play), keys)
    squares, time, done = map(np.asarray, played)
    hidden, first = squares & HIDING, np.asarray(first) & HIDING
    before = np.concatenate([first[:, None], hidden[:, :-1]], axis=1)
    assert (hidden[~done] == before[~done]).all(), "a board changed during a game"
    assert (hidden.sum(axis=(2, 3)) == 2).all()
    assert (squares < CHOSEN)[done].all() and not time[done].any()
    same = (hidden[done] == before[done]).all(axis=(1, 2)).mean()
    assert done.sum() > 300 and same < 3 / 120 + 0.03, "1 of 120 layouts comes twice by chance"


@pytest.mark.parametrize(
    "id, setting",
    [
        ("popgym/BattleshipEasy", {"size": 6}),
        ("popgym/BattleshipEasy", {"ships": (9,)}),
        ("popgym/BattleshipEasy", {"ships": ()}),
        ("popgym/MineSweeperEasy", {"mines": 14}),
        ("popgym/MineSweeperEasy", {"size": 1}),
        ("popgym/MultiarmedBanditEasy", {"arms": 0}),
        ("popgym/PositionOnlyCartPoleEasy", {"steps": 0}),
        ("popgym/PositionOnlyPendulumEasy", {"noise": -1.0}),
        ("popgym/LabyrinthEscapeEasy", {"size": 9}),
        ("popgym/LabyrinthEscapeEasy", {"steps": 1}),
        ("popgym/RepeatPreviousEasy", {"compat": "popjax"}),
    ],
)
def test_impossible_settings_are_refused(id, setting):
    with pytest.raises(UsageError, match=r"expected .*got"):
        make(id, **setting)
