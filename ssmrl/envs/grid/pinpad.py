"""Visual Pin Pad (Hafner et al., "Deep Hierarchical Planning from Pixels", NeurIPS 2022).

Rules, layouts, colours and pictures are those of `embodied/envs/pinpad.py` in the paper's code
(danijar/director); tests hold them against it. Places are (row, column) here.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import EnvParams, EnvState, MultiDiscrete
from ssmrl.envs.draw import below
from ssmrl.envs.game import Step, headline
from ssmrl.envs.grid.world import AGENT, COLORS, FADED, FLOOR, WALL, GridWorld, hot, visit
from ssmrl.errors import unknown
from ssmrl.shapes import Array, Key, Scalar

ROWS, COLUMNS = 14, 16
REWARD, PAUSE = 10.0, 10
LIT = (223, 255, 223)  # the floor while a reward is celebrated

Rectangle = tuple[int, int, int, int]
_WEST: list[Rectangle] = [(5, 1, 4, 2)]
_EAST: list[Rectangle] = [(5, 13, 4, 2)]
_SEVEN: list[list[Rectangle]] = [
    [(1, 1, 2, 3), (3, 1, 1, 2)],
    [(10, 13, 1, 2), (11, 12, 2, 3)],
    _WEST,
    [(1, 12, 2, 3), (3, 13, 1, 2)],
    _EAST,
    [(10, 1, 1, 2), (11, 1, 2, 3)],
    [(11, 6, 2, 4)],
]
PADS: dict[str, list[list[Rectangle]]] = {
    "three": [[(1, 1, 4, 4)], [(9, 6, 4, 4)], [(1, 11, 4, 4)]],
    "four": [[(1, 1, 4, 4)], [(9, 11, 4, 4)], [(9, 1, 4, 4)], [(1, 11, 4, 4)]],
    "five": [[(2, 1, 4, 3)], [(10, 11, 3, 4)], [(8, 1, 4, 3)], [(1, 11, 3, 4)], [(5, 12, 4, 3)]],
    "six": [[(1, 1, 3, 3)], [(10, 12, 3, 3)], _WEST, [(10, 1, 3, 3)], [(1, 12, 3, 3)], _EAST],
    "seven": _SEVEN,
    "eight": [*_SEVEN, [(1, 6, 2, 4)]],
}
"""The pads in the order asked for, of rectangles: top row, left column, height, width."""


def layout(task: str) -> np.ndarray:
    """(14, 16) int32: -1 wall, 0 floor, 1 … n the pads. Raises UsageError for another task."""
    if task not in PADS:
        raise unknown("task", task, PADS)
    tiles = np.full((ROWS, COLUMNS), -1, np.int32)
    tiles[1:-1, 1:-1] = 0
    for pad, rectangles in enumerate(PADS[task], 1):
        for top, left, height, width in rectangles:
            tiles[top : top + height, left : left + width] = pad
    return tiles


@struct.dataclass
class PinPadState(EnvState):
    """time: () int32. place: (2,) int32, row and column.

    history: (n,) int32, the last pads visited, oldest first, then zeros; one that is visited
    again at once counts once. pause: () int32, steps until the agent is put elsewhere.
    """

    place: Array
    history: Array
    pause: Scalar


class PinPad(GridWorld):
    """Walk over n coloured pads in the right order, and over no other one in between.

    Each time it is done pays 10; ten steps later the agent is put somewhere else and what it
    has visited is forgotten. A step that meets a wall visits nothing, not even the pad it stands
    on. Never over but for time (truncated, 10,000 steps). The picture has a bar below with the
    pads visited; symbols are row, column, `history`, and 1 while a reward is celebrated.

    task: how many pads, "three" to "eight". Raises UsageError for another.
    """

    moves = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.int32)
    """Stay, down, up, right, left."""

    episode_steps = 10_000

    def __init__(self, task: str = "three", observation: str = "image") -> None:
        super().__init__(observation)
        self.tiles = layout(task)
        self.pads = len(PADS[task])
        self.free = np.argwhere(self.tiles >= 0).astype(np.int32)

    @property
    def symbol_space(self) -> MultiDiscrete:
        """Row, column, pads visited (0 for none yet), whether a reward is celebrated."""
        return MultiDiscrete((ROWS, COLUMNS, *[self.pads + 1] * self.pads, 2))

    def spawn(self, key: Key) -> Array:
        """Any place but a wall, (2,) int32."""
        return jnp.asarray(self.free)[below(jax.random.bits(key), jnp.int32(len(self.free)))]

    def start(self, key: Key) -> PinPadState:
        """Anywhere, nothing visited."""
        zero = jnp.zeros((), jnp.int32)
        return PinPadState(zero, self.spawn(key), jnp.zeros(self.pads, jnp.int32), zero)

    def step_env(self, key: Key, state: PinPadState, action: Scalar, params: EnvParams) -> Step:
        """Walk one cell."""
        state, won = self.advance(state, action, self.spawn(key))
        reward = REWARD * won.astype(jnp.float32)
        return self.observe_state(state), state, reward, jnp.array(False), {}

    def advance(
        self, state: PinPadState, action: Scalar, spawn: Array
    ) -> tuple[PinPadState, Scalar]:
        """Step from `state`, or from `spawn: (2,)` where the pause is over; whether it won."""
        over = state.pause == 1
        place = jnp.where(over, spawn, state.place)
        history = jnp.where(over, 0, state.history)
        pause = jnp.maximum(state.pause - 1, 0)
        return self.walk(PinPadState(state.time + 1, place, history, pause), action)

    def walk(self, state: PinPadState, action: Scalar) -> tuple[PinPadState, Scalar]:
        """One cell in a direction, none at a wall; a pad there joins the history."""
        ahead = state.place + jnp.asarray(self.moves)[action]
        tile = jnp.asarray(self.tiles)[ahead[0], ahead[1]]
        place = jnp.where(tile < 0, state.place, ahead)
        history = _remember(state.history, tile)
        target = jnp.arange(1, self.pads + 1, dtype=jnp.int32)
        won = jnp.all(history == target) & (state.pause == 0)
        pause = jnp.where(won, PAUSE, state.pause)
        return state.replace(place=place, history=history, pause=pause), won

    def is_terminated(self, state: PinPadState, params: EnvParams) -> Scalar:
        """Never."""
        return jnp.array(False)

    def symbols(self, state: PinPadState) -> Array:
        """Place, history, celebration: (n + 3,) int32."""
        lit = (state.pause > 0).astype(jnp.int32)
        return jnp.concatenate([state.place, state.history, lit[None]])

    def cells(self, state: PinPadState) -> Array:
        """Colours: the pad under the agent at full strength, and the bar."""
        tiles = self.tiles
        palette = np.concatenate([np.array([WALL, FLOOR], np.uint8), FADED])
        faded, strong = palette[tiles + 1], COLORS[np.maximum(tiles, 1) - 1]
        agent = hot(state.place, COLUMNS)[:ROWS]
        under = (tiles > 0) & (tiles == jnp.max(jnp.where(agent, tiles, 0)))
        lit = (tiles == 0) & (state.pause > 0)
        board = jnp.where(under[..., None], strong, faded)
        board = jnp.where(lit[..., None], np.array(LIT, np.uint8), board)
        board = jnp.where(agent[..., None], np.array(AGENT, np.uint8), board)
        marks = jnp.asarray(np.concatenate([np.array([WALL], np.uint8), COLORS]))[state.history]
        bar = jnp.full((2, COLUMNS, 3), WALL[0], jnp.uint8)
        return jnp.concatenate([board, bar.at[0, 1 : 2 * self.pads : 2].set(marks)])

    def situations(self, state: PinPadState) -> PinPadState:
        """Pads done in order by rows by columns, nothing else in the history."""
        shape = (self.pads, ROWS, COLUMNS)
        done, row, column = jnp.indices(shape, jnp.int32).reshape(3, -1)
        turn = jnp.arange(1, self.pads + 1, dtype=jnp.int32)

        def at(done: Scalar, place: Array) -> PinPadState:
            history = jnp.where(turn <= done, turn, 0)
            return PinPadState(jnp.int32(0), place, history, jnp.int32(0))

        return jax.vmap(at)(done, jnp.stack([row, column], -1))

    def index(self, state: PinPadState) -> Scalar:
        """Pads done in order by rows by columns."""
        done = jnp.zeros((), jnp.int32)
        for i in range(self.pads):
            done = visit(done, state.history[i])
        return (done % self.pads * ROWS + state.place[0]) * COLUMNS + state.place[1]

    def render(self, state: PinPadState, params: EnvParams) -> str:
        """Walls #, pads by number, the agent @; the pads visited below."""
        board = np.array(list("#." + "12345678"))[self.tiles + 1]
        board[tuple(state.place.tolist())] = "@"
        history = " ".join(str(p) for p in state.history.tolist() if p) or "none"
        return "\n".join([headline(state, params), *map("".join, board), f"visited: {history}"])


def _remember(history: Array, tile: Scalar) -> Array:
    """`history: (n,)` with a pad visited at its end; the first one falls out of a full one."""
    n = history.shape[0]
    length = jnp.sum(history > 0, dtype=jnp.int32)
    spot = jnp.arange(n, dtype=jnp.int32)
    last = jnp.sum(jnp.where(spot == length - 1, history, 0))
    kept = jnp.where(length == n, jnp.roll(history, -1), history)
    added = jnp.where(spot == jnp.minimum(length, n - 1), tile, kept)
    return jnp.where((tile > 0) & (tile != last), added, history)
