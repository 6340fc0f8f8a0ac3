"""RepeatFirst: name the suit of the first card at every step (popgym 1.0.7, repeat_first.py)."""

from ssmrl.envs.popgym.base import right_or_wrong
from ssmrl.envs.popgym.dealing import DealGame, DealState
from ssmrl.shapes import Scalar


class RepeatFirst(DealGame):
    """Every step pays +-1/(n-1) for the first card's suit, n = 52 * decks; n-1 steps.

    Best return 1, of a uniform policy -0.5.
    """

    def __init__(self, decks: int = 1) -> None:
        super().__init__(decks, "suits")

    def reward(self, state: DealState, card: Scalar, action: Scalar) -> Scalar:
        """Compare with the first card."""
        return right_or_wrong(action == state.deck.card(0), 1 / (self.num_cards - 1))
