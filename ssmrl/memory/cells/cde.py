"""Linear controlled differential equations: the densest linear recurrence (Cirone et al. 2024)."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.dense import along_last, dense, dense_init
from ssmrl.memory.spec import CellMemory
from ssmrl.shapes import BF, BH, BP, TBF, Key, PyTree

LARGEST_STATE = 64


@dataclass(frozen=True)
class LinearCDE(CellMemory):
    """`x[t] = (I + sum_i A_i w_i[t]) x[t-1] + B w[t]`, `w = (1, W u)`, `y = C x + bias`.

    w is the increment of the path that drives the equation; with one-hot inputs, I + sum_i A_i w_i
    is any matrix for any symbol (the IDS4 of Merrill et al. 2024), so one layer tracks any finite
    group. Dense, N^2 (channels + 1) per step: a reference, for small states. The carry is
    `(*B, N)` float32.

    Attributes:
        features: H, width of the output.
        state: N.
        channels: width of the path W u.
        bounded: divide every matrix by its largest absolute row sum where that is above 1, so
            that states cannot explode; permutations and other 0-1 matrices stay as they are.
            Matrices then start near the identity; otherwise, as in the paper, A_i ~ N(0, 1/N).

    Raises:
        UsageError: an option out of range.
    """

    features: int = 64
    state: int = 16
    channels: int = 8
    bounded: bool = True

    ssm_params: ClassVar[tuple[str, ...]] = ("A",)
    capabilities: ClassVar[frozenset[str]] = frozenset({"selective", "parity"})

    def __post_init__(self) -> None:
        if min(self.features, self.channels) < 1 or not 1 <= self.state <= LARGEST_STATE:
            raise UsageError(
                f"linear_cde needs features and channels >= 1, and 1 <= state <= {LARGEST_STATE}, "
                f"for dense matrices; got {self.features}, {self.channels}, {self.state}"
            )

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        key_a, key_b, key_in, key_out = jax.random.split(key, 4)
        n, d = self.state, self.channels + 1
        # half-lives of tens of steps where bounded: the row sums exceed 1 by a few per cent
        scale = 0.05 / (n * d**0.5) if self.bounded else n**-0.5
        return {
            "A": scale * jax.random.normal(key_a, (d, n, n)),
            "B": jax.random.normal(key_b, (d, n)) / d**0.5,
            "input": dense_init(key_in, in_dim, self.channels),
            "output": dense_init(key_out, n, self.features),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BP:
        return jnp.zeros((*batch_shape, self.state))

    def inputs(self, params: PyTree, u: TBF) -> TBF:
        w = dense(params["input"], u)
        return jnp.concatenate([jnp.ones_like(w[..., :1]), w], axis=-1)

    @partial(jax.checkpoint, static_argnums=0)  # a matrix per step and sequence is not kept
    def update(self, params: PyTree, carry: BP, inputs: BF) -> tuple[BP, BH]:
        n = self.state
        a = inputs @ params["A"].reshape(-1, n * n) + along_last(jnp.eye(n).ravel(), inputs)
        a = a.reshape(*carry.shape, n)
        if self.bounded:
            a = a / jnp.maximum(jnp.sum(jnp.abs(a), axis=-1), 1.0).max(axis=-1)[..., None, None]
        x = jnp.einsum("...ij,...j->...i", a, carry) + inputs @ params["B"]
        return x, dense(params["output"], x)
