"""Environments are found by id; wrong ids and settings are answered with the right ones."""

import urllib.error

import jax
import jax.numpy as jnp
import pytest
from gymnax import registration

from ssmrl.envs import list_envs, make, register, registry
from ssmrl.envs.contract import Discrete, Environment
from ssmrl.errors import UsageError
from tests.envs.probes import Counter


def test_all_games_and_all_of_gymnax_are_listed():
    ids = list_envs()
    assert ids == sorted(set(ids))
    assert sum(id.startswith("popgym/") for id in ids) == 48
    assert {f"gymnax/{name}" for name in registration.registered_envs} < set(ids)


def test_keywords_go_to_the_constructor_or_replace_a_parameter():
    env, params = make("popgym/RepeatPreviousEasy", k=10, max_steps_in_episode=20)
    assert (env.k, env.decks) == (10, 1)
    assert params.max_steps_in_episode == 20
    _, params = make("gymnax/CartPole-v1", gravity=5)
    assert params.gravity == 5.0 and isinstance(params.gravity, float)


def test_an_unknown_id_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"'popgym/RepeatPreviousEasy'.*ssmrl list envs"):
        make("popgym/RepeatPreviosEasy")


def test_an_unknown_setting_is_answered_with_the_known_ones():
    with pytest.raises(
        UsageError, match=r"deck_count.*known: compat, decks, k, max_steps_in_episode"
    ):
        make("popgym/RepeatPreviousEasy", deck_count=2)


@pytest.mark.parametrize("value", ["50", 5.5, True, None])
def test_a_parameter_of_the_wrong_type_is_refused(value):
    with pytest.raises(UsageError, match=r"max_steps_in_episode .*expected a value like 51"):
        make("popgym/RepeatPreviousEasy", max_steps_in_episode=value)


@pytest.mark.parametrize("steps", [0, -5])
def test_an_episode_without_steps_is_refused(steps):
    with pytest.raises(UsageError, match=r"max_steps_in_episode .*1 or more"):
        make("popgym/RepeatPreviousEasy", max_steps_in_episode=steps)


@pytest.mark.parametrize(
    "id, setting",
    [
        ("popgym/RepeatPreviousEasy", {"k": 52}),
        ("popgym/RepeatPreviousEasy", {"k": 0}),
        ("popgym/RepeatPreviousEasy", {"k": "4"}),
        ("popgym/ConcentrationEasy", {"kind": "suits"}),
        ("popgym/CountRecallEasy", {"kind": "hearts"}),
        ("popgym/AutoencodeEasy", {"decks": 0}),
    ],
)
def test_impossible_games_are_refused(id, setting):
    with pytest.raises(UsageError, match="expected"):
        make(id, **setting)


@pytest.mark.parametrize(
    "id, setting, expected",
    [
        ("meta/CartPole", {"gain": "x"}, r"float, got 'x' \(str\)"),
        ("meta/CartPole", {"same_start": 3}, r"bool, got 3 \(int\)"),
        ("meta/Projected", {"of": 3}, r"str, got 3 \(int\)"),
        ("meta/Projected", {"actions": "x"}, r"int \| None, got 'x' \(str\)"),
        ("meta/RandomPhysics", {"fields": ["length", 3]}, r"list\[str\] .* None, got"),
        ("meta/RandomPhysics", {"fields": "length"}, r"list\[str\] .* None, got 'length'"),
        ("brax/reacher", {"backend": 3}, r"str \| None, got 3 \(int\)"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused(id, setting, expected):
    (name,) = setting
    with pytest.raises(UsageError, match=f"{name} of {id}: expected .*{expected}"):
        make(id, **setting)


def test_settings_without_a_type_are_left_to_the_environment(monkeypatch):
    monkeypatch.setitem(registry._registered, "test/Untyped", lambda actions=None: Counter(actions))
    assert make("test/Untyped", actions=Discrete(2))[0].num_actions == 2


def test_a_whole_number_and_nothing_at_all_serve_where_they_may():
    make("meta/CartPole", gain=2)
    make("meta/Projected", actions=None)


def test_a_data_set_that_cannot_be_loaded_is_a_clear_error(monkeypatch):
    def no_network():
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setitem(registry._registered, "test/Offline", no_network)
    with pytest.raises(UsageError, match=r"test/Offline.* data set.*Name or service"):
        make("test/Offline")


def test_own_environments_are_made_like_the_others(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    register("mine/Counter", Counter)
    env, params = make("mine/Counter", last=5)
    assert isinstance(env, Environment) and params.last == 5
    assert "mine/Counter" in list_envs()
    for taken in ("mine/Counter", "popgym/AutoencodeEasy"):
        with pytest.raises(UsageError, match="registered already"):
            register(taken, Counter)


def test_a_lowered_time_limit_truncates_a_card_game():
    env, params = make("popgym/RepeatFirstEasy", max_steps_in_episode=2)
    key = jax.random.key(0)
    _, state = env.reset(key, params)
    flags = []
    for _ in range(4):
        _, state, _, terminated, truncated, _ = env.step(key, state, jnp.int32(0), params)
        flags.append((bool(terminated), bool(truncated)))
    assert flags == [(False, False), (False, True)] * 2


@pytest.mark.parametrize("length, limit", [(10, 1000), (998, 1000), (999, 1001), (5000, 5002)])
def test_memory_chain_is_long_enough_to_pay(length, limit):
    _, params = make("gymnax/MemoryChain-bsuite", memory_length=length)
    assert params.max_steps_in_episode == limit
    _, params = make("gymnax/MemoryChain-bsuite", memory_length=length, max_steps_in_episode=9)
    assert params.max_steps_in_episode == 9


def test_a_memory_chain_longer_than_gymnaxs_limit_pays_for_the_context():
    env, params = make("gymnax/MemoryChain-bsuite", memory_length=1200)
    key = jax.random.key(3)

    def step(state, _):
        _, state, reward, terminated, truncated, _ = env.step(key, state, action, params)
        return state, (reward, terminated, truncated)

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # for gymnax
        obs, state = env.reset(key, params)
        action = (obs[2] > 0).astype(jnp.int32)
        reward, terminated, truncated = jax.lax.scan(step, state, length=1201)[1]
    assert reward[-1] == 1 and reward.sum() == 1
    assert terminated[-1] and not truncated.any()
