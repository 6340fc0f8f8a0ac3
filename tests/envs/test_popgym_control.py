"""Our control tasks against the Python package, their noise, and the older port's rules."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ssmrl.envs import make
from ssmrl.envs import popgym as ours
from ssmrl.errors import UsageError
from tests.envs.original import (
    assert_same_game,
    names_of,
    original_env,
    play_original,
    play_ours,
)
from tests.envs.probes import run_once

CARTPOLES = names_of(ours.ENVIRONMENTS, "PositionOnlyCartPole", "VelocityOnlyCartPole")
PENDULUMS = names_of(ours.ENVIRONMENTS, "PositionOnlyPendulum")
NOISY = [n for n in ours.ENVIRONMENTS if n.startswith("Noisy")]
POLICIES = ("random", "oracle", "adversarial", "constant")
COMPARED = 50  # steps; the pole is unstable, so that rounding grows twentyfold a second


def inject(name, env, real):
    """Our state where the original stands."""
    values = [jnp.float32(x) for x in real.state]
    fields = ("position", "velocity", "angle", "spin") if "CartPole" in name else ("angle", "speed")
    return env.blank_state().replace(**dict(zip(fields, values, strict=True)))


def actions_of(policy, name, seed, steps):
    """Actions of a policy that sees the hidden state of the original, (steps, *action)."""
    if policy == "random" or policy == "constant":
        space = original_env(name).action_space
        space.seed(seed)
        draws = np.array([space.sample() for _ in range(steps)])
        return draws if policy == "random" else np.repeat(draws[:1], steps, axis=0)
    real, sign = original_env(name), 1 if policy == "oracle" else -1
    real.reset(seed=seed)
    actions = []
    for _ in range(steps):
        if "CartPole" in name:
            x, v, angle, spin = real.state
            good = angle + 0.3 * spin + 0.02 * x + 0.08 * v > 0
            actions.append(int(good == (sign > 0)))
        else:
            angle, speed = real.state
            actions.append(np.array([sign * 5 * np.sign(speed)], np.float32))  # beyond its bounds
        if real.step(actions[-1])[2]:
            break
    return np.resize(np.array(actions), (steps, *np.shape(actions[0])))


@cache
def games(name):
    """[(policy, what the original did, what ours did)], ours in one call."""
    env, params = make(f"popgym/{name}")
    real = original_env(name)
    cases, states, actions = [], [], []
    for seed in (3, 4):
        for policy in POLICIES:
            actions.append(actions_of(policy, name, seed, COMPARED + 1))
            real.reset(seed=seed)
            states.append(inject(name, env, real))
            cases.append((policy, play_original(real, seed, actions[-1])))
    played = play_ours(env, params, states, actions)
    return [(p, theirs, [x[b] for x in played]) for b, (p, theirs) in enumerate(cases)]


@pytest.mark.parametrize("name", CARTPOLES + PENDULUMS)
def test_fifty_steps_equal_the_originals(name):
    for policy, theirs, mine in games(name):
        assert_same_game(theirs, mine, policy, atol=1e-4, steps=COMPARED)
    ends = [theirs[2][-1] for _, theirs, _ in games(name)]
    assert any(ends) == ("CartPole" in name), "a pole should have fallen"
    longest = max(len(theirs[1]) for _, theirs, _ in games(name))
    assert longest > COMPARED, "a game should have lasted"


@pytest.mark.parametrize("name", CARTPOLES + PENDULUMS)
def test_time_is_up_when_it_is_in_the_original(name):
    env, params = make(f"popgym/{name}")
    real, late = original_env(name), env.episode_steps - 3
    real.reset(seed=0)
    state = inject(name, env, real).replace(time=jnp.int32(late))
    space = real.action_space
    space.seed(0)
    actions = [np.array([space.sample() for _ in range(5)])]
    played = play_ours(env, params, [state], actions)
    theirs = play_original(real, 0, actions[0], lambda r: setattr(r, "num_steps", late))
    assert_same_game(theirs, [x[0] for x in played], atol=1e-4)
    assert theirs[3].tolist() == [False, False, True] and not theirs[2].any()


def after_one_step(env, params, count=4000):
    """(observations after one step from rest, at reset), each (count, 2), one key each."""

    def step(key):
        action = jnp.zeros_like(env.action_space(params).sample(key))
        return env.step_env(key, env.blank_state(), action, params)[0], env.reset_env(key, params)

    keys = jax.random.split(jax.random.key(5), count)
    return run_once(jax.vmap(step), keys)


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_gaussian_independent_and_clipped_to_the_box(name):
    env, params = make(f"popgym/{name}")
    real = original_env(name)
    sigma, high = float(real.noise_sigma[0]), real.observation_space.high
    assert env.noise == sigma
    stepped, (first, state) = after_one_step(env, params)
    if "CartPole" in name:
        truth = np.zeros((len(first), 2))
        start = np.stack([state.position, state.angle], axis=1)
    else:
        truth = np.tile([1.0, 0.0], (len(first), 1))
        start = np.stack([np.cos(state.angle), np.sin(state.angle)], axis=1)
    rng = np.random.default_rng(0)
    for seen, exact in ((stepped, truth), (first, start)):
        expected = np.clip(exact + sigma * rng.normal(size=exact.shape), -high, high)
        for i in range(2):
            assert stats.ks_2samp(np.asarray(seen)[:, i], expected[:, i]).pvalue > 1e-3
        assert (abs(np.asarray(seen)) <= high + 1e-6).all()
        free = (abs(np.asarray(seen)) < high - 1e-6).all(axis=1)
        error = (np.asarray(seen) - exact)[free]
        assert abs(np.corrcoef(error.T)[0, 1]) < 0.1
    unclipped = (np.asarray(stepped) - truth)[:, 0 if "CartPole" in name else 1]
    assert abs(unclipped.mean()) < 4 * sigma / math.sqrt(len(unclipped))
    assert unclipped.std() == pytest.approx(sigma, rel=0.06)


def test_an_episode_begins_where_the_originals_do():
    for name, fields in (
        ("PositionOnlyCartPoleEasy", ("position", "velocity", "angle", "spin")),
        ("PositionOnlyPendulumEasy", ("angle", "speed")),
    ):
        env, params = make(f"popgym/{name}")
        _, state = run_once(
            jax.vmap(lambda key, env=env, params=params: env.reset_env(key, params)),
            jax.random.split(jax.random.key(1), 1000),
        )
        real = original_env(name)
        starts = []
        for seed in range(300):
            real.reset(seed=seed)
            starts.append(real.state)
        mine = np.stack([getattr(state, f) for f in fields], axis=1)
        for i in range(len(fields)):
            assert stats.ks_2samp(mine[:, i], np.array(starts)[:, i]).pvalue > 1e-3
        assert abs(np.corrcoef(mine.T) - np.eye(len(fields))).max() < 0.15


def test_the_velocity_task_shows_positions_at_first_as_the_original_does():
    env, params = make("popgym/VelocityOnlyCartPoleEasy")
    obs, state = env.reset(jax.random.key(0), params)
    np.testing.assert_allclose(obs, [state.position, state.angle])
    real = original_env("VelocityOnlyCartPoleEasy")
    seen, _ = real.reset(seed=0)
    np.testing.assert_allclose(seen, real.state[[0, 2]], atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["PositionOnlyCartPoleHard", "NoisyPositionOnlyPendulumEasy", "PositionOnlyPendulumHard"],
)
def test_the_older_port_reports_the_time_limit_as_the_end_of_the_task(name):
    for compat, flags in ((None, (False, True)), ("popjaxrl", (True, False))):
        env, params = make(f"popgym/{name}", compat=compat)
        late = env.blank_state().replace(time=jnp.int32(env.episode_steps))
        early = env.blank_state().replace(time=jnp.int32(env.episode_steps - 1))
        assert (env.is_terminated(late, params), env.is_truncated(late, params)) == flags
        assert not env.is_terminated(early, params) and not env.is_truncated(early, params)


def test_the_older_port_does_not_clip_a_noisy_pendulum():
    env, params = make("popgym/NoisyPositionOnlyPendulumHard", compat="popjaxrl")
    stepped, _ = after_one_step(env, params)
    assert abs(np.asarray(stepped)[:, 0].mean() - 1) < 4 * 0.3 / math.sqrt(4000)
    assert np.isinf(env.observation_space(params).high).all()


def test_the_older_port_asks_for_one_card_earlier_and_for_one_step_longer():
    env, params = make("popgym/RepeatPreviousEasy", compat="popjaxrl")
    cards = jax.random.permutation(jax.random.key(0), jnp.arange(52, dtype=jnp.int8) % 4)
    state = env.blank_state()
    one, n = jnp.int32(1), jnp.int32(52)
    state = state.replace(deck=state.deck.replace(cards=cards, dealt=one, known=n))
    right = np.concatenate([np.zeros(4, int), np.asarray(cards)[:48]])
    obs, reward, terminated, truncated = play_ours(env, params, [state], [right])
    expected = np.where(np.arange(52) < 4, 0, 1 / 48)
    np.testing.assert_allclose(reward[0], expected, atol=1e-7)
    np.testing.assert_array_equal(obs[0], np.append(np.asarray(cards)[1:], cards[-1]))
    assert terminated[0].nonzero()[0].tolist() == [51] and not truncated.any()
    assert params.max_steps_in_episode == 52


def test_compatibility_is_refused_where_no_published_score_needs_it():
    with pytest.raises(UsageError, match="compat"):
        make("popgym/HigherLowerEasy", compat="popjaxrl")
