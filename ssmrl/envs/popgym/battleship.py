"""Battleship: sink all ships without seeing the board (popgym 1.0.7, battleship.py)."""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.envs.contract import Discrete, EnvParams
from ssmrl.envs.draw import below
from ssmrl.envs.game import Step
from ssmrl.envs.popgym.board import CHOSEN, HIDING, BoardGame, BoardState
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar


class Battleship(BoardGame):
    """Fire at a square per step; the observation is 1 for a new hit, else 0.

    Ships are placed one after the other, each uniformly among the places where it fits. A new
    hit pays 1/s, s = squares of all ships, anything else (a square fired at before too)
    -1/(n*n - s); n*n steps at most (truncated, also if the last shot sinks the last ship); all
    sunk: terminated. Best return 1, firing at every square once 0.

    size: n squares a side. ships: their lengths. Raises UsageError where they do not fit: a
    ship longer than the board, or more than a quarter of the squares in all.
    """

    def __init__(self, size: int = 8, ships: Sequence[int] = (2, 3, 3, 4)) -> None:
        super().__init__(size)
        self.ships, self.squares = tuple(ships), sum(ships)
        if not ships or not 0 < min(ships) <= max(ships) <= size or 4 * self.squares > size**2:
            raise UsageError(
                f"ships: expected lengths of 1 to {size} that cover a quarter of {size} x {size} "
                f"squares at most, got {self.ships}"
            )
        self.episode_steps = size**2

    def hide(self, key: Key) -> Array:
        """A board of ships."""
        board = jnp.zeros((self.size, self.size), bool)
        for word, length in zip(jax.random.bits(key, (len(self.ships),)), self.ships, strict=True):
            board = board | self._place(word, length, board)
        return board

    def _place(self, word: Scalar, length: int, board: Array) -> Array:
        """The squares of a ship placed uniformly where `board` is free."""
        fits = jnp.concatenate([_fits(board, length), _fits(board.T, length)])  # (2n, starts)
        in_line = jnp.sum(fits, axis=1, dtype=jnp.int32)
        # The place of a rank drawn: first its line, then where in the line. Running sums over
        # all places at once take time quadratic in their number on CPU.
        up_to = jnp.cumsum(in_line)
        rank = below(word, up_to[-1])
        line = jnp.sum(up_to <= rank, dtype=jnp.int32)
        rank -= up_to[line] - in_line[line]
        start = jnp.sum(jnp.cumsum(fits[line].astype(jnp.int32)) <= rank, dtype=jnp.int32)
        upright, row = line >= self.size, line % self.size
        at = jnp.arange(self.size, dtype=jnp.int32)
        ship = (at == row)[:, None] & (at >= start) & (at < start + length)
        return jnp.where(upright, ship.T, ship)

    def step_env(self, key: Key, state: BoardState, action: Array, params: EnvParams) -> Step:
        """Fire at a square."""
        row, column = action
        square = state.squares[row, column]
        hit = square == HIDING
        miss = jnp.float32(-1 / (self.size**2 - self.squares))
        reward = jnp.where(hit, jnp.float32(1 / self.squares), miss)
        state = state.replace(
            time=state.time + 1,
            squares=state.squares.at[row, column].set(square | CHOSEN),
            found=state.found + hit.astype(jnp.int32),
        )
        obs = hit.astype(jnp.int32)
        return obs, state, reward, self.is_terminated(state, params), {}

    def is_terminated(self, state: BoardState, params: EnvParams) -> Scalar:
        """Whether every ship is sunk."""
        return state.found == self.squares

    def is_truncated(self, state: BoardState, params: EnvParams) -> Scalar:
        """Whether time is up; as in the original also where the last ship is sunk just then."""
        return state.time >= params.max_steps_in_episode

    def symbol(self, squares: np.ndarray, row: int, column: int) -> str:
        """Ship still afloat ☐, hit ☒, water ·, miss o."""
        return "·☐o☒"[squares[row, column]]

    def observation_space(self, params: EnvParams) -> Discrete:
        """Whether the last shot hit something new."""
        return Discrete(2)


def _fits(board: Array, length: int) -> Array:
    """(n, n - length + 1) bool: may a ship that lies across begin at this square?"""
    starts = board.shape[1] - length + 1
    return ~reduce(jnp.logical_or, [board[:, i : i + starts] for i in range(length)])
