"""RepeatPrevious: name the suit of some cards ago (popgym 1.0.7, repeat_previous.py)."""

import jax.numpy as jnp

from ssmrl.envs.popgym.base import is_popjaxrl, right_or_wrong
from ssmrl.envs.popgym.dealing import DealGame, DealState
from ssmrl.errors import UsageError
from ssmrl.shapes import Scalar


class RepeatPrevious(DealGame):
    """At step t (from 0), t >= k-1, name the suit of card t-k+1, so k = 1 is the card shown.

    Each such step pays +-1/(n-k), n = 52 * decks, earlier ones 0; n-1 steps. The lag is k-1
    steps. Best return 1, of a uniform policy -0.5. Raises UsageError unless 1 <= k < n.

    compat="popjaxrl": name card t-k from step k on, so that the lag is k; n steps, and the last
    card is shown twice. Same rewards, same returns.
    """

    def __init__(self, decks: int = 1, k: int = 4, compat: str | None = None) -> None:
        super().__init__(decks, "suits")
        if not isinstance(k, int) or not 1 <= k < self.num_cards:
            raise UsageError(f"k: expected 1 to {self.num_cards - 1} ({decks} packs), got {k!r}")
        self.k = k
        self.lag = k if is_popjaxrl(compat) else k - 1
        self.episode_steps = self.num_cards - k + self.lag

    def reward(self, state: DealState, card: Scalar, action: Scalar) -> Scalar:
        """Compare with the card dealt `lag` steps before the one shown."""
        asked = state.time - self.lag
        right = action == state.deck.card(jnp.maximum(asked, 0))
        return jnp.where(asked >= 0, right_or_wrong(right, 1 / (self.num_cards - self.k)), 0.0)
