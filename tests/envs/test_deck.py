"""Cards dealt one swap at a time come in uniform order, episode after episode."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ssmrl.envs import make
from ssmrl.envs.draw import below, left_over
from ssmrl.envs.popgym.deck import Deck, new_deck
from ssmrl.errors import UsageError
from tests.envs.probes import run_once

CARDS, ORDERS = 4, 24


def deal_all(deck, words):
    yes = jnp.array(True)
    return jax.lax.scan(lambda deck, word: deck.deal(word, yes), deck, words)


@pytest.fixture(scope="module")
def two_episodes():
    """Numbers 0-23 of the orders in which four cards came, in two successive episodes: (2, N)."""
    zero = jnp.int32(0)
    deck = Deck(jnp.arange(CARDS, dtype=jnp.int8), zero, zero)

    def episodes(words):
        used, first = deal_all(deck, words[0])
        used, second = deal_all(used.collect(jnp.array(True)), words[1])
        return jnp.stack([first, second])

    words = jax.random.bits(jax.random.key(5), (40_000, 2, CARDS))
    orders = np.asarray(jax.jit(jax.vmap(episodes))(words))
    assert (np.sort(orders, axis=-1) == np.arange(CARDS)).all()
    codes = orders @ (CARDS ** np.arange(CARDS))
    return np.unique(codes, return_inverse=True)[1].reshape(-1, 2).T


@pytest.mark.parametrize("episode", [0, 1])
def test_every_order_is_equally_likely_also_from_a_used_deck(two_episodes, episode):
    counts = np.bincount(two_episodes[episode], minlength=ORDERS)
    assert len(counts) == ORDERS
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_order_of_one_episode_tells_nothing_about_the_next(two_episodes):
    joint = np.bincount(two_episodes[0] * ORDERS + two_episodes[1], minlength=ORDERS**2)
    assert stats.chi2_contingency(joint.reshape(ORDERS, ORDERS)).pvalue > 1e-3


def test_a_known_order_is_dealt_as_it_is_until_the_deck_is_collected():
    order = jax.random.permutation(jax.random.key(0), jnp.arange(52, dtype=jnp.int32))
    deck = Deck(order.astype(jnp.int8), jnp.int32(0), jnp.int32(52))
    used, dealt = deal_all(deck, jax.random.bits(jax.random.key(1), (52,)))
    np.testing.assert_array_equal(dealt, order)
    assert used.dealt == 52
    _, again = deal_all(used.collect(jnp.array(True)), jax.random.bits(jax.random.key(2), (52,)))
    assert (again != order).sum() > 26
    np.testing.assert_array_equal(np.sort(again), np.arange(52))


def test_dealing_and_collecting_on_condition_change_nothing_when_it_is_false():
    deck, _ = new_deck(1, "ranks").deal(jnp.uint32(2**31), jnp.array(True))
    same, _ = deck.deal(jnp.uint32(2**31), jnp.array(False))
    for kept in (same, same.collect(jnp.array(False))):
        jax.tree.map(np.testing.assert_array_equal, kept, deck)


def test_random_words_scale_to_the_exact_product():
    words = [0, 1, 0xFFFF, 0x10000, 2**31, 2**32 - 1, *range(12345, 2**32, 2**32 // 50)]
    for bound in (1, 2, 3, 52, 831, 832, 2**16 - 1):
        got = jax.vmap(lambda w, b=bound: below(w, jnp.int32(b)))(jnp.array(words, jnp.uint32))
        assert got.tolist() == [w * bound >> 32 for w in words]


@pytest.mark.parametrize("decks, kind", [(0, "suits"), (1.5, "suits"), (1, "hearts")])
def test_a_deck_that_does_not_exist_is_refused(decks, kind):
    with pytest.raises(UsageError, match=r"expected .*got"):
        new_deck(decks, kind)


def episodes_through_auto_reset(id, actions, batch=256, episodes=3):
    """What `batch` environments show in successive episodes: the first observation of each,
    then the final or ordinary one of each step. A leading axis for episodes."""
    env, params = make(id)
    steps = len(actions)

    def step(carry, x):
        state, shown = carry
        key, action = x
        obs, state, *_, info = env.step(key, state, action, params)
        return (state, obs), (shown, info["final_observation"], info["terminated"])

    @jax.vmap
    def play(key):
        obs, state = env.reset(key, params)
        xs = jax.random.split(key, steps * episodes), jnp.tile(actions, episodes)
        return jax.lax.scan(step, (state, obs), xs)[1]

    shown, after, end = jax.jit(play)(jax.random.split(jax.random.key(9), batch))
    shape = (batch, episodes, steps, *shown.shape[2:])
    shown, after, end = (np.asarray(x).reshape(shape[: x.ndim + 1]) for x in (shown, after, end))
    return np.concatenate([shown[:, :, :1], after], axis=2), end


def test_auto_reset_deals_the_whole_pack_anew_each_time():
    suits, end = episodes_through_auto_reset("popgym/RepeatFirstEasy", jnp.zeros(51, jnp.int32))
    assert end[:, :, -1].all() and not end[:, :, :-1].any()
    assert suits.shape == (256, 3, 52)
    assert (np.sort(suits, axis=-1) == np.repeat(np.arange(4), 13)).all()
    for a, b in ((0, 1), (1, 2), (0, 2)):
        match = (suits[:, a] == suits[:, b]).mean(axis=1)  # 1/4 where the orders are independent
        assert abs(match.mean() - 0.25) < 4 * match.std() / np.sqrt(len(match))
    for episode in range(3):  # the first card is the one that all of RepeatFirst hangs on
        assert stats.chisquare(list(Counter(suits[:, episode, 0].tolist()).values())).pvalue > 1e-3


def test_concentration_lays_out_a_whole_pack_and_keeps_it_until_the_game_ends():
    actions = jnp.tile(jnp.arange(52, dtype=jnp.int32), 2)  # each card twice, 104 steps
    obs, _ = episodes_through_auto_reset("popgym/ConcentrationHard", actions)
    assert (obs[:, :, 0] == 13).all()
    turned = obs[:, :, 1:53][:, :, np.arange(52), np.arange(52)]  # what each turn revealed
    again = obs[:, :, 53:105][:, :, np.arange(52), np.arange(52)]
    np.testing.assert_array_equal(turned, again)
    assert (np.sort(turned, axis=-1) == np.repeat(np.arange(13), 4)).all()
    match = (turned[:, 0] == turned[:, 1]).mean(axis=1)
    assert abs(match.mean() - 1 / 13) < 4 * match.std() / np.sqrt(len(match))


@pytest.mark.parametrize("game", ["RepeatPrevious", "Autoencode", "CountRecall", "Concentration"])
@pytest.mark.parametrize("limit", [{"max_steps_in_episode": 41}, {}], ids=["cut short", "whole"])
def test_after_auto_reset_only_the_order_of_the_cards_is_left_of_the_last_game(game, limit):
    env, params = make(f"popgym/{game}Easy", **limit)
    steps = params.max_steps_in_episode

    def play(key):
        first = env.reset(key, params)
        keys = jax.random.split(key, steps)
        actions = jax.random.randint(key, (steps,), 0, env.num_actions)

        def step(state, x):
            obs, state, *_ = env.step(x[0], state, x[1], params)
            return state, (obs, state)

        return first, jax.lax.scan(step, first[1], (keys, actions))[1]

    first, after = run_once(jax.vmap(play), jax.random.split(jax.random.key(1), 8))
    last = jax.tree.map(lambda x: x[:, -1], after)
    if game == "CountRecall":  # of the counts one is left, that of the new card
        obs, state = last
        np.testing.assert_array_equal(state.counts, np.eye(2)[obs[:, 0]])
    for field in ("time", "table", "face_up", "first", "found"):
        if hasattr(last[1], field):
            np.testing.assert_array_equal(getattr(last[1], field), getattr(first[1], field), field)
    for deck in ("deck", "queries"):
        if hasattr(last[1], deck):
            new, old = getattr(last[1], deck), getattr(first[1], deck)
            np.testing.assert_array_equal(new.dealt, old.dealt)
            assert not new.known.any()
    if game == "Concentration":  # there was something to forget
        assert after[1].found[:, -2].all()


def test_a_word_serves_for_a_second_draw_that_knows_nothing_of_the_first():
    words, bound = jax.random.bits(jax.random.key(3), (200_000,)), jnp.int32(13)
    first = np.asarray(below(words, bound))
    second = np.asarray(below(left_over(words, bound), bound))
    joint = np.bincount(first * 13 + second, minlength=13**2)
    assert stats.chisquare(joint).pvalue > 1e-3
