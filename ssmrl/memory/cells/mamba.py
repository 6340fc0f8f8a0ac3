"""Mamba (S6): a diagonal memory whose step length, input and output maps read the input."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.cells.outer import step_bias
from ssmrl.memory.convolution import conv_init, short_conv_all
from ssmrl.memory.dense import along_last, dense, dense_init, matmul
from ssmrl.memory.scan import affine_scan
from ssmrl.memory.spec import Memory, Reading, in_chunks
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree


@dataclass(frozen=True)
class SelectiveMemory(Memory):
    """`x, z = W u`, `x = silu(conv(x))`, a diagonal recurrence of x, `W_o (y * silu(z))`.

    Base class of Mamba and Longhorn, which say what the recurrence is: `maps`, `elements`. Each
    of the `expand * H` channels has `state` numbers. Their states over time would be by far
    the largest array, so they are made and read again chunk by chunk, backwards too. The carry is
    the pair of the last 3 inputs of the convolution and the states `(*B, expand * H, state)`.
    """

    features: int = 64
    state: int = 16
    expand: int = 2

    taps: ClassVar[int] = 4
    capabilities: ClassVar[frozenset[str]] = frozenset({"selective"})
    block: ClassVar[dict[str, Any]] = {"activation": "none"}

    def __post_init__(self) -> None:
        if min(self.features, self.state, self.expand) < 1:
            raise UsageError(
                f"{type(self).__name__} needs features, state, expand >= 1; got "
                f"{self.features}, {self.state}, {self.expand}"
            )

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    @property
    def inner(self) -> int:
        """Channels."""
        return self.expand * self.features

    @property
    def rank(self) -> int:
        """Of the map from channels to step lengths."""
        return -(-self.features // 16)

    def init(self, key: Key, in_dim: int) -> PyTree:
        if in_dim != self.features:
            raise UsageError(
                f"{type(self).__name__} is features={self.features} wide; got in_dim={in_dim}. "
                "Project the input first, as ssmrl.memory.make and ssmrl.memory.Stack do"
            )
        key_in, key_conv, key_maps, key_out, key_steps = jax.random.split(key, 5)
        lecun = jax.nn.initializers.lecun_normal()
        bound = self.rank**-0.5
        return {
            "in": dense_init(key_in, in_dim, 2 * self.inner),
            "conv": conv_init(key_conv, self.taps, self.inner),
            "conv_bias": jnp.zeros((self.inner,)),
            "maps": lecun(key_maps, (self.inner, self.rank + 2 * self.state)),
            "up": jax.random.uniform(
                key_steps, (self.rank, self.inner), minval=-bound, maxval=bound
            ),
            "D": jnp.ones((self.inner,)),
            "out": lecun(key_out, (self.inner, self.features)),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        return (
            jnp.zeros((*batch_shape, self.taps - 1, self.inner)),
            jnp.zeros((*batch_shape, self.inner, self.state)),
        )

    def maps(self, params: PyTree, x: TBF) -> tuple[Array, Array, Array]:
        """Rates `(..., channels)`, writing and reading maps `(..., N)`, from the channels x."""
        low, b, c = jnp.split(
            matmul(x, params["maps"]), [self.rank, self.rank + self.state], axis=-1
        )
        return matmul(low, params["up"]), b, c

    def elements(self, params: PyTree, x: TBF, rate: TBF, b: Array) -> tuple[Array, Array]:
        """a and b of `affine_scan`, `(..., channels, N)`."""
        raise NotImplementedError

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        windows, maps, z = self.channels(constants, carry[0], u, reading)
        recur = partial(self.recur, constants)

        def last(h: Array, maps: TBF, reading: Reading) -> tuple[Array, TBF]:
            states, y = recur(h, maps, reading)
            return states[-1], y

        h, y = in_chunks(last, carry[1], maps, reading._replace(dt=None))
        return (windows[-1], h), matmul(y * z, constants["out"])

    def read_all(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        windows, maps, z = self.channels(constants, carry[0], u, reading)
        states, y = self.recur(constants, carry[1], maps, reading)
        return (windows, states), matmul(y * z, constants["out"])

    def channels(
        self, constants: PyTree, window: Array, u: TBF, reading: Reading
    ) -> tuple[Array, TBF, TBF]:
        """All windows of the convolution, what `recur` reads side by side, and the gate."""
        start = None if reading.start is None else reading.start[0]
        x, z = jnp.split(dense(constants["in"], u), 2, axis=-1)
        windows, x = short_conv_all(constants["conv"], x, window, reading.reset, start)
        x = jax.nn.silu(x + along_last(constants["conv_bias"], x))
        rate, b, c = self.maps(constants, x)
        if reading.dt is not None:
            rate = rate * reading.dt[..., None]
        return windows, jnp.concatenate([x, rate, b, c], axis=-1), jax.nn.silu(z)

    def recur(self, constants: PyTree, h: Array, maps: TBF, reading: Reading) -> tuple[Array, TBF]:
        """All states of the recurrence, and what is read of them and of x."""
        ends = [self.inner, 2 * self.inner, 2 * self.inner + self.state]
        x, rate, b, c = jnp.split(maps, ends, axis=-1)
        a, b = self.elements(constants, x, rate, b)
        start = None if reading.start is None else reading.start[1]
        states = affine_scan(a, b, h, reset=reading.reset, reset_to=start)
        y = jnp.sum(states * c[..., None, :], axis=-1)
        return states, y + along_last(constants["D"], x) * x


@dataclass(frozen=True)
class Mamba(SelectiveMemory):
    """`h[t] = exp(d A) h[t-1] + d B x[t]`, `y[t] = C h[t] + D x[t]`, per channel and state.

    S6 (Gu and Dao 2023): `d = softplus(W x + step)` per channel, B and C linear maps of x, A =
    -(1, ..., N) at initialisation. The carry is the pair of the last 3 inputs of the convolution
    and h `(*B, expand * H, state)` float32.

    Attributes:
        features: H, width of input and output.
        state: N, numbers per channel.
        expand: channels as a multiple of H.
        negative_eigs: decays `2 exp(d A) - 1` in (-1, 1) instead of (0, 1), which makes
            parity expressible (Grazzi et al. 2025).

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    negative_eigs: bool = False

    ssm_params: ClassVar[tuple[str, ...]] = ("log_A", "step", "D")
    capabilities: ClassVar[frozenset[str]] = frozenset({"selective", "dt"})

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Step lengths log-uniform in [0.001, 0.1]."""
        key, key_step = jax.random.split(key)
        rates = np.tile(np.arange(1, self.state + 1), (self.inner, 1))
        return super().init(key, in_dim) | {
            "log_A": jnp.asarray(np.log(rates), jnp.float32),
            "step": step_bias(key_step, self.inner),
        }

    def maps(self, params: PyTree, x: TBF) -> tuple[Array, Array, Array]:
        rate, b, c = super().maps(params, x)
        return jax.nn.softplus(rate + along_last(params["step"], rate)), b, c

    def elements(self, params: PyTree, x: TBF, rate: TBF, b: Array) -> tuple[Array, Array]:
        rates = jnp.exp(params["log_A"]).reshape(*(1,) * (x.ndim - 1), self.inner, self.state)
        a = jnp.exp(-rate[..., None] * rates)
        return 2 * a - 1 if self.negative_eigs else a, (rate * x)[..., None] * b[..., None, :]
