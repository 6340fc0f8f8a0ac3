"""Pads to be visited in an order: a sequence of subtasks of any length."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Box, EnvParams, EnvState
from ssmrl.envs.draw import below
from ssmrl.envs.game import Step, headline
from ssmrl.envs.grid.world import (
    AGENT,
    COLORS,
    FADED,
    GridWorld,
    check_size,
    hot,
    paint,
    visit,
)
from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import Array, Key, Scalar

ORDERS = ("fixed", "hidden")
LAYOUTS = ("random", "fixed")


@struct.dataclass
class PadsState(EnvState):
    """time: () int32. place: (2,) int32, row and column. pads: (p, 2) int32, place by colour.

    turn: (p,) int32, each colour's turn, from 1 on. progress: () int32, how many are done.
    """

    place: Array
    pads: Array
    turn: Array
    progress: Scalar


class OrderedPads(GridWorld):
    """Visit every pad in the right order: the last one pays 1 and ends the episode.

    A pad out of turn puts out all that are lit, but the first one is lit at once. No two pads
    touch, so there is always a way around. Truncated after 25 `size` steps. Symbolic
    observations are planes (size, size, pads + 2) of 0 and 1, float32: one for each colour, the
    lit pads, the agent.

    pads: 1 to 8, colours in the order of COLORS; at most a quarter of the cells. size: cells a
    side, 4 or more.
    order: "fixed", that of the colours, or "hidden", drawn for each episode: what is lit tells.
    layout: "random", drawn for each episode, or "fixed", always the same for a size.
    Raises UsageError for other values.
    """

    def __init__(
        self,
        pads: int = 3,
        size: int = 8,
        order: str = "fixed",
        layout: str = "random",
        observation: str = "symbolic",
    ) -> None:
        super().__init__(observation)
        check_size(size, 4)
        most = min(len(COLORS), (size // 2) ** 2)
        if not isinstance(pads, int) or not 1 <= pads <= most:
            raise UsageError(f"pads: expected 1 to {most} with size={size}, got {pads!r}")
        for name, value, known in (("order", order, ORDERS), ("layout", layout, LAYOUTS)):
            if value not in known:
                raise unknown(name, value, known)
        self.pads, self.size, self.order, self.layout = pads, size, order, layout
        self.episode_steps = 25 * size

    @property
    def symbol_space(self) -> Box:
        """Planes."""
        return Box(0.0, 1.0, (self.size, self.size, self.pads + 2))

    def start(self, key: Key) -> PadsState:
        """Pads in even rows and columns, the agent anywhere else."""
        key_pads, key_turn, key_place = jax.random.split(key, 3)
        if self.layout == "fixed":
            key_pads = jax.random.key(0)
        half, n = self.size // 2, self.size
        sites = jnp.argsort(jax.random.bits(key_pads, (half**2,)))[: self.pads]
        pads = 2 * jnp.stack([sites // half, sites % half], -1)
        turn = jnp.arange(1, self.pads + 1, dtype=jnp.int32)
        if self.order == "hidden":
            turn = 1 + jnp.argsort(jax.random.bits(key_turn, (self.pads,)))
        bare = ~jnp.any(jax.vmap(hot, (0, None))(pads, n), 0).ravel()
        nth = below(jax.random.bits(key_place), jnp.int32(n**2 - self.pads)) + 1
        cell = jnp.argmax(bare & (jnp.cumsum(bare.astype(jnp.int32)) == nth)).astype(jnp.int32)
        zero = jnp.zeros((), jnp.int32)
        return PadsState(zero, jnp.stack([cell // n, cell % n]), pads, turn, zero)

    def step_env(self, key: Key, state: PadsState, action: Scalar, params: EnvParams) -> Step:
        """Walk one cell."""
        state, won = self.walk(state.replace(time=state.time + 1), action)
        return self.observe_state(state), state, won.astype(jnp.float32), won, {}

    def walk(self, state: PadsState, action: Scalar) -> tuple[PadsState, Scalar]:
        """One cell in a direction, none at the edge; a pad where it leads is visited."""
        place = jnp.clip(state.place + jnp.asarray(self.moves)[action], 0, self.size - 1)
        pad = jnp.sum(jnp.where(jnp.all(state.pads == place, -1), state.turn, 0))
        progress = visit(state.progress, pad.astype(jnp.int32))
        return state.replace(place=place, progress=progress), progress == self.pads

    def is_terminated(self, state: PadsState, params: EnvParams) -> Scalar:
        """Whether all pads are lit."""
        return state.progress == self.pads

    def planes(self, state: PadsState) -> tuple[Array, Array, Array]:
        """Pads (size, size, p), lit pads and the agent (size, size): bool."""
        pads = jax.vmap(hot, (0, None), -1)(state.pads, self.size)
        lit = jnp.any(pads & (state.turn <= state.progress), -1)
        return pads, lit, hot(state.place, self.size)

    def symbols(self, state: PadsState) -> Array:
        """Planes, (size, size, pads + 2) float32."""
        pads, lit, agent = self.planes(state)
        rest = jnp.stack([lit, agent], -1)
        return jnp.concatenate([pads, rest], -1).astype(jnp.float32)

    def cells(self, state: PadsState) -> Array:
        """Colours: pads are faded until lit."""
        pads, lit, agent = self.planes(state)
        layers = [
            (pads[..., i], jnp.where(lit[..., None], jnp.array(COLORS[i]), jnp.array(FADED[i])))
            for i in range(self.pads)
        ]
        return paint(*layers, (agent, AGENT))

    def situations(self, state: PadsState) -> PadsState:
        """Progress by rows by columns."""
        grid = jnp.indices((self.pads, self.size, self.size), jnp.int32).reshape(3, -1)

        def at(progress: Scalar, place: Array) -> PadsState:
            return state.replace(progress=progress, place=place)

        return jax.vmap(at)(grid[0], grid[1:].T)

    def index(self, state: PadsState) -> Scalar:
        """Progress by rows by columns."""
        return (state.progress * self.size + state.place[0]) * self.size + state.place[1]

    def render(self, state: PadsState, params: EnvParams) -> str:
        """Each pad's turn, what is lit under the board, the agent @."""
        board = np.full((self.size, self.size), ".")
        pads, turn = np.asarray(state.pads), np.asarray(state.turn)
        board[pads[:, 0], pads[:, 1]] = turn.astype(str)
        board[tuple(state.place.tolist())] = "@"
        lit = " ".join(str(t) for t in range(1, int(state.progress) + 1)) or "none"
        return "\n".join([headline(state, params), *map("".join, board), f"lit: {lit}"])
