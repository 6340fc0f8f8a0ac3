"""Card games that show one card after the other, and how cards are written."""

from abc import abstractmethod
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Discrete, EnvParams, EnvState
from ssmrl.envs.draw import word
from ssmrl.envs.game import Game, Step, headline
from ssmrl.envs.popgym.deck import VALUES, Deck, new_deck
from ssmrl.shapes import Key, Scalar

FACES = {"colors": "BR", "suits": "♠♦♣♥", "ranks": "A23456789TJQK"}
"""How a value is written, by what a game looks at (the order of popgym's own tables)."""


@struct.dataclass
class DealState(EnvState):
    """time: () int32, steps taken. deck: what was dealt, the last card being the one shown."""

    deck: Deck


class DealGame(Game):
    """One card per step, whose value is the observation, until the deck is empty.

    A game adds its actions and the `reward` of one step.
    """

    def __init__(self, decks: int, kind: str) -> None:
        self.decks, self.kind = decks, kind
        self.num_cards = new_deck(decks, kind).cards.shape[0]
        self.episode_steps = self.num_cards - 1

    @abstractmethod
    def reward(self, state: DealState, card: Scalar, action: Scalar) -> Scalar:
        """The reward, () float32, of `action` before `card` is dealt; state is the old one."""

    def blank_state(self) -> DealState:
        """A sorted deck, no card dealt."""
        return DealState(time=jnp.zeros((), jnp.int32), deck=new_deck(self.decks, self.kind))

    def begin(self, key: Key, before: DealState) -> tuple[Scalar, DealState]:
        """Deal the first card."""
        yes = jnp.array(True)
        deck, card = before.deck.collect(yes).deal(word(key), yes)
        return card, DealState(time=jnp.zeros((), jnp.int32), deck=deck)

    def step_env(self, key: Key, state: DealState, action: Scalar, params: EnvParams) -> Step:
        """Score the action, deal a card."""
        deck, card = state.deck.deal(word(key), jnp.array(True))
        reward = self.reward(state, card, action)
        state = DealState(time=state.time + 1, deck=deck)
        return card, state, reward, self.is_terminated(state, params), {}

    def render(self, state: DealState, params: EnvParams) -> str:
        """All cards dealt so far, the one shown last."""
        dealt = np.asarray(state.deck.cards)[: int(state.deck.dealt)]
        return f"{headline(state, params)}\n{spread(self.kind, dealt)}"

    def observation_space(self, params: EnvParams) -> Discrete:
        """The value of the card shown."""
        return Discrete(VALUES[self.kind])

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """The value to name."""
        return Discrete(VALUES[self.kind])


def spread(kind: str, values: Iterable[int], back: str = "·", width: int = 26) -> str:
    """Cards side by side, `width` in a line; `back` where the value is none of the `kind`."""
    faces = [FACES[kind][v] if v < VALUES[kind] else back for v in map(int, values)]
    return "\n".join(" ".join(faces[i : i + width]) for i in range(0, len(faces), width))
