"""The simple recurrent network (Elman 1990), the oldest of the baselines."""

from dataclasses import dataclass

import jax.numpy as jnp

from ssmrl.memory.cells.gated import GatedMemory
from ssmrl.shapes import BH


@dataclass(frozen=True)
class Elman(GatedMemory):
    """`h' = tanh(W u + R h + bias)`, `y = h'`.

    Attributes:
        features: H, width of state and output. The carry is `(*B, H)` float32.
    """

    def advance(self, carry: BH, read: list[BH]) -> BH:
        return jnp.tanh(read[0])
