"""What the games on a square board share: a hidden layout, squares chosen one by one."""

from abc import abstractmethod

import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import EnvParams, EnvState, MultiDiscrete
from ssmrl.envs.game import Game, headline
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar

HIDING, CHOSEN = 1, 2  # bits of a square: something lies there, the agent uncovered it
LOST = -1


@struct.dataclass
class BoardState(EnvState):
    """time: () int32. squares: (n, n) int8, sums of HIDING and CHOSEN.

    found: () int32, how many squares of those looked for are uncovered; LOST where the game is
    over for what was found.
    """

    squares: Array
    found: Scalar


class BoardGame(Game):
    """Choose a square (row, column) per step; what it hides decides reward and observation.

    A game adds `hide`, `symbol`, `observation_space` and `step_env`.
    """

    def __init__(self, size: int) -> None:
        if not isinstance(size, int) or size < 2:
            raise UsageError(f"size: expected 2 or more squares a side, got {size!r}")
        self.size = size

    @abstractmethod
    def hide(self, key: Key) -> Array:
        """A fresh layout, (n, n) bool."""

    @abstractmethod
    def symbol(self, squares: np.ndarray, row: int, column: int) -> str:
        """How one of all `squares` is drawn."""

    def blank_state(self) -> BoardState:
        """Nothing hidden, nothing chosen."""
        zero = jnp.zeros((), jnp.int32)
        return BoardState(zero, jnp.zeros((self.size, self.size), jnp.int8), zero)

    def begin(self, key: Key, before: BoardState) -> tuple[Scalar, BoardState]:
        """Hide things anew; the observation is 0."""
        squares = self.hide(key).astype(jnp.int8)
        return jnp.zeros((), jnp.int32), self.blank_state().replace(squares=squares)

    def render(self, state: BoardState, params: EnvParams) -> str:
        """The board, with what lies under uncovered squares and what is still to be found."""
        squares = np.asarray(state.squares)
        rows = [[self.symbol(squares, r, c) for c in range(self.size)] for r in range(self.size)]
        return "\n".join([headline(state, params), *map(" ".join, rows)])

    def action_space(self, params: EnvParams | None = None) -> MultiDiscrete:
        """Row, column."""
        return MultiDiscrete((self.size, self.size))
