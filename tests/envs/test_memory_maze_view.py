"""The pictures show what the original's show, pixel by pixel."""

from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from ssmrl.envs.memory_maze import MemoryMaze
from ssmrl.envs.memory_maze.camera import (
    CORRIDOR_SEEN,
    ROOM_SEEN,
    SKY,
    TARGET_SEEN,
    Scene,
    look,
    paint,
)
from ssmrl.envs.memory_maze.layout import CORRIDOR, WALL
from ssmrl.envs.memory_maze.textures import FLOORS, TARGETS, WALLS, load
from ssmrl.envs.memory_maze.top_down import top_down
from ssmrl.errors import UsageError
from tests.envs.memory_maze_original import FOLDER, first_mazes, recorded
from tests.envs.probes import run_once


def first_scene():
    start = recorded("seeds0-63_initial_states.npz")
    blocks = jnp.asarray(start["9x9/tex"][0], jnp.int8)
    targets = jnp.asarray(start["9x9/targets"][0])
    return Scene(first_mazes("9x9").cells[0], blocks, targets, jnp.asarray(TARGETS[:3] * 255))


@cache
def views(textures):
    """Views and pictures of the 24 recorded poses."""
    scene, patterns = first_scene(), load(textures)

    def see(pose):
        view = look(scene, pose[:2], pose[2], 64)
        return view, jnp.round(paint(view, scene, patterns))

    poses = jnp.asarray(recorded("render_9x9_s0_mj2.3.1.npz")["pose_grid_xy_theta"])
    return jax.tree.map(np.asarray, run_once(jax.vmap(see), poses))


def test_pixels_show_the_same_surfaces():
    theirs = recorded("render_9x9_s0_mj2.3.1.npz")["seg"]
    agreement = (views("flat")[0].surface == theirs).mean((1, 2))
    assert agreement.mean() >= 0.998 and agreement.min() >= 0.99
    assert set(np.unique(theirs)) == {0, 1, 2, 3, 10, 11, 12}


def test_surfaces_are_as_far_away():
    theirs = recorded("render_9x9_s0_mj2.3.1.npz")
    view = views("flat")[0]
    same = view.surface == theirs["seg"]
    floor = same & ((view.surface == CORRIDOR_SEEN) | (view.surface == ROOM_SEEN))
    error = np.abs(2 * view.depth - theirs["depth"].astype(np.float32))
    assert np.median(error[floor]) <= 0.05
    assert np.median(error[same & (view.surface != SKY) & ~floor]) <= 0.05


def color_error(textures):
    theirs = recorded("render_9x9_s0_mj2.3.1.npz")["rgb_noborder"].astype(np.float32)
    return np.abs(views(textures)[1] - theirs).mean()


def test_plain_colours_are_near_the_originals():
    assert color_error("flat") <= 4.5


def test_the_originals_textures_are_nearer():
    pytest.importorskip("labmaze", reason="the original's textures are not installed")
    assert color_error("labmaze") <= 2.5


def test_our_patterns_have_the_originals_mean_colours():
    texels = np.asarray(load("procedural").texels)
    coarsest = [[int(x) >> s & 255 for s in (0, 8, 16)] for x in texels[:, -1]]
    np.testing.assert_allclose(coarsest, [*WALLS.values(), *FLOORS.values()], atol=3)
    finest = texels[:, : 64 * 64] & 255
    assert ((finest.std(1) / finest.mean(1)) > 0.03).all()


def test_missing_textures_are_a_clear_error(monkeypatch):
    with pytest.raises(UsageError, match=r"unknown textures 'plain'.*flat"):
        load("plain")
    monkeypatch.setitem(__import__("sys").modules, "labmaze", None)
    with pytest.raises(UsageError, match="pip install labmaze"):
        load("labmaze")


def test_the_border_is_the_originals_byte_for_byte():
    start = recorded("seeds0-63_initial_states.npz")
    env = MemoryMaze(level="fast")
    state = env.state_from_maze(jax.random.key(0), jax.tree.map(lambda x: x[0], first_mazes("9x9")))
    state = state.replace(goal=jnp.int32(start["9x9/first"][0]))
    picture = np.asarray(run_once(lambda state: env.image(state, 64), state))
    png = matplotlib.image.imread(FOLDER / "obs64_9x9_s0_t0_with_border.png")
    theirs = np.round(png[..., :3] * 255).astype(np.uint8)
    edge = np.ones((64, 64), bool)
    edge[2:-2, 2:-2] = False
    np.testing.assert_array_equal(picture[edge], theirs[edge])
    assert (picture[~edge] != picture[0, 0]).any(-1).all()


@pytest.mark.parametrize("resolution, width", [(64, 2), (256, 4)])
def test_the_border_has_the_originals_width(resolution, width):
    env, maze = MemoryMaze(level="fast"), jax.tree.map(lambda x: x[0], first_mazes("9x9"))

    def show(key):
        return env.image(env.state_from_maze(key, maze), resolution)

    picture = np.asarray(run_once(show, jax.random.key(1)))
    prompt = (picture == picture[0, 0]).all(-1)
    assert prompt[:width].all() and prompt[:, -width:].all()
    assert not prompt[width, width:-width].any()


def test_a_target_behind_a_wall_is_hidden_and_the_nearer_of_two_is_seen():
    cells = np.full((11, 11), WALL, np.uint8)
    cells[5, 1:10] = CORRIDOR  # a corridor along y = 4.5
    cells[1, 1:10] = CORRIDOR
    targets = jnp.array([[4.5, 4.5], [6.5, 4.5], [4.5, 0.5]])
    scene = Scene(jnp.asarray(cells), jnp.zeros(9, jnp.int8), targets, jnp.zeros((3, 3)))
    seen = run_once(lambda p: look(scene, p, jnp.float32(0), 64).surface, jnp.array([1.5, 4.5]))
    surfaces = np.unique(seen)
    assert TARGET_SEEN in surfaces and TARGET_SEEN + 2 not in surfaces
    middle = np.asarray(seen)[:, 32]
    assert TARGET_SEEN in middle and TARGET_SEEN + 1 not in middle[np.argmax(middle == 10) :]


def test_from_above_right_is_x_and_up_is_y():
    scene = first_scene()
    picture = np.asarray(
        run_once(lambda p: top_down(scene, p, jnp.float32(0), 110), jnp.array([0.5, 2.5]))
    )

    def at(x, y):
        return picture[int(110 - 10 * (y + 1)), int(10 * (x + 1))].tolist()

    assert at(0.5, 2.5) == [240, 240, 240]  # the agent
    for target, color in zip(scene.targets, scene.colors, strict=True):
        np.testing.assert_allclose(at(*target.tolist()), color, atol=1)
    names = list(WALLS)
    blocks = [names.index(x) for x in ("yellow", "red_bright", "green")]
    for place, block in zip([(-0.5, 9.5), (4.5, 9.5), (9.5, -0.5)], blocks, strict=True):
        assert at(*place) == list(WALLS[names[block]])
