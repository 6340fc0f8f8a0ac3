"""The body moves as the original's MuJoCo model did."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs.memory_maze.body import CELL, Body, at_rest, move
from tests.envs.memory_maze_original import episode
from tests.envs.probes import run_once

NOOP, FORWARD, LEFT, RIGHT, FORWARD_LEFT, FORWARD_RIGHT = range(6)
NO_TARGETS = jnp.full((1, 2), -9.0)


def turned(after, before):
    return np.degrees((np.asarray(after) - before + np.pi) % (2 * np.pi) - np.pi)


def drive(free, position, heading, actions):
    """Positions (T+1, 2) and headings (T+1,) of a body that starts at rest."""

    def play(position, heading):
        def step(body, action):
            body, _ = move(body, action, jnp.asarray(free), NO_TARGETS, 25)
            return body, (body.position, body.heading)

        return jax.lax.scan(step, at_rest(position, heading), jnp.asarray(actions))[1]

    start = jnp.asarray(position, jnp.float32), jnp.float32(heading)
    path, headings = jax.tree.map(np.asarray, run_once(play, *start))
    return np.concatenate([start[0][None], path]), np.concatenate([start[1][None], headings])


def field(side=24):
    free = np.zeros((side, side), bool)
    free[1:-1, 1:-1] = True
    return free


@pytest.mark.parametrize("size", ["9x9", "15x15"])
def test_one_step_is_predicted_from_any_recorded_state(size):
    record = episode(size, "dynamics_fullstate_mj2.3.1.npz")
    state = record["state_x_y_cells_theta_vx_vy_omega_roll_z"]
    free = jnp.asarray(np.pad(record["layout"], 1) > 0)
    before = jnp.asarray(state[:-1])
    body = Body(
        before[:, :2], before[:, 3:5], before[:, 2], before[:, 5], before[:, 6], before[:, 6] * 0
    )
    step = jax.vmap(lambda body, action: move(body, action, free, NO_TARGETS, 25)[0])
    after = run_once(step, body, jnp.asarray(record["actions"]))
    error = np.linalg.norm(np.asarray(after.position) - state[1:, :2], axis=1)
    assert error.mean() <= 0.005 and np.percentile(error, 99) <= 0.03
    error = np.abs(turned(after.heading, state[1:, 2]))
    assert error.mean() <= 1.0 and np.percentile(error, 99) <= 10


def test_it_gains_and_loses_speed_as_the_original_in_the_open():
    path, _ = drive(field(), (3.5, 12.5), 0.0, [FORWARD] * 8 + [NOOP] * 4)
    metres = CELL * np.diff(path[:, 0])
    np.testing.assert_allclose(metres[:5], [0.224, 0.437, 0.486, 0.497, 0.499], rtol=0.05)
    np.testing.assert_allclose(metres[7], 0.5, rtol=0.05)
    np.testing.assert_allclose(metres[8], 0.275, rtol=0.05)
    np.testing.assert_allclose(metres[9:], [0.062, 0.014, 0.003], atol=0.015)


def test_it_turns_as_the_original_in_the_open():
    for action, sign in ((LEFT, 1), (RIGHT, -1)):
        path, headings = drive(field(), (12.5, 12.5), 0.0, [action] * 4 + [NOOP] * 2)
        degrees = sign * turned(headings[1:], headings[:-1])
        np.testing.assert_allclose(degrees[:5], [14.1, 18.3, 18.4, 18.4, 2.9], rtol=0.05)
        assert abs(degrees[5]) < 0.1
        assert np.abs(path - path[0]).max() < 0.01


def test_it_drives_a_circle_of_the_originals_radius():
    path, headings = drive(field(), (12.5, 12.5), 0.0, [FORWARD_LEFT] * 30)
    speed = CELL * np.linalg.norm(np.diff(path[10:], axis=0), axis=1) / 0.25
    rate = np.radians(turned(headings[11:], headings[10:-1])) / 0.25
    np.testing.assert_allclose(speed.mean() / rate.mean(), 1.55, rtol=0.05)


def test_walls_stick_and_twist_the_heading_towards_them():
    path, headings = drive(field(8), (5.9, 2.0), np.pi / 4, [FORWARD] * 4)
    along = CELL * np.diff(path[:, 1])
    np.testing.assert_allclose(along[1:3], [0.041, 0.027], atol=0.015)
    assert (along > 0.01).all() and (along < 0.1).all()  # sliding freely it would be 0.16 at once
    assert (np.diff(np.degrees(headings)) < -1).all()  # the wall's outward normal is at 180
    assert path[:, 0].max() < 6 - 0.1 + 0.01


def test_it_cannot_be_driven_into_a_wall_or_a_corner():
    free = field(9)
    free[4, 4] = False  # a pillar from (3, 3) to (4, 4)
    rng = np.random.default_rng(0)
    starts = jnp.asarray(rng.uniform(0.2, 2.8, (32, 2)), jnp.float32)
    headings = jnp.asarray(rng.uniform(-3, 3, 32), jnp.float32)
    actions = jnp.asarray(rng.choice([FORWARD, FORWARD_LEFT, FORWARD_RIGHT], (100, 32)))

    def play(bodies, actions):
        def step(bodies, action):
            go = partial(move, free=jnp.asarray(free), targets=NO_TARGETS, substeps=25)
            bodies, _ = jax.vmap(go)(bodies, action)
            return bodies, bodies.position

        return jax.lax.scan(step, bodies, actions)[1]

    path = np.asarray(run_once(play, jax.vmap(at_rest)(starts, headings), actions))
    assert path.min() > 0.1 - 0.01 and path.max() < 6.9 + 0.01
    beyond = np.maximum(np.abs(path - 3.5) - 0.5, 0)  # from the pillar
    assert np.linalg.norm(beyond, axis=-1).min() > 0.1 - 0.01
    assert (np.ptp(path, axis=0).max(-1) > 1).mean() > 0.5  # they did drive about


def test_ten_steps_of_the_originals_traces_are_followed():
    sizes = {"9x9": range(5), "15x15": range(5), "11x11": [0], "13x13": [0]}
    errors = []
    for size, seeds in sizes.items():
        traces = [episode(f"{size}_s{seed}/") for seed in seeds]

        def play(free, position, heading, actions):
            def step(body, action):
                return move(body, action, free, NO_TARGETS, 25)[0], None

            return jax.lax.scan(step, at_rest(position, heading), actions)[0].position

        start = [
            (
                np.pad(t["layout"], 1) > 0,
                t["agent_pos"][0],
                np.arctan2(*t["agent_dir"][0][::-1]),
                t["actions"][:10],
            )
            for t in traces
        ]
        end = run_once(
            jax.vmap(play), *(jnp.asarray(np.stack(x)) for x in zip(*start, strict=True))
        )
        there = np.stack([t["agent_pos"][10] for t in traces])
        errors.extend(np.linalg.norm(np.asarray(end) - there, axis=1))
    assert len(errors) == 12 and np.median(errors) <= 0.1
