"""MineSweeper: uncover all squares without mines (popgym 1.0.7, minesweeper.py)."""

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.envs.contract import Discrete, EnvParams
from ssmrl.envs.draw import below
from ssmrl.envs.game import Step
from ssmrl.envs.popgym.board import CHOSEN, HIDING, LOST, BoardGame, BoardState
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar


class MineSweeper(BoardGame):
    """Uncover a square per step; the observation counts the mines on it and its 8 neighbours.

    A new clear square pays 1/L, L = n*n - mines, one uncovered before -0.5/(L-2), a mine
    -0.5 - 1/L and ends the game, as does the last clear square; else truncated after L steps.
    Best return 1; the first observation is 0.

    size: n squares a side. mines: how many, all layouts alike likely. Raises UsageError unless
    1 <= mines <= n*n - 3.
    """

    def __init__(self, size: int = 4, mines: int = 2) -> None:
        super().__init__(size)
        if not isinstance(mines, int) or not 1 <= mines <= size**2 - 3:
            raise UsageError(
                f"mines: expected 1 to {size**2 - 3} on {size} x {size} squares, got {mines!r}"
            )
        self.mines = mines
        self.episode_steps = size**2 - mines

    def hide(self, key: Key) -> Array:
        """A board of mines, by Floyd's algorithm: one draw a mine, no shuffle.

        Mine i goes to a square of the first n*n - mines + i + 1; where one lies there already,
        to the last of these, on which none can lie yet.
        """
        square = jnp.arange(self.size**2, dtype=jnp.int32)
        last = jnp.arange(self.size**2 - self.mines, self.size**2, dtype=jnp.int32)

        def lay(mined: Array, draw: tuple[Scalar, Scalar]) -> tuple[Array, None]:
            word, last = draw
            there = square == below(word, last + 1)
            taken = jnp.any(there & mined)
            return mined | jnp.where(taken, square == last, there), None

        words = jax.random.bits(key, (self.mines,))
        mined, _ = jax.lax.scan(lay, jnp.zeros(self.size**2, bool), (words, last))
        return mined.reshape(self.size, self.size)

    def step_env(self, key: Key, state: BoardState, action: Array, params: EnvParams) -> Step:
        """Uncover a square."""
        row, column = action
        square = state.squares[row, column]
        mine, new = square == HIDING, square == 0
        clear = jnp.where(
            new, jnp.float32(1 / self.episode_steps), jnp.float32(-0.5 / (self.episode_steps - 2))
        )
        reward = jnp.where(mine, jnp.float32(-0.5 - 1 / self.episode_steps), clear)
        state = state.replace(
            time=state.time + 1,
            squares=state.squares.at[row, column].set(square | CHOSEN),
            found=jnp.where(mine, LOST, state.found + new.astype(jnp.int32)),
        )
        obs = self._count(state.squares, action)
        return obs, state, reward, self.is_terminated(state, params), {}

    def _count(self, squares: Array, here: Array) -> Scalar:
        """Mines on a square and next to it."""
        lines = here[:, None] + jnp.arange(-1, 2, dtype=jnp.int32)
        rows, columns = jnp.clip(lines, 0, self.size - 1)
        inside = lines == jnp.stack([rows, columns])
        mines = squares[rows[:, None], columns] & HIDING
        return jnp.sum(mines, where=inside[0][:, None] & inside[1], dtype=jnp.int32)

    def is_terminated(self, state: BoardState, params: EnvParams) -> Scalar:
        """Whether all clear squares are uncovered, or a mine is."""
        return (state.found == self.episode_steps) | (state.found == LOST)

    def symbol(self, squares: np.ndarray, row: int, column: int) -> str:
        """Mine *, covered ·, else its count."""
        if squares[row, column] & HIDING:
            return "*"
        if not squares[row, column]:
            return "·"
        around = squares[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        return str(int((around & HIDING).sum()))

    def observation_space(self, params: EnvParams) -> Discrete:
        """Mines around the square uncovered last."""
        return Discrete(min(self.mines + 1, 10))
