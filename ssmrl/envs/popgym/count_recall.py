"""CountRecall: how often was this value dealt so far? (popgym 1.0.7, count_recall.py)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Discrete, EnvParams, EnvState, MultiDiscrete
from ssmrl.envs.draw import left_over, word
from ssmrl.envs.game import Game, Step, headline
from ssmrl.envs.popgym.base import right_or_wrong
from ssmrl.envs.popgym.dealing import FACES, spread
from ssmrl.envs.popgym.deck import VALUES, Deck, new_deck
from ssmrl.shapes import Array, Key, Scalar


@struct.dataclass
class CountState(EnvState):
    """time: () int32. deck, queries: the cards dealt and the values asked for.

    counts: (K,) int32, how often each value was dealt, the card shown included.
    """

    deck: Deck
    queries: Deck
    counts: Array


class CountRecall(Game):
    """Each observation is (value dealt, value asked for); both come from a shuffled deck.

    The answer is how often the value asked for was dealt up to and with that observation, and
    pays +-1/(n-1), n = 52 * decks; n-1 steps, the last query is never answered. Best return 1.
    kind: what is counted, "colors", "suits" or "ranks"; K values, answers 0 … n/K, of which a
    uniform policy gets a share of 1 / (n/K + 1).
    """

    def __init__(self, decks: int = 1, kind: str = "colors") -> None:
        self.decks, self.kind = decks, kind
        self.num_cards = new_deck(decks, kind).cards.shape[0]
        self.episode_steps = self.num_cards - 1

    def blank_state(self) -> CountState:
        """Two sorted decks, no card dealt."""
        deck = new_deck(self.decks, self.kind)
        counts = jnp.zeros(VALUES[self.kind], jnp.int32)
        return CountState(time=jnp.zeros((), jnp.int32), deck=deck, queries=deck, counts=counts)

    def begin(self, key: Key, before: CountState) -> tuple[Array, CountState]:
        """Deal the first card and the first query."""
        yes = jnp.array(True)
        decks = {"deck": before.deck.collect(yes), "queries": before.queries.collect(yes)}
        return self._deal(key, self.blank_state().replace(**decks))

    def step_env(self, key: Key, state: CountState, action: Scalar, params: EnvParams) -> Step:
        """Score the answer to the query shown, deal a card and a query."""
        asked = jax.nn.one_hot(state.queries.card(state.time), state.counts.shape[0], dtype=bool)
        right = action == jnp.sum(jnp.where(asked, state.counts, 0))
        reward = right_or_wrong(right, 1 / self.episode_steps)
        obs, state = self._deal(key, state)
        state = state.replace(time=state.time + 1)
        return obs, state, reward, self.is_terminated(state, params), {}

    def render(self, state: CountState, params: EnvParams) -> str:
        """Value asked for, how often each was dealt, and all cards dealt so far."""
        time = int(state.time)
        faces = FACES[self.kind]
        tally = zip(faces, state.counts.tolist(), strict=True)
        counts = "  ".join(f"{face} {n}" for face, n in tally)
        asked = faces[int(state.queries.card(time))]
        dealt = spread(self.kind, np.asarray(state.deck.cards)[: time + 1])
        return f"{headline(state, params)}\nhow many {asked}? dealt: {counts}\n{dealt}"

    def observation_space(self, params: EnvParams) -> MultiDiscrete:
        """Value dealt, value asked for."""
        return MultiDiscrete((VALUES[self.kind],) * 2)

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """The count; one value occurs n/K times, so that many and none are both possible."""
        return Discrete(self.num_cards // VALUES[self.kind] + 1)

    def _deal(self, key: Key, state: CountState) -> tuple[Array, CountState]:
        bits, yes = word(key), jnp.array(True)
        deck, value = state.deck.deal(bits, yes)
        rest = left_over(bits, self.num_cards - state.deck.dealt)
        queries, query = state.queries.deal(rest, yes)
        counts = state.counts + jax.nn.one_hot(value, state.counts.shape[0], dtype=jnp.int32)
        state = state.replace(deck=deck, queries=queries, counts=counts)
        return jnp.stack([value, query]), state
