"""What recurrent networks share: affine maps of the input and of the last output."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.memory.dense import along_last, dense_init, matmul
from ssmrl.memory.spec import CellMemory, Prepared
from ssmrl.shapes import TBF, TBH, Key, PyTree


@dataclass(frozen=True)
class GatedMemory(CellMemory):
    """`gates` maps `W u + b` of the input and as many `R h` of the state; base class.

    A subclass says in `update` what it makes of them. The maps are kept apart: slices of one
    wide product cost more on a CPU than the product itself, as what reads them is not vectorised.

    Attributes:
        features: H, width of state and output.
    """

    features: int = 64

    gates: ClassVar[int] = 1

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Input kernels lecun-normal, recurrent kernels orthogonal per gate, biases zero."""
        key_w, key_r = jax.random.split(key)
        h, keys = self.features, jax.random.split(key_r, self.gates)
        orthogonal = jax.nn.initializers.orthogonal()
        return {
            "input": dense_init(key_w, in_dim, self.gates * h),
            "R": jnp.concatenate([orthogonal(k, (h, h)) for k in keys], axis=1),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return jnp.zeros((*batch_shape, self.features))

    def prepare(self, params: PyTree) -> Prepared:
        """The kernels and biases of each gate."""
        parts = {"R": params["R"], "W": params["input"]["kernel"], "b": params["input"]["bias"]}
        each = {name: jnp.split(x, self.gates, axis=-1) for name, x in parts.items()}
        return Prepared({**params, **each})

    def inputs(self, constants: PyTree, u: TBF) -> list[TBH]:
        """What each gate reads of the input."""
        affine = [matmul(u, w) for w in constants["W"]]
        return [x + along_last(b, x) for x, b in zip(affine, constants["b"], strict=True)]
