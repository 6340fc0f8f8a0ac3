"""Record what a uniform policy does in the original popgym, for tests/envs/popgym_original.json.

    pip install popgym==1.0.7 mazelib==0.9.16
    python scripts/popgym_statistics.py tests/envs/popgym_original.json

Plays 2,000 episodes of each of the 48 environments and digs 2,000 mazes of each size: about a
quarter of an hour. The tests compare ours with the recorded figures, so that they need neither
the time nor mazelib.
"""

import json
import random
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import gymnasium
import numpy as np

EPISODES, SEED = 2000, 20261122


def moments(values):
    """Mean and sample standard deviation."""
    values = np.asarray(values, float)
    return {"mean": float(values.mean()), "std": float(values.std(ddof=1))}


def play(id):
    """Moments of return and length of `EPISODES` episodes under uniformly random actions."""
    env = gymnasium.make(id).unwrapped
    env.action_space.seed(SEED)
    env.reset(seed=SEED)
    returns, lengths = [], []
    for _ in range(EPISODES):
        env.reset()
        total, length, done = 0.0, 0, False
        while not done:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, length, done = total + reward, length + 1, terminated or truncated
        returns.append(total)
        lengths.append(length)
    return {"return": moments(returns), "length": moments(lengths)}


def maze_features(squares, start, end):
    """Numbers that tell mazes apart; squares: True where free, cells at odd rows and columns.

    `ends`, `corridors`, `junctions`, `crossings`: shares of cells with 1, 2, 3, 4 ways out;
    `straight`: share of corridors without a bend; `walled`: share of mazes with a cell that was
    never reached; `way`: steps from start to end, -1 where there is none.
    """
    cells = squares[1::2, 1::2]
    right, left = squares[1::2, 2::2], squares[1::2, :-1:2]
    below, above = squares[2::2, 1::2], squares[:-1:2, 1::2]
    ways = right.astype(int) + left + below + above
    shares = {
        name: float((ways == n).sum() / cells.size)
        for n, name in enumerate(("ends", "corridors", "junctions", "crossings"), 1)
    }
    straight = (right & left & ~below & ~above) | (~right & ~left & below & above)
    shares["straight"] = float(straight.sum() / cells.size)
    shares["walled"] = float(not cells.all())
    shares["way"] = float(way(squares, start, end))
    return shares


def way(squares, start, end):
    """Length of the shortest way, by waves from the start."""
    reached = np.zeros_like(squares)
    free = squares.copy()
    reached[start] = free[start] = free[end] = True
    for steps in range(squares.size):
        if reached[end]:
            return steps
        wave = reached.copy()
        wave[1:] |= reached[:-1]
        wave[:-1] |= reached[1:]
        wave[:, 1:] |= reached[:, :-1]
        wave[:, :-1] |= reached[:, 1:]
        reached = wave & free
    return -1


def mazes(cells):
    """Moments of the features of `EPISODES` mazes of `cells` a side."""
    from mazelib import Maze
    from mazelib.generate.HuntAndKill import HuntAndKill

    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002  (mazelib draws from it)
    rows = []
    for _ in range(EPISODES):
        maze = Maze()
        maze.generator = HuntAndKill(cells, cells)
        maze.generate()
        maze.generate_entrances(start_outer=True)
        rows.append(maze_features(maze.grid == 0, maze.start, maze.end))
    return {name: moments([row[name] for row in rows]) for name in rows[0]}


def main(path):
    """Plays every environment of the original and writes its figures to `path`."""
    import popgym  # noqa: F401  (registers its environments)

    warnings.simplefilter("ignore")
    ids = sorted(id for id in gymnasium.registry if id.startswith("popgym-"))
    names = {id: id.removeprefix("popgym-").removesuffix("-v0") for id in ids}
    packages = ("popgym", "mazelib", "gymnasium", "numpy")
    record = {
        "versions": {package: version(package) for package in packages},
        "seed": SEED,
        "episodes": EPISODES,
        "uniform_policy": {},
        "mazes": {str(cells): mazes(cells) for cells in (5, 7, 9)},
    }
    for id, name in names.items():
        record["uniform_policy"][name.replace("Cartpole", "CartPole")] = play(id)
        print(name, record["uniform_policy"][name.replace("Cartpole", "CartPole")], flush=True)
    Path(path).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
