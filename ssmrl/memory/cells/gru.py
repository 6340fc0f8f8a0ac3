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

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Those of `GatedMemory`, and the bias of the product with R_n, zero."""
        return {**super().init(key, in_dim), "bias_n": jnp.zeros((self.features,))}

    def update(self, constants: PyTree, carry: BH, inputs: list[BH]) -> tuple[BH, BH]:
        r_u, z_u, n_u = inputs
        r_h, z_h, n_h = (carry @ kernel for kernel in constants["R"])
        r, z = jax.nn.sigmoid(r_u + r_h), jax.nn.sigmoid(z_u + z_h)
        n = jnp.tanh(n_u + r * (n_h + along_last(constants["bias_n"], n_h)))
        h = (1 - z) * n + z * carry
        return h, h
