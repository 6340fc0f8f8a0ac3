"""The simple recurrent network (Elman 1990), the oldest of the baselines."""

from dataclasses import dataclass

import jax.numpy as jnp

from ssmrl.memory.cells.gated import GatedMemory
from ssmrl.shapes import BH, PyTree


@dataclass(frozen=True)
class Elman(GatedMemory):
    """`h' = tanh(W u + R h + bias)`, `y = h'`.

    Attributes:
        features: H, width of state and output. The carry is `(*B, H)` float32.
    """

    def update(self, constants: PyTree, carry: BH, inputs: list[BH]) -> tuple[BH, BH]:
        h = jnp.tanh(inputs[0] + carry @ constants["R"][0])
        return h, h
