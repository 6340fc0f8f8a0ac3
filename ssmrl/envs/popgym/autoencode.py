"""Autoencode: watch the deck, then recite it backwards (popgym 1.0.7, autoencode.py)."""

import jax.numpy as jnp
import numpy as np

from ssmrl.envs.contract import Discrete, EnvParams, Tuple
from ssmrl.envs.draw import word
from ssmrl.envs.game import Game, Step, headline
from ssmrl.envs.popgym.base import right_or_wrong
from ssmrl.envs.popgym.dealing import DealState, spread
from ssmrl.envs.popgym.deck import VALUES, new_deck
from ssmrl.shapes import Key, Scalar

PLAY, WATCH = 0, 1
Observation = tuple[Scalar, Scalar]


class Autoencode(Game):
    """n-1 steps of watching (n = 52 * decks; actions ignored, reward 0), then n of reciting.

    The observation is (mode, suit). The one that shows the last card already has mode PLAY and
    the next action must name that card, then the one before; each pays +-1/n. While reciting
    the suit shown is 0. 2n-1 steps, best return 1, of a uniform policy -0.5.
    """

    def __init__(self, decks: int = 1) -> None:
        self.decks = decks
        self.num_cards = new_deck(decks, "suits").cards.shape[0]
        self.episode_steps = 2 * self.num_cards - 1

    def blank_state(self) -> DealState:
        """A sorted deck, no card dealt."""
        return DealState(time=jnp.zeros((), jnp.int32), deck=new_deck(self.decks, "suits"))

    def begin(self, key: Key, before: DealState) -> tuple[Observation, DealState]:
        """Deal the first card."""
        yes = jnp.array(True)
        deck, card = before.deck.collect(yes).deal(word(key), yes)
        return (jnp.int32(WATCH), card), DealState(time=jnp.zeros((), jnp.int32), deck=deck)

    def step_env(self, key: Key, state: DealState, action: Scalar, params: EnvParams) -> Step:
        """Deal a card, or score the action against the last card not yet recited."""
        last = self.num_cards - 1
        watching = state.time < last
        deck, card = state.deck.deal(word(key), watching)
        right = action == state.deck.card(jnp.minimum(2 * last - state.time, last))
        reward = jnp.where(watching, 0.0, right_or_wrong(right, 1 / self.num_cards))
        state = DealState(time=state.time + 1, deck=deck)
        mode = jnp.where(state.time < last, WATCH, PLAY).astype(jnp.int32)
        obs = (mode, jnp.where(watching, card, 0))
        return obs, state, reward, self.is_terminated(state, params), {}

    def render(self, state: DealState, params: EnvParams) -> str:
        """All cards dealt, or, while reciting, those not yet asked for; the one asked is last."""
        dealt = int(state.deck.dealt)
        left = min(dealt, self.episode_steps - int(state.time))
        mode = "watch" if int(state.time) < self.num_cards - 1 else "recite"
        cards = spread("suits", np.asarray(state.deck.cards)[:left])
        return f"{headline(state, params)}, {mode}\n{cards}"

    def observation_space(self, params: EnvParams) -> Tuple:
        """Mode (0 play, 1 watch) and suit."""
        return Tuple((Discrete(2), Discrete(VALUES["suits"])))

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """The suit to name."""
        return Discrete(VALUES["suits"])
