"""What the grid worlds share: two kinds of observation, pictures, and what the oracle asks."""

from abc import abstractmethod

import jax.numpy as jnp
import numpy as np

from ssmrl.envs.contract import Box, Discrete, EnvParams, EnvState, Space
from ssmrl.envs.game import Game
from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import Array, Key, Scalar

PIXELS = 64  # a side of a picture
OBSERVATIONS = ("symbolic", "image")
FLOOR, WALL, AGENT = (255, 255, 255), (192, 192, 192), (0, 0, 0)
COLORS = np.array(
    [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 0),
        (255, 0, 255),
        (0, 255, 255),
        (128, 0, 128),
        (0, 128, 128),
    ],
    np.uint8,
)
"""Of pads: red, green, blue, yellow, magenta, cyan, purple, teal, as in Director's Pin Pad."""
FADED = ((10 * COLORS.astype(np.int32) + 90 * 255) // 100).astype(np.uint8)
"""The same, a tenth as strong: the original truncates too."""


class GridWorld(Game):
    """A world of square cells with an agent in it, seen whole.

    A world defines `start`, `step_env`, `symbols`, `symbol_space` and `cells`, and for the
    oracle `walk`, `situations` and `index`. Nothing of an episode outlives it.

    observation: "symbolic", or "image", (64, 64, 3) uint8. Raises UsageError for another.
    """

    moves = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]], np.int32)
    """Up, down, left, right: what each action adds to row and column."""

    def __init__(self, observation: str) -> None:
        if observation not in OBSERVATIONS:
            raise unknown("observation", observation, OBSERVATIONS)
        self.observation = observation

    @property
    @abstractmethod
    def symbol_space(self) -> Space:
        """Of symbolic observations."""

    @abstractmethod
    def start(self, key: Key) -> EnvState:
        """The state in which an episode begins."""

    @abstractmethod
    def symbols(self, state: EnvState) -> Array:
        """The symbolic observation."""

    @abstractmethod
    def cells(self, state: EnvState) -> Array:
        """The colour of each cell, (rows, columns, 3) uint8."""

    @abstractmethod
    def walk(self, state: EnvState, action: Scalar) -> tuple[EnvState, Scalar]:
        """What an action does, chance and time apart; and whether it wins, () bool."""

    @abstractmethod
    def situations(self, state: EnvState) -> EnvState:
        """All states (S,) that the layout of `state` allows before it is won."""

    @abstractmethod
    def index(self, state: EnvState) -> Scalar:
        """Which of its `situations` a state is, () int32."""

    def image(self, state: EnvState) -> Array:
        """A picture of the world, (64, 64, 3) uint8, whatever the observation."""
        cells = self.cells(state)
        scale = PIXELS // max(cells.shape[:2])
        picture = jnp.repeat(jnp.repeat(cells, scale, 0), scale, 1)
        rest = [(0, PIXELS - side) for side in picture.shape[:2]]
        return jnp.pad(picture, (*rest, (0, 0)), constant_values=WALL[0])

    def observe_state(self, state: EnvState) -> Array:
        """What the agent is shown."""
        return self.symbols(state) if self.observation == "symbolic" else self.image(state)

    def blank_state(self) -> None:
        """None: there is nothing to go on with."""

    def begin(self, key: Key, before: EnvState | None) -> tuple[Array, EnvState]:
        """A new episode."""
        state = self.start(key)
        return self.observe_state(state), state

    def observation_space(self, params: EnvParams) -> Space:
        """As `observation` says."""
        if self.observation == "symbolic":
            return self.symbol_space
        return Box(0, 255, (PIXELS, PIXELS, 3), jnp.uint8)

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """One action for each of `moves`."""
        return Discrete(len(self.moves))


def check_size(size: int, least: int) -> None:
    """Raise UsageError unless `size` is a number of cells a side that a picture can show."""
    if not isinstance(size, int) or not least <= size <= PIXELS:
        raise UsageError(f"size: expected {least} to {PIXELS} cells a side, got {size!r}")


def hot(place: Array, size: int) -> Array:
    """Which cell of (size, size) is `place: (2,)`, row and column: bool."""
    line = jnp.arange(size, dtype=jnp.int32)
    return (line == place[0])[:, None] & (line == place[1])


def paint(*layers: tuple[Array, tuple[int, ...] | Array]) -> Array:
    """Cells (n, n, 3) uint8 from layers (where: (n, n) bool, colour), the last on top; floor
    elsewhere. A colour is (3,) or one for each cell.
    """
    cells = jnp.broadcast_to(jnp.array(FLOOR, jnp.uint8), (*layers[0][0].shape, 3))
    for where, color in layers:
        full = jnp.broadcast_to(jnp.asarray(color, jnp.uint8), cells.shape)
        cells = jnp.where(where[..., None], full, cells)
    return cells


def visit(progress: Scalar, pad: Scalar) -> Scalar:
    """How many pads of a sequence are done, () int32, after the agent stepped somewhere.

    progress: () int32, how many were before, the last of them being the last pad visited.
    pad: () int32, 1 for the first of the sequence and so on, 0 for no pad. A pad out of turn
    loses everything, but the first one counts as a new beginning.
    """
    wrong = (pad == 1).astype(jnp.int32)
    on = jnp.where(pad == progress + 1, pad, wrong)
    return jnp.where((pad == 0) | (pad == progress), progress, on)
