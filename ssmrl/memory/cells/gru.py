"""GRU, the recurrent baseline (Cho et al. 2014; reset gate after the product, as in cuDNN)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssmrl.memory.dense import along_last, dense, dense_init
from ssmrl.memory.spec import CellMemory
from ssmrl.shapes import BF, BH, TBF, Key, PyTree


@dataclass(frozen=True)
class GRU(CellMemory):
    """`r, z = sigmoid(W u + R h)`, `n = tanh(W_n u + r (R_n h))`, `h' = (1 - z) n + z h`.

    Attributes:
        features: H, width of state and output. The carry is `(*B, H)` float32.
    """

    features: int = 64

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Input kernels lecun-normal, recurrent kernels orthogonal per gate, biases zero."""
        key_w, key_r = jax.random.split(key)
        h = self.features
        orthogonal = jax.nn.initializers.orthogonal()
        return {
            "input": dense_init(key_w, in_dim, 3 * h),
            "R": jnp.concatenate([orthogonal(k, (h, h)) for k in jax.random.split(key_r, 3)], 1),
            "bias_n": jnp.zeros((h,)),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BH:
        return jnp.zeros((*batch_shape, self.features))

    def inputs(self, params: PyTree, u: TBF) -> TBF:
        return dense(params["input"], u)

    def update(self, params: PyTree, carry: BH, inputs: BF) -> tuple[BH, BH]:
        r_u, z_u, n_u = jnp.split(inputs, 3, axis=-1)
        r_h, z_h, n_h = jnp.split(carry @ params["R"], 3, axis=-1)
        r, z = jax.nn.sigmoid(r_u + r_h), jax.nn.sigmoid(z_u + z_h)
        n = jnp.tanh(n_u + r * (n_h + along_last(params["bias_n"], n_h)))
        h = (1 - z) * n + z * carry
        return h, h
