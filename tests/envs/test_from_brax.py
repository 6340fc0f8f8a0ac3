"""brax under our contract: ends are told apart, episodes begin anew, nothing is ever NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import make
from ssmrl.envs.from_brax import NAMES
from ssmrl.errors import UsageError
from tests.envs.probes import run_once


@pytest.fixture(autouse=True)
def as_brax_is_written():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_all_of_brax_that_runs_is_listed():
    make("brax/fast")  # imports brax
    from brax.envs import _envs

    assert sorted({*NAMES, "swimmer"}) == sorted(_envs)


@pytest.fixture(scope="module")
def pendulum():
    """(env, 12 steps of 3 pendulums, the last of which is pushed over), time limit 5."""
    env, params = make("brax/inverted_pendulum", max_steps_in_episode=5)
    action = jnp.array([[0.0], [0.0], [1.0]])

    def step(carry, key):
        state, when = carry
        broken = state.replace(  # the second pendulum's speed becomes NaN in step 8
            inner=state.inner.replace(
                pipeline_state=state.inner.pipeline_state.replace(
                    qd=state.inner.pipeline_state.qd.at[1].set(jnp.nan)
                )
            )
        )
        state = jax.tree.map(lambda a, b: jnp.where(when == 7, a, b), broken, state)
        keys = jax.random.split(key, 3)
        obs, state, reward, *flags, info = jax.vmap(env.step, (0, 0, 0, None))(
            keys, state, action, params
        )
        out = (obs, info["final_observation"], reward, *flags, info["diverged"])
        return (state, when + 1), out

    def run(key):
        _, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, 3), params)
        return jax.lax.scan(step, (state, 0), jax.random.split(key, 12))[1]

    return env, params, jax.device_get(run_once(run, jax.random.key(0)))


def test_time_truncates_and_a_fall_terminates(pendulum):
    _, _, (_, last, _, terminated, truncated, _) = pendulum
    assert np.flatnonzero(truncated[:, 0]).tolist() == [4, 9]
    assert not terminated[:, 0].any()
    falls = np.flatnonzero(terminated[:, 2])
    assert len(falls) > 1 and not truncated[falls, 2].any()
    assert (np.abs(last[falls, 2, 1]) > 0.2).all()  # the angle at which brax calls it a fall


def test_every_episode_begins_from_another_state(pendulum):
    _, _, (obs, last, _, _, truncated, _) = pendulum
    first, second = obs[truncated[:, 0], 0]
    assert (np.abs([first, second]) <= 0.01).all() and (first != second).all()
    assert (last[truncated[:, 0], 0] != first).any()


def test_physics_that_blow_up_end_the_episode_in_zeros(pendulum):
    _, _, (obs, last, reward, terminated, _, diverged) = pendulum
    assert np.argwhere(diverged).tolist() == [[7, 1]]
    assert terminated[7, 1] and reward[7, 1] == 0 and not last[7, 1].any()
    assert np.isfinite(obs).all() and np.isfinite(last).all()
    assert (reward[:, 0] == 1).all()


def test_spaces_and_limits_are_told(pendulum):
    env, params, _ = pendulum
    assert env.name == "brax/inverted_pendulum"
    assert env.observation_space(params).shape == (4,)
    action = env.action_space(params)
    assert (action.low, action.high, action.shape) == (-1.0, 1.0, (1,))
    assert (
        make("brax/fast", options={"obs_mode": "dict_latent_state"})[1].max_steps_in_episode == 1000
    )


@pytest.mark.parametrize(
    "setting, said",
    [
        ({"backend": "sprung"}, "nearest: 'spring'"),
        ({"options": {"size": 3}}, "could not be made: TypeError.*size"),
        ({"episode_length": 3}, "unknown setting of brax/inverted_pendulum 'episode_length'"),
    ],
)
def test_mistakes_are_answered(setting, said):
    with pytest.raises(UsageError, match=said):
        make("brax/inverted_pendulum", **setting)


def test_a_missing_brax_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "brax.envs", None)
    with pytest.raises(UsageError, match="pip install 'brax'"):
        make("brax/ant")
