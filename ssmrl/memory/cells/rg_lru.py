"""RG-LRU: a real diagonal memory with input and recurrence gates (De et al. 2024)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.cells.outer import inverse_softplus
from ssmrl.memory.convolution import conv_init, short_conv_all
from ssmrl.memory.dense import along_last, dense, dense_init
from ssmrl.memory.scan import affine_scan
from ssmrl.memory.spec import Memory, Reading
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree

STEEPEST = 1000.0  # slope that the square root of `1 - a^2` may have


@dataclass(frozen=True)
class RGLRU(Memory):
    """`h[t] = a h[t-1] + sqrt(1 - a^2) (i x[t])`, `a = exp(-8 r softplus(lam))`.

    The recurrent block of Hawk: x = conv(W_x u), gates r and i are sigmoids of block-diagonal maps
    of x, the output is `W_o (h * gelu(W_y u))`. The first input of an episode enters with factor 1
    instead of `sqrt(1 - a^2)`. The carry is `(window, h, begun)`: the last 3 inputs of the
    convolution `(*B, 3, H)`, the state `(*B, H)` and whether the episode has begun, `(*B, 1)`
    int32.

    Attributes:
        features: H, width of input, state and output.
        heads: blocks of the gates' maps; divides H.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    heads: int = 4

    taps: ClassVar[int] = 4
    ssm_params: ClassVar[tuple[str, ...]] = ("lam",)
    capabilities: ClassVar[frozenset[str]] = frozenset({"selective"})
    block: ClassVar[dict[str, Any]] = {"activation": "none"}

    def __post_init__(self) -> None:
        if self.features < 1 or self.heads < 1 or self.features % self.heads:
            raise UsageError(
                f"RGLRU needs features that are a multiple of heads; got features="
                f"{self.features}, heads={self.heads}"
            )

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """lam such that `a` with r = 1 lies in [0.9, 0.999], uniformly in area."""
        if in_dim != self.features:
            raise UsageError(
                f"RGLRU is features={self.features} wide; got in_dim={in_dim}. Project the "
                "input first, as ssmrl.memory.make and ssmrl.memory.Stack do"
            )
        key_in, key_conv, key_gates, key_lam, key_out = jax.random.split(key, 5)
        h, width = self.features, self.features // self.heads
        square = jax.random.uniform(key_lam, (h,), minval=0.9**2, maxval=0.999**2)
        gates = jax.random.normal(key_gates, (self.heads, width, 2 * width)) * width**-0.5
        return {
            "in": dense_init(key_in, in_dim, 2 * h),
            "conv": conv_init(key_conv, self.taps, h),
            "conv_bias": jnp.zeros((h,)),
            "gates": gates,
            "gates_bias": jnp.zeros((2 * h,)),
            "lam": inverse_softplus(-jnp.log(square) / 16),
            "out": dense_init(key_out, h, h),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> tuple[Array, Array, Array]:
        return (
            jnp.zeros((*batch_shape, self.taps - 1, self.features)),
            jnp.zeros((*batch_shape, self.features)),
            jnp.zeros((*batch_shape, 1), jnp.int32),
        )

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        carries, y = self.read_all(constants, carry, u, reading)
        return jax.tree.map(lambda x: x[-1], carries), y

    def read_all(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        window, h, begun = carry
        start = (None, None, None) if reading.start is None else reading.start
        x, y = jnp.split(dense(constants["in"], u), 2, axis=-1)
        windows, x = short_conv_all(constants["conv"], x, window, reading.reset, start[0])
        x = x + along_last(constants["conv_bias"], x)
        log_a, x = self.gated(constants, x)
        gain = jnp.sqrt(jnp.maximum(-jnp.expm1(2 * log_a), (2 * STEEPEST) ** -2))
        first = jnp.zeros(u.shape[:-1], bool).at[0].set(begun[..., 0] == 0)
        if reading.reset is not None:
            fresh = True if start[2] is None else start[2][0] == 0
            first = jnp.where(reading.reset, fresh, first)
        b = jnp.where(first[..., None], 1, gain) * x
        states = affine_scan(jnp.exp(log_a), b, h, reset=reading.reset, reset_to=start[1])
        y = dense(constants["out"], states * jax.nn.gelu(y))
        return (windows, states, jnp.ones((*u.shape[:-1], 1), begun.dtype)), y

    def gated(self, params: PyTree, x: TBF) -> tuple[TBF, TBF]:
        """Logarithm of a, and the gated input i x."""
        by_head = x.reshape(-1, self.heads, x.shape[-1] // self.heads)
        logits = jnp.einsum("nhi,hio->nho", by_head, params["gates"])
        logits = logits.reshape(*x.shape[:-1], self.heads, 2, -1)
        bias = params["gates_bias"].reshape(*(1,) * (x.ndim - 1), self.heads, 2, -1)
        gates = jax.nn.sigmoid(logits + bias)
        r, i = (gates[..., j, :].reshape(x.shape) for j in range(2))
        return -8 * r * along_last(jax.nn.softplus(params["lam"]), x), i * x
