"""Every registered environment keeps the contract; spaces become features."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import list_envs, make
from ssmrl.envs.contract import (
    Box,
    Dict,
    Discrete,
    MultiDiscrete,
    Space,
    Tuple,
    contains,
    feature_size,
    flatten,
)
from ssmrl.errors import UsageError
from tests.envs.probes import run_once

BATCH, STEPS, LIMIT = 4, 50, 7
NEEDS_DATA = {"gymnax/MNISTBandit-bsuite"}
QUICK_BRAX = {"brax/inverted_pendulum", "brax/reacher", "brax/fast"}  # a minute each to compile
ALL_IDS = [id for id in list_envs() if id not in NEEDS_DATA]
IDS = [
    pytest.param(id, marks=pytest.mark.slow) if "brax/" in id and id not in QUICK_BRAX else id
    for id in ALL_IDS
]

# gymnax 1.0.1 as it is: what its environments do against their own word.
OUTSIDE_ITS_SPACE = {
    "gymnax/MemoryChain-bsuite",  # the context is -1 or 1, the time left falls below 0
    "gymnax/GaussianBandit-misc",  # the previous reward has no bounds
}
OUTSIDE_LATER = {"gymnax/MetaMaze-misc"}  # the last reward, 10, where at most 1 is promised
INTEGER_REWARD = {"gymnax/UmbrellaChain-bsuite", "gymnax/BernoulliBandit-misc"}


def keys_for_batch(key):
    return jax.random.split(key, BATCH - 1)[jnp.array([0, *range(BATCH - 1)])]


@pytest.fixture(autouse=True)
def as_gymnax_is_written():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@cache
def rollout(id):
    """(env, params, trajectory) of random steps, time limit 7; the first two have one key."""
    env, params = make(id, max_steps_in_episode=LIMIT)
    action_space, space = env.action_space(params), env.observation_space(params)

    def step(state, key):
        key_act, key_step = jax.random.split(key)
        action = jax.vmap(action_space.sample)(keys_for_batch(key_act))
        keys = keys_for_batch(key_step)
        obs, state, reward, terminated, truncated, info = jax.vmap(env.step, (0, 0, 0, None))(
            keys, state, action, params
        )
        out = {
            "obs": obs,
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "final": info["final_observation"],
            "inside": contains(space, obs) & contains(space, info["final_observation"]),
        }
        return state, out

    def run(key):
        _, state = jax.vmap(env.reset, (0, None))(keys_for_batch(key), params)
        return jax.lax.scan(step, state, jax.random.split(key, STEPS))[1]

    return env, params, jax.tree.map(np.asarray, run_once(run, jax.random.key(0)))


@pytest.mark.parametrize("id", IDS)
def test_it_runs_in_a_jitted_scan_and_keeps_the_contract(id):
    _, _, out = rollout(id)
    for flag in (out["terminated"], out["truncated"]):
        assert flag.dtype == bool and flag.shape == (STEPS, BATCH)
    assert out["reward"].shape == (STEPS, BATCH)
    assert np.issubdtype(out["reward"].dtype, np.integer) == (id in INTEGER_REWARD)
    for leaf in jax.tree.leaves((out["obs"], out["final"], out["reward"])):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("id", IDS)
def test_the_key_decides_everything(id):
    _, _, out = rollout(id)
    parts = [jax.tree.map(lambda x, b=b: x[:, b], (out["obs"], out["reward"])) for b in range(3)]
    jax.tree.map(np.testing.assert_array_equal, parts[0], parts[1])
    assert "popgym" not in id or any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (parts[0], parts[2])), strict=True)
    )


@pytest.mark.parametrize("id", IDS)
def test_an_episode_ends_at_the_limit_and_another_begins(id):
    _, _, out = rollout(id)
    done = out["terminated"] | out["truncated"]
    lengths = [np.diff(np.flatnonzero(d), prepend=-1) for d in done.T]
    assert min(map(len, lengths)) >= STEPS // LIMIT
    assert max(map(max, lengths)) <= LIMIT
    jax.tree.map(  # one number computed twice may differ in its last bit
        lambda final, obs: np.testing.assert_allclose(final[~done], obs[~done], rtol=1e-5),
        out["final"],
        out["obs"],
    )


@pytest.mark.parametrize("id", IDS)
def test_observations_lie_in_their_space(id):
    _, _, out = rollout(id)
    assert bool(out["inside"].all()) == (id not in OUTSIDE_ITS_SPACE)


@pytest.mark.slow
@pytest.mark.parametrize("id", ALL_IDS)
def test_nothing_is_nan_in_10_000_random_steps(id):
    env, params = make(id)
    action_space, space = env.action_space(params), env.observation_space(params)

    def step(carry, key):
        state, fine, inside = carry
        keys = jax.random.split(key, 2 * 100).reshape(2, 100)
        obs, state, reward, _, _, info = jax.vmap(env.step, (0, 0, 0, None))(
            keys[0], state, jax.vmap(action_space.sample)(keys[1]), params
        )
        seen = jax.tree.leaves((obs, info["final_observation"], reward))
        fine &= jnp.all(jnp.stack([jnp.isfinite(x).all() for x in seen]))
        return (state, fine, inside & contains(space, obs).all()), None

    def run(key):
        _, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, 100), params)
        start = (state, jnp.array(True), jnp.array(True))
        return jax.lax.scan(step, start, jax.random.split(key, 100))[0][1:]

    fine, inside = run_once(run, jax.random.key(1))
    assert fine
    assert inside or id in OUTSIDE_ITS_SPACE | OUTSIDE_LATER


@pytest.mark.parametrize("id", IDS)
def test_observations_and_actions_become_features(id):
    env, params, out = rollout(id)
    space, action_space = env.observation_space(params), env.action_space(params)
    features = flatten(space, out["obs"])
    assert features.shape == (STEPS, BATCH, feature_size(space))
    assert features.dtype == jnp.float32
    assert feature_size(action_space) > 0


@pytest.mark.parametrize("id", IDS)
def test_the_state_keeps_its_types_so_that_it_can_be_carried(id):
    env, params, _ = rollout(id)
    key = jax.random.key(0)
    _, before = jax.eval_shape(env.reset, key, params)
    action = env.action_space(params).sample(key)
    _, after, *results = jax.eval_shape(env.step, key, before, action, params)
    types = [jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (before, after)]
    assert types[0] == types[1]
    if "popgym" in id:  # a weak type would compile a training step twice; gymnax has some
        assert not any(x.weak_type for x in jax.tree.leaves((before, after, results)))


SPACES = [
    (Discrete(3), 2, 3),
    (MultiDiscrete((3, 3)), [2, 0], 6),
    (MultiDiscrete((2, 4)), [1, 3], 6),
    (Box(-1.0, 1.0, (2, 2)), [[0.5, -1.0], [1.0, 0.0]], 4),
    (Box(0, 255, ()), 7.0, 1),
    (Box(0, 1, (2,), jnp.int32), [0, 1], 2),
    (Dict({"b": Discrete(2), "a": Tuple((Discrete(2), Box(0.0, 9.0, (1,))))}), None, 5),
]


def element(space, value):
    if isinstance(space, Dict):
        return {"a": (jnp.int32(0), jnp.array([7.0])), "b": jnp.int32(1)}
    return jnp.array(value, space.dtype)


@pytest.mark.parametrize("space, value, size", SPACES, ids=lambda x: str(x)[:20])
def test_features_keep_any_leading_axes(space, value, size):
    x = element(space, value)
    features = flatten(space, x)
    assert features.shape == (size,) == (feature_size(space),)
    stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (5, 2, *leaf.shape)), x)
    np.testing.assert_array_equal(flatten(space, stacked), np.broadcast_to(features, (5, 2, size)))
    assert contains(space, x) and contains(space, stacked)


def test_features_are_one_hots_side_by_side_in_the_order_of_the_space():
    assert flatten(Discrete(3), jnp.int32(2)).tolist() == [0, 0, 1]
    assert flatten(MultiDiscrete((3, 3)), jnp.array([2, 0])).tolist() == [0, 0, 1, 1, 0, 0]
    assert flatten(MultiDiscrete((2, 4)), jnp.array([1, 3])).tolist() == [0, 1, 0, 0, 0, 1]
    nested = SPACES[-1][0]
    assert flatten(nested, element(nested, None)).tolist() == [0, 1, 1, 0, 7]


@pytest.mark.parametrize(
    "space, x",
    [
        (Discrete(3), jnp.array([0, 3])),
        (Discrete(3), jnp.int32(-1)),
        (Discrete(3), jnp.float32(1.0)),
        (MultiDiscrete((2, 4)), jnp.array([2, 0])),
        (MultiDiscrete((2, 4)), jnp.array([1, 1, 1])),
        (Box(0.0, 1.0, (2,)), jnp.array([0.0, 1.5])),
        (Box(0.0, 1.0, (2,)), jnp.array([0.0, jnp.nan])),
        (Box(0.0, 1.0, (2,)), jnp.array(0.5)),
        (Tuple((Discrete(2), Discrete(2))), (jnp.int32(0),)),
        (Dict({"a": Discrete(2)}), {"b": jnp.int32(0)}),
        (Dict({"a": Discrete(2)}), {"a": jnp.int32(2)}),
    ],
)
def test_what_is_not_in_a_space_is_not_contained(space, x):
    assert not contains(space, x)


def test_multi_discrete_samples_every_value_of_every_entry():
    space = MultiDiscrete((2, 3, 5), dtype=jnp.int8)
    draws = jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 300))
    assert draws.shape == (300, 3) and draws.dtype == jnp.int8
    assert space.contains(draws)
    assert [np.unique(column).size for column in draws.T] == [2, 3, 5]
    assert "(2, 3, 5)" in repr(space)


class Graph(Space):
    """A kind of space that nobody here knows."""


def test_an_unknown_space_or_a_wrong_shape_is_refused_at_once():
    nested = Tuple((Discrete(2), Graph()))
    for ask in (feature_size, lambda s: flatten(s, (0, 0)), lambda s: contains(s, (0, 0))):
        for space in (Graph(), nested):
            with pytest.raises(UsageError, match=r"expected a Discrete.*Graph"):
                ask(space)
    with pytest.raises(UsageError, match=r"got shape \(3,\)"):
        flatten(Box(0.0, 1.0, (2,)), jnp.zeros(3))
    for nvec in ((), (0, 2), (1.5,), 3):
        with pytest.raises(UsageError, match="positive integers"):
            MultiDiscrete(nvec)
