"""Products of inputs that are a few steps apart, in a diagonal memory: H3 and the SMR gate."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.cells.s4d import S4D
from ssmrl.memory.cells.s5 import S5
from ssmrl.memory.convolution import conv_init, short_conv
from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import Memory, Prepared, Reading
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree


@dataclass(frozen=True)
class SMR(Memory):
    """`y = S5(u * conv(u))`: the gate of Qi et al. 2024 (SMR) in front of S5.

    The convolution is causal, each channel with a kernel of its own. A subclass may put another
    memory behind it (`inner`) and convolve and multiply other things (`around`). The carry is
    the pair of the last `taps - 1` inputs of the convolution `(*B, taps - 1, H)` and the carry of
    the memory behind.

    Attributes:
        features: H, width of input and output.
        state: state size of the memory behind the gate; even.
        taps: width of the convolution, at least 2.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 64
    taps: int = 4

    capabilities: ClassVar[frozenset[str]] = frozenset({"dt"})

    def __post_init__(self) -> None:
        if self.taps < 2:
            raise UsageError(f"{type(self).__name__} needs taps >= 2; got {self.taps}")
        self.inner()

    def inner(self) -> Memory:
        """The memory behind the gate."""
        return S5(self.features, self.state)

    def around(self, params: PyTree, u: TBF) -> tuple[TBF, TBF, TBF | None]:
        """What is convolved, what that is multiplied by, and what the output is."""
        return u, u, None

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        key_inner, key_conv = jax.random.split(key)
        inner = self.inner().init(key_inner, in_dim)  # refuses an input of another width
        return {"inner": inner, "conv": conv_init(key_conv, self.taps, self.features)}

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> tuple[Array, PyTree]:
        window = jnp.zeros((*batch_shape, self.taps - 1, self.features))
        return window, self.inner().init_carry(batch_shape)

    def prepare(self, params: PyTree) -> Prepared:
        return Prepared(params | {"inner": self.inner().prepare(params["inner"]).constants})

    def labels(self, params: PyTree) -> PyTree:
        return super().labels(params) | {"inner": self.inner().labels(params["inner"])}

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        window, h = carry
        start_window, start = (None, None) if reading.start is None else reading.start
        x, gate, out_gate = self.around(constants, u)
        window, x = short_conv(constants["conv"], x, window, reading.reset, start_window)
        behind = reading._replace(start=start)
        h, y = self.inner().read(constants["inner"], h, gate * x, behind)
        return (window, h), y if out_gate is None else out_gate * y


@dataclass(frozen=True)
class H3(SMR):
    """`y = q * S4D(conv(k) * v)` with q, k, v affine maps of u: recall of what followed a token.

    H3 (Fu et al. 2023): the shift memory of the paper, a learned kernel over the last inputs, is
    the convolution here. W_o is left to the block. Carry as `SMR`.

    Attributes:
        features: H, width of input and output.
        state: state size of each channel of S4D; even.
        taps: width of the convolution, at least 2.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    state: int = 16
    taps: int = 8

    def inner(self) -> Memory:
        return S4D(self.features, self.state)

    def init(self, key: Key, in_dim: int) -> PyTree:
        key, key_in = jax.random.split(key)
        return super().init(key, in_dim) | {"in": dense_init(key_in, in_dim, 3 * self.features)}

    def around(self, params: PyTree, u: TBF) -> tuple[TBF, TBF, TBF | None]:
        q, k, v = jnp.split(dense(params["in"], u), 3, axis=-1)
        return k, v, q
