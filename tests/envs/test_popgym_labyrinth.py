"""Our labyrinths against the Python package's rules, our mazes against mazelib's.

The original digs with mazelib, which need not be installed: its environments are given our
mazes instead, and mazes are compared with figures recorded from mazelib.
"""

import json
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scripts.popgym_statistics import maze_features
from ssmrl.envs import make
from ssmrl.envs import popgym as ours
from ssmrl.envs.popgym.maze import FREE, GOAL, OBSTACLE, START, new_maze
from tests.envs.original import assert_same_game, names_of, play_original, play_ours
from tests.envs.probes import run_once

NAMES = names_of(ours.ENVIRONMENTS, "LabyrinthEscape", "LabyrinthExplore")
RECORD = json.loads(Path(__file__).with_name("popgym_original.json").read_text())
POLICIES = ("random", "oracle", "adversarial")
LEFT, RIGHT, UP, DOWN = range(4)


class Dug:
    """Stands in for mazelib's Maze: "digs" what it was given."""

    given = None  # (squares of 0 and 1, start, end)

    def generate(self):
        self.grid = self.given[0].copy()

    def generate_entrances(self, start_outer):
        assert start_outer
        self.start, self.end = self.given[1:]


@pytest.fixture(scope="module")
def originals():
    """The original's two classes, digging with `Dug`."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("mazelib") is None:
            for name in ("mazelib", "mazelib.generate", "mazelib.generate.HuntAndKill"):
                patch.setitem(sys.modules, name, types.ModuleType(name))
            sys.modules["mazelib"].Maze = Dug
            sys.modules["mazelib.generate.HuntAndKill"].HuntAndKill = None
        from popgym.core import maze
        from popgym.envs import labyrinth_escape, labyrinth_explore

        patch.setattr(maze, "Maze", Dug)
        patch.setattr(maze, "HuntAndKill", lambda height, width: None)
        yield {
            "LabyrinthEscape": labyrinth_escape.LabyrinthEscape,
            "LabyrinthExplore": labyrinth_explore.LabyrinthExplore,
        }


def tour(free, start):
    """Moves that visit every free square depth first and come back, as {move number: square}."""
    moves, places, seen = [], [], {start}
    steps = {LEFT: (0, -1), RIGHT: (0, 1), UP: (-1, 0), DOWN: (1, 0)}
    back = {LEFT: RIGHT, RIGHT: LEFT, UP: DOWN, DOWN: UP}

    def visit(r, c):
        for move, (dr, dc) in steps.items():
            there = r + dr, c + dc
            if min(there) >= 0 and max(there) < len(free) and free[there] and there not in seen:
                seen.add(there)
                moves.append(move)
                places.append(there)
                visit(*there)
                moves.append(back[move])
                places.append((r, c))

    visit(*start)
    return moves, places


def actions_of(policy, squares, start, steps, seed):
    free = squares != OBSTACLE
    if policy == "random":
        return np.random.default_rng(seed).integers(4, size=steps)
    moves, _ = tour(free, start)
    if policy == "oracle":
        return np.resize(moves, steps)
    outwards = {0: UP, len(free) - 1: DOWN}.get(start[0])
    outwards = {0: LEFT, len(free) - 1: RIGHT}[start[1]] if outwards is None else outwards
    against = [outwards] * 3 + [a for move in moves for a in (move, outwards, move)]
    return np.resize(against, steps)


@pytest.mark.filterwarnings("ignore:Maze environments:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_whole_games_equal_the_originals_step_by_step(name, originals):
    env, params = make(f"popgym/{name}")
    game = name.removesuffix("Easy").removesuffix("Medium").removesuffix("Hard")
    real = originals[game](maze_dims=(env.size, env.size))
    dig = jax.vmap(lambda key: new_maze(key, env.size // 2, True))
    mazes = jax.tree.map(np.asarray, run_once(dig, jax.random.split(jax.random.key(3), 2)))
    cases, states, actions = [], [], []
    for m, squares in enumerate(mazes.squares):
        start, (end,) = tuple(mazes.start[m].tolist()), map(tuple, np.argwhere(squares == GOAL))
        Dug.given = ((squares != FREE).astype(np.int8), start, end)
        real.reset(seed=0)
        maze = mazes.replace(
            squares=jnp.asarray(real.maze.grid),
            start=jnp.asarray(start),
            open=jnp.int32((real.maze.grid != OBSTACLE).sum()),
        )
        state = env.blank_state().replace(
            maze=maze,
            place=maze.start,
            explored=jnp.asarray(real.explored == 1),
            visited=jnp.int32(1),
        )
        for policy in POLICIES:
            actions.append(actions_of(policy, real.maze.grid, start, env.episode_steps, m))
            states.append(state)
            cases.append((policy, play_original(real, 0, actions[-1])))
            np.testing.assert_array_equal(env._view(state, jnp.int32(4)), cases[-1][1][0][0])
    played = play_ours(env, params, states, actions)
    for b, (policy, theirs) in enumerate(cases):
        assert_same_game(theirs, [x[b] for x in played], policy)
        assert theirs[2][-1] or theirs[3][-1]
        if policy == "oracle":
            assert theirs[2][-1] and not theirs[3][-1]


@pytest.mark.parametrize("cells", [5, 7, 9])
def test_mazes_look_like_mazelibs(cells):
    dig = jax.vmap(lambda key: new_maze(key, cells, True))
    mazes = run_once(dig, jax.random.split(jax.random.key(cells), 1000))
    rows = []
    for squares, start in zip(np.asarray(mazes.squares), np.asarray(mazes.start), strict=True):
        (end,) = map(tuple, np.argwhere(squares == GOAL))
        assert (squares == START).sum() == 1 and squares[tuple(start)] == START
        rows.append(maze_features(squares == FREE, tuple(start), end))
    for feature, theirs in RECORD["mazes"][str(cells)].items():
        mine = np.array([row[feature] for row in rows])
        error = np.hypot(mine.std(ddof=1) / 1000**0.5, theirs["std"] / RECORD["episodes"] ** 0.5)
        assert abs(mine.mean() - theirs["mean"]) <= 4 * error, feature
    row, column = np.asarray(mazes.start).T
    sides = [np.sum(s) for s in (row == 0, row == 2 * cells, column == 0, column == 2 * cells)]
    assert sum(sides) == 1000 and stats.chisquare(sides).pvalue > 1e-3


def hunt_and_kill(rng, cells, tries):
    """Passages of a maze by the algorithm as it is told: walk until stuck, then try cells."""
    visited, passages = {tuple(rng.integers(cells, size=2))}, set()
    here = next(iter(visited))
    while True:
        around = [(here[0] + r, here[1] + c) for r, c in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        wild = [p for p in around if min(p) >= 0 and max(p) < cells and p not in visited]
        if here in visited and wild:
            there = wild[rng.integers(len(wild))]
            passages.add(frozenset((here, there)))
            visited.add(there)
            here = there
        elif tries:
            tries -= 1
            here = tuple(rng.integers(cells, size=2))
        else:
            return passages


def test_small_mazes_occur_as_often_as_the_algorithm_digs_them_one_try_at_a_time():
    rng, count = np.random.default_rng(0), 2500
    edges = [((r, c), (r, c + 1)) for r in range(3) for c in range(2)]
    edges += [((r, c), (r + 1, c)) for r in range(2) for c in range(3)]
    theirs = [
        sum((frozenset(e) in m) << i for i, e in enumerate(edges))
        for m in (hunt_and_kill(rng, 3, 49) for _ in range(count))
    ]
    dig = jax.vmap(lambda key: new_maze(key, 3, False).squares)
    free = np.asarray(run_once(dig, jax.random.split(jax.random.key(0), 3 * count))) == FREE
    mine = sum(
        free[:, a[0] + b[0] + 1, a[1] + b[1] + 1].astype(int) << i for i, (a, b) in enumerate(edges)
    )
    kinds = np.union1d(mine, theirs)
    table = np.array([[np.sum(np.array(x) == k) for k in kinds] for x in (mine, theirs)])
    table = np.concatenate(
        [table[:, table[1] >= 8], table[:, table[1] < 8].sum(axis=1, keepdims=True)], axis=1
    )
    assert set(map(int.bit_count, map(int, kinds))) == {8}, "no wall is missing, none too many"
    assert stats.chi2_contingency(table).pvalue > 1e-3
