"""Longhorn: the memory that online regression of the input on keys leads to (Liu et al. 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.memory.cells.mamba import SelectiveMemory
from ssmrl.shapes import TBF, Array, Key, PyTree


@dataclass(frozen=True)
class Longhorn(SelectiveMemory):
    """`S[t] = (1 - d k^2) S[t-1] + d x k`, `d = b / (1 + b |k|^2)`, `y = S q + D x`.

    Section 3: the implicit step that minimises `|S - S'|^2 + b (S k - x)^2` for each channel,
    in its diagonal form; `b = sigmoid(W x)` per channel, keys and queries linear maps of x,
    inside the block of Mamba. Nothing forgets but by being written over. The carry is the
    pair of the last 3 inputs of the convolution and S `(*B, expand * H, state)` float32.

    Attributes:
        features: H, width of input and output.
        state: N, numbers per channel.
        expand: channels as a multiple of H.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    ssm_params: ClassVar[tuple[str, ...]] = ("D",)

    def init(self, key: Key, in_dim: int) -> PyTree:
        return super().init(key, in_dim) | {"rate": jnp.zeros((self.inner,))}

    def maps(self, params: PyTree, x: TBF) -> tuple[Array, Array, Array]:
        logit, k, q = super().maps(params, x)
        beta = jax.nn.sigmoid(logit + params["rate"].reshape((1,) * (x.ndim - 1) + (-1,)))
        return beta / (1 + beta * jnp.sum(k * k, axis=-1, keepdims=True)), k, q

    def elements(self, params: PyTree, x: TBF, rate: TBF, b: Array) -> tuple[Array, Array]:
        k = b[..., None, :]
        return 1 - rate[..., None] * k * k, (rate * x)[..., None] * k
