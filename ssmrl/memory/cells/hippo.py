"""HiPPO memories: optimal projections of the past, with nothing to train but the readout."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory import hippo
from ssmrl.memory.cells.diagonal import Chunked, check_width
from ssmrl.memory.dense import along_last, dense, dense_init, matmul
from ssmrl.memory.matrix_scan import matrix_scan
from ssmrl.memory.spec import Memory, Prepared, Reading, cell_scan, in_chunks, start_carry
from ssmrl.shapes import BP, TBF, TBH, TBP, Array, Key, PyTree


@dataclass(frozen=True)
class HippoWindow(Chunked):
    """`x[t] = A_bar x[t-1] + B_bar (E u[t])`, `y[t] = W x[t] + D u[t]`.

    A frozen window operator of HiPPO in each of a few channels ("HiPPO: Recurrent Memory with
    Optimal Polynomial Projections", Gu et al. 2020), stepped by zero-order hold. The carry is
    `(*B, channels, state)` float32: coefficients of the last `window` inputs.

    Attributes:
        features: H, width of input and output.
        state: N, coefficients of each channel; resolves about N / 3 cycles per window.
        channels: M, numbers that are remembered: `E u`.
        window: steps of the past that are remembered.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 32
    channels: int = 8
    window: int = 64

    measure: ClassVar[str]
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})

    def __post_init__(self) -> None:
        _check_sizes(self)
        if self.window < 1:
            raise UsageError(f"{type(self).__name__} needs window >= 1, got {self.window}")
        hippo.WINDOWS[self.measure](self.state)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.channels, self.state)

    def init(self, key: Key, in_dim: int) -> PyTree:
        return _around(self, key, in_dim)

    def prepare(self, params: PyTree) -> Prepared:
        step = hippo.windowed_steps(self.measure, self.state, self.window)
        frozen = {"A": jnp.asarray(step.a, jnp.float32), "B": jnp.asarray(step.b, jnp.float32)}
        return Prepared({**params, **frozen})

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:
        e = dense(constants["input"], u)[..., None]
        return constants["A"], e * along_last(constants["B"], e)

    def solve(self, a: Array, b: TBP, carry: Array, reading: Reading) -> TBP:
        return matrix_scan(a, b, carry, reset=reading.reset, reset_to=reading.start)

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        return _readout(constants, x, u)


@dataclass(frozen=True)
class HippoLegT(HippoWindow):
    """HiPPO-LegT: Legendre coefficients; see `HippoWindow`."""

    measure: ClassVar[str] = "legt"


@dataclass(frozen=True)
class HippoFouT(HippoWindow):
    """HiPPO-FouT (Gu et al. 2023): Fourier coefficients; see `HippoWindow`."""

    measure: ClassVar[str] = "fout"


@dataclass(frozen=True)
class HippoLegS(Memory):
    """`x[t] = A_t x[t-1] + B_t (E u[t])`, `y[t] = W x[t] + D u[t]`, t counted within the episode.

    HiPPO-LegS (Gu et al. 2020): Legendre coefficients of the whole episode, which needs no time
    scale to be chosen. `A_t` are exact steps of `A / t`. The carry is the coefficients
    `(*B, channels, state)` float32 and the number of inputs read `(*B,)` int32.

    Attributes:
        features: H, width of input and output.
        state: N, coefficients of each channel; resolves about N / 3 cycles per episode.
        channels: M, numbers that are remembered: `E u`.
        longest: steps after which t stays: from there an exponential window of about this length.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 32
    channels: int = 8
    longest: int = 1024

    capabilities: ClassVar[frozenset[str]] = frozenset({"counter"})

    def __post_init__(self) -> None:
        _check_sizes(self)
        if self.longest < 1:
            raise UsageError(f"HippoLegS needs longest >= 1, got {self.longest}")

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        return _around(self, key, in_dim)

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> tuple[BP, Array]:
        return (
            jnp.zeros((*batch_shape, self.channels, self.state)),
            jnp.zeros(batch_shape, jnp.int32),
        )

    def prepare(self, params: PyTree) -> Prepared:
        steps = hippo.legs_steps(self.state, self.longest)
        frozen = {"A": jnp.asarray(steps.a, jnp.float32), "B": jnp.asarray(steps.b, jnp.float32)}
        return Prepared({**params, **frozen})

    def read(
        self, constants: PyTree, carry: tuple[BP, Array], u: TBF, reading: Reading
    ) -> tuple[tuple[BP, Array], TBH]:
        start = start_carry(self, u.shape[1:-1], reading.start)
        update = partial(self.update, constants)

        def chunk(
            carry: tuple[BP, Array], u: TBF, reading: Reading
        ) -> tuple[tuple[BP, Array], TBH]:
            e = dense(constants["input"], u)
            carry, x = cell_scan(update, carry, e, reading.reset, start)
            return carry, _readout(constants, x, u)

        return in_chunks(chunk, carry, u, reading)

    def update(
        self, constants: PyTree, carry: tuple[BP, Array], e: BP
    ) -> tuple[tuple[BP, Array], BP]:
        """One step with inputs e `(*B, channels)`; the output is the state."""
        x, count = carry
        row = jnp.minimum(count, self.longest - 1)
        b = jnp.expand_dims(constants["B"][row], -2)  # (*B, 1, N)
        x = jnp.matmul(x, jnp.matrix_transpose(constants["A"][row])) + e[..., None] * b
        return (x, count + 1), x


def _check_sizes(cell: HippoLegS | HippoWindow) -> None:
    if min(cell.features, cell.state, cell.channels) < 1:
        raise UsageError(
            f"{type(cell).__name__} needs features, state and channels >= 1; got "
            f"{cell.features}, {cell.state} and {cell.channels}"
        )


def _around(cell: HippoLegS | HippoWindow, key: Key, in_dim: int) -> PyTree:
    """The maps into and out of a frozen memory: `input` to M channels, W, and D of ones."""
    check_width(cell, in_dim)
    key_in, key_out = jax.random.split(key)
    return {
        "input": dense_init(key_in, in_dim, cell.channels),
        "W": dense_init(key_out, cell.channels * cell.state, cell.features)["kernel"],
        "D": jnp.ones((cell.features,)),
    }


def _readout(constants: PyTree, x: TBP, u: TBF) -> TBH:
    y = matmul(x.reshape(*u.shape[:-1], -1), constants["W"])
    return y + along_last(constants["D"], u) * u
