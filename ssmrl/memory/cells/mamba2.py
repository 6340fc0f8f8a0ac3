"""Mamba-2: one decay per head, read off the input, of a matrix state (Dao and Gu 2024)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.cells.outer import (
    OuterMemory,
    by_head,
    decay_of_steps,
    initial_steps,
    rms_norm,
)
from ssmrl.memory.convolution import conv_init, convolve
from ssmrl.memory.dense import along_last, matmul
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree


@dataclass(frozen=True)
class Mamba2(OuterMemory):
    """`S[t] = exp(-exp(log_rate) d) S[t-1] + d B x^T`, `y = C S + D x`, `d = softplus(W u + step)`.

    Section 7 of the paper: x, B and C pass a short convolution and SiLU; B and C are common to
    all heads; the output is `W_o norm(y * silu(z))`. The carry is the pair of the last 3 inputs
    of the convolution and S `(*B, heads, state, expand * H / heads)`.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices.
        state: N, rows of a matrix.
        expand: width of x and z as a multiple of H.

    Raises:
        UsageError: an option out of range.
    """

    state: int = 64
    expand: int = 2

    held: ClassVar[str] = "xbc"
    ssm_params: ClassVar[tuple[str, ...]] = ("log_rate", "step", "D")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.state < 1 or self.expand < 1:
            raise UsageError(f"Mamba2 needs state, expand >= 1; got {self.state} and {self.expand}")

    @property
    def inner(self) -> int:
        """Width of x."""
        return self.expand * self.features

    @property
    def state_shape(self) -> tuple[int, int, int]:
        return self.heads, self.state, self.inner // self.heads

    @property
    def widths(self) -> dict[str, int]:
        return {"xbc": self.inner + 2 * self.state, "g": self.inner, "step": self.heads}

    def init(self, key: Key, in_dim: int) -> PyTree:
        key, key_conv, key_steps = jax.random.split(key, 3)
        return (
            super().init(key, in_dim)
            | initial_steps(key_steps, self.heads)
            | {"conv": conv_init(key_conv, 4, self.widths["xbc"]), "D": jnp.ones((self.heads,))}
        )

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        xbc = jax.nn.silu(convolve(params["conv"], x["xbc"], lags))
        v, b, c = jnp.split(xbc, [self.inner, self.inner + self.state], axis=-1)
        steps, log_a = decay_of_steps(params, x["step"])
        shape = (*b.shape[:-1], self.heads, self.state)
        v = by_head(v, self.heads)
        q = jnp.broadcast_to(c[..., None, :], shape)
        k = b[..., None, :] * steps[..., None]
        return {"q": q, "k": k, "v": v, "log_a": log_a}, (v, x["g"])

    def readout(self, params: PyTree, o: Array, g: PyTree) -> TBH:
        x, z = g
        y = o + along_last(params["D"], x[..., 0])[..., None] * x
        y = y.reshape(z.shape) * jax.nn.silu(z)
        return matmul(rms_norm(y), params["out"])
