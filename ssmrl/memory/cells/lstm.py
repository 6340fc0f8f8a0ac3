"""LSTM, the baseline with a separate cell state (Hochreiter and Schmidhuber 1997; forget gate
of Gers et al. 2000)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.memory.cells.gated import GatedMemory
from ssmrl.shapes import BH, Key, PyTree


@dataclass(frozen=True)
class LSTM(GatedMemory):
    """`i, f, o = sigmoid(W u + R h)`, `g = tanh(W_g u + R_g h)`, `c' = f c + i g`,
    `h' = o tanh(c')`; the output is h'.

    Attributes:
        features: H, width of state and output. The carry is `{"h", "c"}`, each `(*B, H)`
            float32.
    """

    gates: ClassVar[int] = 4

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Those of `GatedMemory`, but biases of the forget gate 1 (Jozefowicz et al. 2015)."""
        params, h = super().init(key, in_dim), self.features
        bias = params["input"]["bias"].at[h : 2 * h].set(1.0)
        return {**params, "input": {**params["input"], "bias": bias}}

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> dict[str, BH]:
        zero = jnp.zeros((*batch_shape, self.features))
        return {"h": zero, "c": zero}

    def output(self, carry: dict[str, BH]) -> BH:
        return carry["h"]

    def advance(self, carry: dict[str, BH], read: list[BH]) -> dict[str, BH]:
        i, f, o, g = read
        c = jax.nn.sigmoid(f) * carry["c"] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return {"h": jax.nn.sigmoid(o) * jnp.tanh(c), "c": c}
