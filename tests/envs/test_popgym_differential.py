"""Our card games against the Python package: same hidden draw, same actions, same everything."""

from functools import cache

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import popgym  # noqa: F401  (registers the environments with gymnasium)
import pytest

from ssmrl.envs import EpisodeStatistics, make
from ssmrl.envs import popgym as ours
from ssmrl.envs.contract import Discrete, MultiDiscrete, Tuple, contains
from ssmrl.envs.popgym.deck import Deck
from tests.envs.probes import run_once

NAMES = list(ours.ENVIRONMENTS)
POLICIES = ("random", "oracle", "adversarial", "constant")
SEEDS = (3, 4)


def original_env(name):
    return gymnasium.make(f"popgym-{name}-v0").unwrapped


def hidden_draw(name, real):
    """What the original drew at reset, in order of dealing (Concentration: by position)."""
    if name.startswith("Concentration"):
        return real.state.copy()
    if name.startswith("CountRecall"):
        decks = (real.value_deck, real.query_deck)
        return np.stack([real.deck_idx_type[d.idx[::-1]] for d in decks])
    values = real.deck.ranks_idx if name.startswith("HigherLower") else real.deck.suits_idx
    return values[real.deck.idx[::-1]]


def inject(name, env, draw):
    """Our state after a reset that drew `draw`."""
    _, state = env.reset(jax.random.key(0))
    if name.startswith("Concentration"):
        return state.replace(table=jnp.asarray(draw, jnp.int8))
    n = jnp.int32(draw.shape[-1])
    decks = [Deck(jnp.asarray(c, jnp.int8), jnp.int32(1), n) for c in np.atleast_2d(draw)]
    if name.startswith("CountRecall"):
        counts = np.arange(len(state.counts)) == draw[0, 0]
        counts = jnp.asarray(counts, jnp.int32)
        return state.replace(deck=decks[0], queries=decks[1], counts=counts)
    return state.replace(deck=decks[0])


def best_actions(name, env, draw):
    """Actions that earn the most, knowing the hidden draw."""
    t = np.arange(env.episode_steps)
    if name.startswith("RepeatFirst"):
        return np.full_like(t, draw[0])
    if name.startswith("RepeatPrevious"):
        return draw[np.maximum(t - env.k + 1, 0)]
    if name.startswith("Autoencode"):
        return draw[np.minimum(2 * (len(draw) - 1) - t, len(draw) - 1)]
    if name.startswith("HigherLower"):
        return (draw[1:] < draw[:-1]).astype(int)
    if name.startswith("CountRecall"):
        values, queries = draw
        return np.array([np.sum(values[: s + 1] == queries[s]) for s in t])
    by_value = np.argsort(draw, kind="stable")  # pairs side by side
    return np.concatenate([by_value, np.zeros(len(t) - len(by_value), int)])


def actions_of(policy, name, env, draw, seed):
    steps, count = env.episode_steps, env.num_actions
    best = best_actions(name, env, draw)
    if policy == "oracle":
        return best
    if policy == "random":
        return np.random.default_rng(seed).integers(count, size=steps)
    if policy == "constant":
        return np.zeros(steps, int)
    if name.startswith("Concentration"):  # face-up cards, as first and as second of a turn
        turn = np.array([best[-1], best[0], best[1], draw.size - 1, draw.size - 1])
        return np.concatenate([best[:12], np.resize(turn, steps - 12)])
    return (best + 1) % count


def play_original(real, seed, actions):
    obs, _ = real.reset(seed=seed)
    seen, steps = [np.asarray(obs)], []
    for action in actions:
        obs, *step, _ = real.step(action)
        seen.append(np.asarray(obs))
        steps.append(step)
        if step[1] or step[2]:
            break
    reward, terminated, truncated = map(np.array, zip(*steps, strict=True))
    return np.stack(seen), reward, terminated, truncated


def play_ours(env, params, states, actions):
    """(B, T, …) observations after each step, rewards, flags; no auto-reset."""

    def step(state, action):
        obs, state, reward, terminated, _ = env.step_env(jax.random.key(1), state, action, params)
        obs = jnp.stack(obs) if isinstance(obs, tuple) else obs
        return state, (obs, reward, terminated, env.is_truncated(state, params))

    rollout = jax.vmap(lambda state, actions: jax.lax.scan(step, state, actions)[1])
    return list(map(np.asarray, run_once(rollout, states, jnp.asarray(actions, jnp.int32))))


@cache
def games(name):
    """[(policy, what the original did, what ours did)] for whole games, ours in one call."""
    env, params = make(f"popgym/{name}")
    real = original_env(name)
    cases, states, actions = [], [], []
    for seed in SEEDS:
        real.reset(seed=seed)
        draw = hidden_draw(name, real)
        for policy in POLICIES:
            actions.append(actions_of(policy, name, env, draw, seed))
            states.append(inject(name, env, draw))
            cases.append((policy, play_original(real, seed, actions[-1])))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    played = play_ours(env, params, stacked, np.stack(actions))
    return [(p, theirs, [x[b] for x in played]) for b, (p, theirs) in enumerate(cases)]


@pytest.mark.parametrize("name", NAMES)
def test_whole_games_equal_the_originals_step_by_step(name):
    for policy, theirs, mine in games(name):
        seen, reward, terminated, truncated = theirs
        steps = len(reward)
        np.testing.assert_array_equal(mine[0][:steps], seen[1:], err_msg=policy)
        np.testing.assert_allclose(mine[1][:steps], reward, atol=1e-6, err_msg=policy)
        np.testing.assert_array_equal(mine[2][:steps], terminated, err_msg=policy)
        np.testing.assert_array_equal(mine[3][:steps], truncated, err_msg=policy)
        assert terminated[-1] or truncated[-1], "the game was not played to its end"


@pytest.mark.parametrize("name", NAMES)
def test_knowing_the_draw_earns_everything_and_its_opposite_loses_everything(name):
    for policy, (_, theirs, *_), (_, mine, *_) in games(name):
        total = mine[: len(theirs)].sum()
        if policy == "oracle" and not name.startswith("HigherLower"):  # ties pay nothing there
            assert total == pytest.approx(1.0, abs=1e-4)
        if policy == "adversarial" and not name.startswith(("HigherLower", "Concentration")):
            assert total == pytest.approx(-1.0, abs=1e-4)
        if policy == "constant" and name.startswith("Concentration"):  # the same card, always
            assert total == pytest.approx(-1.0, abs=1e-4)


def sizes(space):
    """Numbers of values, for spaces of ours and of gymnasium alike."""
    if isinstance(space, Discrete | gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, MultiDiscrete | gymnasium.spaces.MultiDiscrete):
        return [int(n) for n in space.nvec]
    assert isinstance(space, Tuple | gymnasium.spaces.Tuple)
    return tuple(map(sizes, space.spaces))


@pytest.mark.parametrize("name", NAMES)
def test_spaces_and_the_first_observation_are_those_of_the_original(name):
    env, params = make(f"popgym/{name}")
    real = original_env(name)
    assert sizes(env.observation_space(params)) == sizes(real.observation_space)
    assert sizes(env.action_space(params)) == sizes(real.action_space)
    obs, _ = env.reset(jax.random.key(0), params)
    assert contains(env.observation_space(params), obs)
    if name.startswith("Concentration"):  # nothing is random here
        np.testing.assert_array_equal(obs, real.reset(seed=0)[0])


UNIFORM = {
    "RepeatFirst": (-0.5,) * 3,
    "RepeatPrevious": (-0.5,) * 3,
    "Autoencode": (-0.5,) * 3,
    "CountRecall": (2 / 27 - 1, 2 / 27 - 1, 2 / 17 - 1),
    "HigherLower": (0.0,) * 3,
}
"""Mean return of a uniform policy, easy, medium, hard: from the chance to guess right."""


def random_returns(name, batch=384):
    """Returns and lengths of one episode in each of `batch` environments."""
    inner, params = make(f"popgym/{name}")
    env = EpisodeStatistics(inner)

    def step(state, key):
        key_act, key_step = jax.random.split(key)
        action = jax.random.randint(key_act, (batch,), 0, inner.num_actions)
        keys = jax.random.split(key_step, batch)
        *_, state, _, _, _, info = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        return state, [info[k] for k in ("episode_return", "episode_length", "episode_end")]

    def play(key):
        _, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, batch), params)
        return jax.lax.scan(step, state, jax.random.split(key, inner.episode_steps))[1]

    total, length, end = map(np.asarray, run_once(play, jax.random.key(11)))
    first = end.argmax(axis=0), np.arange(batch)
    assert end.any(axis=0).all(), "an episode took longer than the longest"
    return total[first], length[first]


def standard_error(x):
    return x.std(ddof=1) / np.sqrt(len(x))


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("Concentration")])
def test_a_uniform_policy_earns_what_guessing_earns(name):
    game = next(g for g in UNIFORM if name.startswith(g))
    expected = UNIFORM[game][("Easy", "Medium", "Hard").index(name.removeprefix(game))]
    returns, lengths = random_returns(name)
    assert abs(returns.mean() - expected) < 4 * standard_error(returns)
    assert set(lengths) == {make(f"popgym/{name}")[0].episode_steps}


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("Concentration")])
def test_a_uniform_policy_earns_what_it_earns_in_the_original(name):
    mine, lengths = random_returns(name)
    real, rng = original_env(name), np.random.default_rng(0)
    theirs, their_lengths = [], []
    for seed in range(150):
        actions = rng.integers(real.action_space.n, size=real.episode_length)
        rewards = play_original(real, seed, actions)[1]
        theirs.append(rewards.sum())
        their_lengths.append(len(rewards))
    error = np.hypot(standard_error(mine), standard_error(np.array(theirs)))
    assert abs(mine.mean() - np.mean(theirs)) < 4 * error
    assert set(lengths) == set(their_lengths)
