"""Concentration: find pairs among face-down cards (popgym 1.0.7, concentration.py)."""

import math

import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Discrete, EnvParams, EnvState, MultiDiscrete
from ssmrl.envs.draw import word
from ssmrl.envs.game import Game, Step, headline
from ssmrl.envs.popgym.dealing import spread
from ssmrl.envs.popgym.deck import VALUES, Deck, new_deck
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

NONE = -1


@struct.dataclass
class TableState(EnvState):
    """time: () int32. deck: where a card's value comes from when it is first turned over.

    table: (n,) int8, the value at each position, K where it was never turned over.
    face_up: (n,) bool, positions of pairs found. first: () int32, position of the card in play
    that waits for its second, or NONE. found: () int32, number of pairs.
    """

    deck: Deck
    table: Array
    face_up: Array
    first: Scalar
    found: Scalar


class Concentration(Game):
    """Turn over two cards, one per step; equal ones stay face up.

    n = 52 * decks cards, E = ceil(2n - n/(2n-1)) steps at most (truncated); all up: terminated.
    A pair pays 2/n; a second card that differs, or is the first one again, -2/E; touching a
    face-up card -1/E per card in play, and ends the turn; a first card 0. The observation shows
    the cards in play, also where they differ, and K for a card that lies face down. Best return
    1, worst -1. kind: "colors" or "ranks" (13 suits of a pack make no pairs).

    A position gets its card from the deck when first turned over: the same distribution as
    laying out a shuffled deck.
    """

    def __init__(self, decks: int = 1, kind: str = "ranks") -> None:
        if kind not in ("colors", "ranks"):
            raise UsageError(f"kind: expected colors or ranks, got {kind!r}")
        self.decks, self.kind = decks, kind
        n = self.num_cards = new_deck(decks, kind).cards.shape[0]
        self.episode_steps = math.ceil(2 * n - n / (2 * n - 1))

    def blank_state(self) -> TableState:
        """A sorted deck and an empty table."""
        zero = jnp.zeros((), jnp.int32)
        deck = new_deck(self.decks, self.kind)
        face_up = jnp.zeros(self.num_cards, bool)
        first = jnp.full((), NONE, jnp.int32)
        return TableState(zero, deck, self._hidden(), face_up, first, zero)

    def begin(self, key: Key, before: TableState) -> tuple[Array, TableState]:
        """Lay all cards face down; nothing is dealt yet."""
        state = self.blank_state().replace(deck=before.deck.collect(jnp.array(True)))
        return self._hidden(), state

    def step_env(self, key: Key, state: TableState, action: Scalar, params: EnvParams) -> Step:
        """Turn over the card at position `action`."""
        position = jnp.arange(self.num_cards, dtype=jnp.int32)
        here, there = position == action, position == state.first
        unseen = state.table[action] == VALUES[self.kind]
        deck, card = state.deck.deal(word(key), unseen)
        table = jnp.where(here & unseen, card.astype(jnp.int8), state.table)
        obs = jnp.where(state.face_up | here | there, table, self._hidden())

        second = state.first != NONE
        touched = state.face_up[action]
        equal = table[action] == table[jnp.maximum(state.first, 0)]
        pair = second & ~touched & (action != state.first) & equal
        in_play = 1 + second.astype(jnp.float32)
        miss = jnp.where(second | touched, -in_play / self.episode_steps, 0.0)
        reward = jnp.where(pair, 2 / self.num_cards, miss)
        state = TableState(
            time=state.time + 1,
            deck=deck,
            table=table,
            face_up=state.face_up | ((here | there) & pair),
            first=jnp.where(second | touched, NONE, action),
            found=state.found + pair.astype(jnp.int32),
        )
        return obs, state, reward, self.is_terminated(state, params), {}

    def is_terminated(self, state: TableState, params: EnvParams) -> Scalar:
        """Whether every pair is found."""
        return state.found == self.num_cards // 2

    def is_truncated(self, state: TableState, params: EnvParams) -> Scalar:
        """Whether time is up; as in the original also where the last pair is found just then."""
        return state.time >= params.max_steps_in_episode

    def render(self, state: TableState, params: EnvParams) -> str:
        """Pairs found, and the first card of a turn that waits for its second."""
        first = np.arange(self.num_cards) == int(state.first)
        shown = np.where(state.face_up | first, state.table, VALUES[self.kind])
        pairs = f"{int(state.found)} of {self.num_cards // 2} pairs"
        return f"{headline(state, params)}, {pairs}\n{spread(self.kind, shown, width=13)}"

    def observation_space(self, params: EnvParams) -> MultiDiscrete:
        """The value at each position, K where it lies face down; int8, for there are many."""
        return MultiDiscrete((VALUES[self.kind] + 1,) * self.num_cards, dtype=jnp.int8)

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """The position to turn over."""
        return Discrete(self.num_cards)

    def _hidden(self) -> Array:
        return jnp.full(self.num_cards, VALUES[self.kind], jnp.int8)
