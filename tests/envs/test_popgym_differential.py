"""Our card games against the Python package: same hidden draw, same actions, same everything."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import make
from ssmrl.envs import popgym as ours
from ssmrl.envs.contract import contains
from ssmrl.envs.popgym.deck import Deck
from tests.envs.original import (
    assert_same_game,
    names_of,
    original_env,
    play_original,
    play_ours,
)

NAMES = names_of(
    ours.ENVIRONMENTS,
    "RepeatFirst",
    "RepeatPrevious",
    "Autoencode",
    "CountRecall",
    "HigherLower",
    "Concentration",
)
POLICIES = ("random", "oracle", "adversarial", "constant")
SEEDS = (3, 4)


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
    played = play_ours(env, params, states, actions)
    return [(p, theirs, [x[b] for x in played]) for b, (p, theirs) in enumerate(cases)]


@pytest.mark.parametrize("name", NAMES)
def test_whole_games_equal_the_originals_step_by_step(name):
    for policy, theirs, mine in games(name):
        assert_same_game(theirs, mine, policy)
        assert theirs[2][-1] or theirs[3][-1], "the game was not played to its end"


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


@pytest.mark.parametrize("name", NAMES)
def test_the_first_observation_lies_in_its_space(name):
    env, params = make(f"popgym/{name}")
    obs, _ = env.reset(jax.random.key(0), params)
    assert contains(env.observation_space(params), obs)
    if name.startswith("Concentration"):  # nothing is random here
        np.testing.assert_array_equal(obs, original_env(name).reset(seed=0)[0])
