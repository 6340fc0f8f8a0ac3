"""The simple recurrent network (Elman 1990), the oldest of the baselines."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import CellMemory
from ssmrl.shapes import BF, BH, TBF, Key, PyTree


@dataclass(frozen=True)
class Elman(CellMemory):
    """`h' = tanh(W u + R h + bias)`, `y = h'`.

    Attributes:
        features: H, width of state and output. The carry is `(*B, H)` float32.
    """

    features: int = 64

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Input kernel lecun-normal, recurrent kernel orthogonal, bias zero."""
        key_w, key_r = jax.random.split(key)
        h = self.features
        return {
            "input": dense_init(key_w, in_dim, h),
            "R": jax.nn.initializers.orthogonal()(key_r, (h, h)),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BH:
        return jnp.zeros((*batch_shape, self.features))

    def inputs(self, params: PyTree, u: TBF) -> TBF:
        return dense(params["input"], u)

    def update(self, params: PyTree, carry: BH, inputs: BF) -> tuple[BH, BH]:
        h = jnp.tanh(inputs + carry @ params["R"])
        return h, h
