"""LSTM, the baseline with a separate cell state (Hochreiter and Schmidhuber 1997; forget gate
of Gers et al. 2000)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import CellMemory
from ssmrl.shapes import BF, BH, TBF, Key, PyTree


@dataclass(frozen=True)
class LSTM(CellMemory):
    """`i, f, o = sigmoid(W u + R h)`, `g = tanh(W_g u + R_g h)`, `c' = f c + i g`,
    `h' = o tanh(c')`; the output is h'.

    Attributes:
        features: H, width of state and output. The carry is `{"h", "c"}`, each `(*B, H)`
            float32.
    """

    features: int = 64

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Input kernels lecun-normal, recurrent kernels orthogonal per gate, biases zero but
        those of the forget gate, which are 1 (Jozefowicz et al. 2015)."""
        key_w, key_r = jax.random.split(key)
        h = self.features
        orthogonal = jax.nn.initializers.orthogonal()
        inputs = dense_init(key_w, in_dim, 4 * h)
        return {
            "input": inputs | {"bias": inputs["bias"].at[h : 2 * h].set(1.0)},
            "R": jnp.concatenate([orthogonal(k, (h, h)) for k in jax.random.split(key_r, 4)], 1),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> dict[str, BH]:
        zero = jnp.zeros((*batch_shape, self.features))
        return {"h": zero, "c": zero}

    def inputs(self, params: PyTree, u: TBF) -> TBF:
        return dense(params["input"], u)

    def update(self, params: PyTree, carry: dict[str, BH], inputs: BF) -> tuple[dict[str, BH], BH]:
        i, f, o, g = jnp.split(inputs + carry["h"] @ params["R"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * carry["c"] + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return {"h": h, "c": c}, h
