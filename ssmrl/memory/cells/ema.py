"""EMA: multi-dimensional damped moving averages of every channel (Mega, Ma et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.cells.diagonal import Chunked, check_width, leading
from ssmrl.memory.dense import along_last
from ssmrl.memory.spec import Prepared
from ssmrl.shapes import TBF, TBH, TBP, Array, Key, PyTree


@dataclass(frozen=True)
class EMA(Chunked):
    """`x[t] = (1 - p a) x[t-1] + p beta u[t]`, `y[t] = gamma . x[t] / sqrt(N) + omega u[t]`.

    "Mega: Moving Average Equipped Gated Attention" (Ma et al. 2023), with `p = sigmoid(delta)` and
    `a = sigmoid(alpha)`: a real diagonal memory of two matrices, the cheapest here. The carry is
    `(*B, features, state)` float32.

    Attributes:
        features: H, width of input and output.
        state: N, averages of each channel.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 16

    ssm_params: ClassVar[tuple[str, ...]] = ("delta", "alpha", "beta")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})

    def __post_init__(self) -> None:
        if self.features < 1 or self.state < 1:
            raise UsageError(
                f"EMA needs features >= 1 and state >= 1, got {self.features} and {self.state}"
            )

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.features, self.state)

    def init(self, key: Key, in_dim: int) -> PyTree:
        """The scales of the authors' code; beta alternates in sign between the averages."""
        check_width(self, in_dim)
        shape = self.state_shape
        delta, alpha, beta, gamma = jax.random.normal(key, (4, *shape))
        signs = np.where(np.arange(self.state) % 2, -1, 1).astype(np.float32)
        return {
            "delta": 0.2 * delta,
            "alpha": 0.2 * alpha,
            "beta": 0.02 * beta + jnp.broadcast_to(signs, shape),
            "gamma": gamma,
            "omega": jax.random.normal(jax.random.fold_in(key, 1), (self.features,)),
        }

    def prepare(self, params: PyTree) -> Prepared:
        p = jax.nn.sigmoid(params["delta"])
        return Prepared(
            {
                "decay": 1 - p * jax.nn.sigmoid(params["alpha"]),
                "beta": p * params["beta"],
                "gamma": params["gamma"] / np.sqrt(self.state).astype(np.float32),
                "omega": params["omega"],
            }
        )

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:
        return constants["decay"], leading(constants["beta"], u.ndim - 1) * u[..., None]

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        y = jnp.sum(leading(constants["gamma"], u.ndim - 1) * x, axis=-1)
        return y + along_last(constants["omega"], u) * u
