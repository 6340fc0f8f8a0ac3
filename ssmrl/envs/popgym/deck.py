"""A deck that is shuffled one card at a time, as the cards are dealt.

Dealing position i swaps it with a position drawn uniformly from i, i+1, …, n-1: step i of the
Fisher-Yates shuffle. After n deals the order is a uniform permutation *whatever* order the
cards were in before, so that a new episode need neither sort nor shuffle: it goes on with the
arrangement the last one left. That is what makes auto-reset cost nothing.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct

from ssmrl.envs.draw import below
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Scalar

DECK_SIZE = 52
VALUES = {"colors": 2, "suits": 4, "ranks": 13}
"""How many distinct values a card has, by what a game looks at."""

IN_BOUNDS: Any = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
"""Spares the checks of an index, which take longer than what they guard."""


@struct.dataclass
class Deck:
    """Cards in their order of dealing.

    cards: (n,) int8, each card's value; a permutation of the same multiset at all times.
    dealt: () int32, how many cards of this episode are on the table: cards[:dealt].
    known: () int32, how many leading cards keep their place when dealt; 0 in play. A known
        order is played with `deck.replace(cards=order, known=n)`, for one episode.
    """

    cards: Array
    dealt: Scalar
    known: Scalar

    def deal(self, word: Scalar, when: Scalar) -> tuple["Deck", Scalar]:
        """Deal the next card where `when`, else change nothing.

        word: () uint32 of random bits. when: () bool. Returns the deck and the card's value,
        () int32, which means nothing where nothing was dealt.
        """
        n = self.cards.shape[0]
        here = jnp.minimum(self.dealt, n - 1)
        free = when & (here >= self.known)
        there = here + jnp.where(free, below(word, n - here), 0)
        both = jnp.stack([here, there])
        old, card = self._at(here), self._at(there)
        cards = self.cards.at[both].set(jnp.stack([card, old]), **IN_BOUNDS)
        dealt = self.dealt + when.astype(jnp.int32)
        return Deck(cards=cards, dealt=dealt, known=self.known), card.astype(jnp.int32)

    def card(self, position: Scalar | int) -> Scalar:
        """The value of the card dealt at `position`, 0 … n-1 (not checked), () int32."""
        return self._at(position).astype(jnp.int32)

    def collect(self, when: Scalar) -> "Deck":
        """All cards back in the deck where `when`, in the order they happen to be in."""
        dealt, known = jnp.where(when, 0, self.dealt), jnp.where(when, 0, self.known)
        return Deck(cards=self.cards, dealt=dealt, known=known)

    def _at(self, position: Scalar | int) -> Scalar:
        return jnp.asarray(self.cards).at[position].get(**IN_BOUNDS)


def new_deck(decks: int, kind: str) -> Deck:
    """`decks` sorted packs of 52 cards of which a game sees the `kind`: a key of VALUES.

    Raises UsageError for another kind, or fewer than one pack.
    """
    if kind not in VALUES:
        raise UsageError(f"kind: expected one of {', '.join(VALUES)}, got {kind!r}")
    if not isinstance(decks, int) or decks < 1:
        raise UsageError(f"decks: expected a whole number of packs, 1 or more, got {decks!r}")
    cards = jnp.arange(DECK_SIZE * decks, dtype=jnp.int32) % VALUES[kind]
    zero = jnp.zeros((), jnp.int32)
    return Deck(cards=cards.astype(jnp.int8), dealt=zero, known=zero)
