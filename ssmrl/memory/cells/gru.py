"""GRU, the recurrent baseline (Cho et al. 2014; reset gate after the product, as in cuDNN)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.memory.cells.gated import GatedMemory
from ssmrl.memory.dense import along_last
from ssmrl.shapes import BH, Key, PyTree


@dataclass(frozen=True)
class GRU(GatedMemory):
    """`r, z = sigmoid(W u + R h)`, `n = tanh(W_n u + r (R_n h))`, `h' = (1 - z) n + z h`.

    Attributes:
        features: H, width of state and output. The carry is `(*B, H)` float32.
    """

    gates: ClassVar[int] = 3
    apart: ClassVar[int] = 1

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Those of `GatedMemory`, and the bias of the product with R_n, zero."""
        return {**super().init(key, in_dim), "bias_n": jnp.zeros((self.features,))}

    def recurrent(self, constants: PyTree, h: BH) -> list[BH]:
        r, z, n = super().recurrent(constants, h)
        return [r, z, n + along_last(constants["bias_n"], n)]

    def advance(self, carry: BH, read: list[BH]) -> BH:
        r, z, n_u, n_h = read
        z = jax.nn.sigmoid(z)
        return (1 - z) * jnp.tanh(n_u + jax.nn.sigmoid(r) * n_h) + z * carry
