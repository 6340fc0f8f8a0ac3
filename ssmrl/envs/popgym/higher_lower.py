"""HigherLower: is the next card higher or lower? (popgym 1.0.7, higher_lower.py)."""

import jax.numpy as jnp

from ssmrl.envs.contract import Discrete, EnvParams
from ssmrl.envs.popgym.base import right_or_wrong
from ssmrl.envs.popgym.dealing import DealGame, DealState
from ssmrl.shapes import Scalar


class HigherLower(DealGame):
    """Guess whether the next rank is higher (action 0) or lower (1) than the one shown.

    A guess pays +-1/n, n = 52 * decks, a tie 0; n-1 steps. A uniform policy returns 0; counting
    cards .51 to .53.
    """

    def __init__(self, decks: int = 1) -> None:
        super().__init__(decks, "ranks")

    def reward(self, state: DealState, card: Scalar, action: Scalar) -> Scalar:
        """Compare the next card with the one shown."""
        shown = state.deck.card(state.time)
        right = (card > shown) == (action == 0)
        return jnp.where(card == shown, 0.0, right_or_wrong(right, 1 / self.num_cards))

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """0 says higher, 1 lower."""
        return Discrete(2)
