"""Mazes are whole, and distributed as the original's."""

from functools import cache

import jax
import numpy as np
import pytest

from ssmrl.envs.memory_maze.layout import ROOM, SIZES, WALL, new_maze
from ssmrl.envs.memory_maze.pool import labmaze_pool, pool_from_arrays
from ssmrl.errors import UsageError
from tests.envs.memory_maze_original import first_mazes, recorded, statistics
from tests.envs.probes import run_once

COUNT = {"9x9": 600, "11x11": 300, "13x13": 200, "15x15": 100}
RECORDED = 1500  # mazes behind each of the original's statistics
DEVIATION = {"free": (0.0484, 0.0557, 0.0443, 0.0327), "loops": (1.4, 1.9, 2.0, 2.1)}


@cache
def mazes(size):
    keys = jax.random.split(jax.random.key(7), COUNT[size])
    draw = jax.vmap(lambda key: new_maze(key, SIZES[size]))
    return jax.tree.map(np.asarray, run_once(draw, keys))


def neighbours(free):
    """How many of the four cells around each are free."""
    around = np.zeros(free.shape, int)
    around[:, 1:-1, 1:-1] = (
        free[:, 2:, 1:-1].astype(int) + free[:, :-2, 1:-1] + free[:, 1:-1, 2:] + free[:, 1:-1, :-2]
    )
    return around


def loops(free):
    """Independent ways round, open squares of four cells not counted."""
    f = free.astype(int)
    nodes = f.sum((1, 2))
    edges = (f[:, 1:] * f[:, :-1]).sum((1, 2)) + (f[:, :, 1:] * f[:, :, :-1]).sum((1, 2))
    squares = (f[:, 1:, 1:] * f[:, :-1, 1:] * f[:, 1:, :-1] * f[:, :-1, :-1]).sum((1, 2))
    return edges - nodes + 1 - squares


@pytest.mark.parametrize("size", SIZES)
def test_mazes_are_connected_closed_and_without_dead_ends(size):
    free = mazes(size).cells != WALL
    assert not free[:, [0, -1]].any() and not free[:, :, [0, -1]].any()
    assert not (free & (neighbours(free) < 2)).any()
    reached = np.zeros_like(free)
    reached[
        np.arange(len(free)), *np.divmod(free.reshape(len(free), -1).argmax(1), free[0].shape[0])
    ] = True
    for _ in range(free[0].size):
        more = free & ((neighbours(reached) > 0) | reached)
        if (more == reached).all():
            break
        reached = more
    np.testing.assert_array_equal(reached, free)


@pytest.mark.parametrize("size", SIZES)
def test_every_room_holds_one_object_and_one_spawn_in_different_cells(size):
    drawn = mazes(size)
    assert (drawn.rooms >= SIZES[size].targets).all()
    for cells, objects, spawns, rooms in zip(*drawn.__dict__.values(), strict=True):
        x, y = np.concatenate([objects[:rooms], spawns[:rooms]]).T + 1
        assert cells[y, x].tolist() == [*range(ROOM, ROOM + rooms)] * 2
        assert not (objects[:rooms] == spawns[:rooms]).all(1).any()


@pytest.mark.parametrize("size", SIZES)
def test_mazes_are_distributed_as_the_originals(size):
    theirs, index = statistics(size), list(SIZES).index(size)
    cells = mazes(size).cells
    free = (cells != WALL)[:, 1:-1, 1:-1]
    spread = np.sqrt(1 / COUNT[size] + 1 / RECORDED)
    for name, ours, key in (
        ("free", free.mean((1, 2)), "free_fraction_mean"),
        ("loops", loops(cells != WALL), "independent_loops_mean"),
    ):
        allowed = 3 * spread * max(ours.std(), DEVIATION[name][index])
        assert ours.mean() == pytest.approx(theirs[key], abs=allowed), name
    guess = np.maximum(free.mean(0), 1 - free.mean(0)).mean()
    assert guess == pytest.approx(theirs["constant_wall_pred_accuracy"], abs=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_as_many_rooms_as_the_original(size):
    theirs = {int(k): v for k, v in statistics(size)["room_count_hist_all"].items()}
    kept = {k: v for k, v in theirs.items() if k >= SIZES[size].targets}
    for rooms, share in kept.items():
        share /= sum(kept.values())
        ours = (mazes(size).rooms == rooms).mean()
        allowed = 3 * np.sqrt(share * (1 - share) * (1 / COUNT[size] + 1 / RECORDED)) + 1e-9
        assert ours == pytest.approx(share, abs=allowed), rooms


@pytest.mark.parametrize("size", SIZES)
def test_a_pool_holds_the_arrays_it_was_given(size):
    start, pool = recorded("seeds0-63_initial_states.npz"), first_mazes(size)
    cells = np.asarray(pool.cells)[:, 1:-1, 1:-1]
    np.testing.assert_array_equal(cells != WALL, start[f"{size}/free"])
    np.testing.assert_array_equal(np.maximum(cells.astype(int) - 1, 0), start[f"{size}/room"])
    for name in ("objects", "spawns"):
        for ours, theirs, rooms in zip(
            getattr(pool, name), start[f"{size}/{name}"], pool.rooms, strict=True
        ):
            np.testing.assert_array_equal(ours[:rooms] + 0.5, theirs[:rooms])
            assert np.isnan(theirs[rooms:]).all()


def test_the_originals_mazes_come_from_labmaze_by_seed():
    pytest.importorskip("labmaze", reason="the original's maze generator is not installed")
    for size in SIZES:
        ours = labmaze_pool(SIZES[size], range(8))
        theirs = jax.tree.map(lambda x: x[:8], first_mazes(size))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_mazes_of_another_size_are_refused():
    start = recorded("seeds0-63_initial_states.npz")
    names = ("free", "room", "objects", "spawns")
    with pytest.raises(UsageError, match=r"expected free of shape \(P, 11, 11\)"):
        pool_from_arrays(SIZES["11x11"], *(start[f"9x9/{name}"] for name in names))
    with pytest.raises(UsageError, match="expected 3 rooms or more, got a maze with 0"):
        pool_from_arrays(
            SIZES["9x9"],
            *(start[f"9x9/{name}"] for name in ("free", "room")),
            np.full((64, 9, 2), np.nan),
            start["9x9/spawns"],
        )
