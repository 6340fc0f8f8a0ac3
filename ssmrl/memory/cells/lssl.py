"""LSSL: a dense system for every channel, the common ancestor (Gu et al. 2021)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.memory import hippo
from ssmrl.memory.cells.diagonal import (
    Chunked,
    check_channels,
    check_options,
    check_width,
    leading,
)
from ssmrl.memory.dense import along_last
from ssmrl.memory.discretize import log_steps
from ssmrl.memory.matrix_scan import matrix_scan
from ssmrl.memory.spec import Prepared, Reading
from ssmrl.shapes import TBF, TBH, TBP, Array, Key, PyTree


@dataclass(frozen=True)
class LSSL(Chunked):
    """`dx/dt = A x + B u`, `y = C x + D u` in every channel, A dense and shared, bilinear steps.

    "Combining Recurrent, Convolutional, and Continuous-time Models with Linear State-Space Layers"
    (Gu et al. 2021), with one output per channel. Not their tridiagonal factors but
    `A = (W - W^T) / 2 - I / 2 - q q^T`, whose symmetric part is negative whatever the optimiser
    does, and which is HiPPO-LegS exactly at the start. A step costs N^2 per channel: for reference
    and tests, the others are cheaper. The carry is `(*B, features, state)` float32.

    Attributes:
        features: H, width of input and output.
        state: N, state size of each channel; even.
        dt_min, dt_max: range of the initial step lengths, log-uniform; see `S5`.
        trainable: False keeps A and B as they are (the paper's "fixed" variant).

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 16
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    trainable: bool = True

    ssm_params: ClassVar[tuple[str, ...]] = ("W", "q", "B", "log_dt")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})

    def __post_init__(self) -> None:
        check_channels(self)
        check_options(self)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.features, self.state)

    def init(self, key: Key, in_dim: int) -> PyTree:
        check_width(self, in_dim)
        key_c, key_d, key_dt = jax.random.split(key, 3)
        start = self._system() if self.trainable else {}
        return {
            **start,
            "log_dt": log_steps(key_dt, (self.features, 1, 1), self.dt_min, self.dt_max),
            "C": jax.random.normal(key_c, self.state_shape)
            / np.sqrt(self.state).astype(np.float32),
            "D": jax.random.normal(key_d, (self.features,)),
        }

    def _system(self) -> dict[str, Array]:
        skew = hippo.legs_normal(self.state) + np.eye(self.state) / 2
        return {
            "W": jnp.asarray(skew, jnp.float32),  # (N, N)
            "q": jnp.asarray(np.sqrt(np.arange(self.state) + 0.5), jnp.float32),  # (N,)
            "B": jnp.asarray(hippo.legs_input(self.state), jnp.float32),  # (N,)
        }

    def prepare(self, params: PyTree) -> Prepared:
        system = params if self.trainable else self._system()
        w, q, one = system["W"], system["q"], jnp.eye(self.state)
        a = (w - w.T) / 2 - one / 2 - q[:, None] * q[None]
        delta = jnp.exp(params["log_dt"])  # (H, 1, 1)
        half = delta / 2 * a[None]
        b = delta * system["B"][None, :, None]
        step = jnp.linalg.solve(one[None] - half, jnp.concatenate([one[None] + half, b], axis=-1))
        return Prepared(
            {"A": step[..., :-1], "B": step[..., -1], "C": params["C"], "D": params["D"]}
        )

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:
        return constants["A"], leading(constants["B"], u.ndim - 1) * u[..., None]

    def solve(self, a: Array, b: TBP, carry: Array, reading: Reading) -> TBP:
        return matrix_scan(a, b, carry, reset=reading.reset, reset_to=reading.start)

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        y = jnp.sum(leading(constants["C"], u.ndim - 1) * x, axis=-1)
        return y + along_last(constants["D"], u) * u
