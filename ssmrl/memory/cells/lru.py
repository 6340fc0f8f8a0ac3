"""LRU: a complex diagonal recurrence in discrete time (Orvieto et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.backends import BACKENDS
from ssmrl.memory.cells.diagonal import check_width
from ssmrl.memory.dense import along_last, matmul
from ssmrl.memory.inits import ring
from ssmrl.memory.reparam import MAGNITUDES, pair
from ssmrl.memory.spec import LinearMemory, Prepared
from ssmrl.shapes import BP, TBF, TBH, TBP, Array, Key, PyTree


@dataclass(frozen=True)
class LRU(LinearMemory):
    """`x[t] = lam x[t-1] + gamma (B u[t])`, `y[t] = Re(C x[t]) + D u[t]`.

    "Resurrecting Recurrent Neural Networks for Long Sequences" (Orvieto et al. 2023):
    `lam = exp(-exp(nu) + i exp(theta))`, drawn uniformly in area from a ring, and
    `gamma = sqrt(1 - |lam|^2)` at first, which gives every mode unit variance for white inputs.
    The spectrum is whole, so the output is not doubled. The carry is `(*B, state)` complex64.

    Attributes:
        features: H, width of input and output.
        state: P, complex modes.
        r_min, r_max: magnitudes at the start; 0.99 is a half-life of 69 steps, 0.999 of 693. Short
            ones too, as in the paper, tell the last few inputs apart sooner than a thin ring.
        max_phase: phases at the start lie in (0, max_phase).
        reparam: a key of `reparam.MAGNITUDES`; `exp_exp` is the paper's.
        scan: backend of `affine_scan`.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 64
    r_min: float = 0.0
    r_max: float = 0.99
    max_phase: float = 2 * np.pi
    reparam: str = "exp_exp"
    scan: str = "auto"

    ssm_params: ClassVar[tuple[str, ...]] = ("nu", "log_theta", "log_gamma", "B")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})

    def __post_init__(self) -> None:
        if self.features < 1 or self.state < 1:
            raise UsageError(
                f"LRU needs features >= 1 and state >= 1, got {self.features} and {self.state}"
            )
        if not 0 <= self.r_min < self.r_max < 1 or self.max_phase <= 0:
            raise UsageError(
                "LRU needs 0 <= r_min < r_max < 1 and max_phase > 0; got "
                f"{self.r_min}, {self.r_max} and {self.max_phase}"
            )
        if self.reparam not in MAGNITUDES:
            raise unknown("reparameterisation", self.reparam, MAGNITUDES)
        if self.scan not in BACKENDS:
            raise unknown("scan backend", self.scan, BACKENDS)

    @property
    def backend(self) -> str:
        return self.scan

    def init(self, key: Key, in_dim: int) -> PyTree:
        check_width(self, in_dim)
        key_lam, key_b, key_c, key_d = jax.random.split(key, 4)
        p, h = self.state, self.features
        options = {"r_min": self.r_min, "r_max": self.r_max, "max_phase": self.max_phase}
        log_r, phase = pair(ring(2 * p, key_lam, **options).lam)
        return {
            "nu": MAGNITUDES[self.reparam].inverse(jnp.exp(log_r)),
            "log_theta": jnp.log(jnp.maximum(phase, 1e-6)),
            "log_gamma": jnp.log(-jnp.expm1(2 * log_r)) / 2,
            "B": jax.random.normal(key_b, (2, p, h)) / np.sqrt(2 * h).astype(np.float32),
            "C": jax.random.normal(key_c, (2, h, p)) / np.sqrt(p).astype(np.float32),
            "D": jax.random.normal(key_d, (h,)),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BP:
        return jnp.zeros((*batch_shape, self.state), jnp.complex64)

    def prepare(self, params: PyTree) -> Prepared:
        """lam, and gamma B and C as real matrices."""
        r = MAGNITUDES[self.reparam].value(params["nu"])
        theta, gamma = jnp.exp(params["log_theta"]), jnp.exp(params["log_gamma"])
        c_re, c_im = params["C"]
        return Prepared(
            {
                "lam_bar": jax.lax.complex(r * jnp.cos(theta), r * jnp.sin(theta)),  # (P,)
                "B": jnp.concatenate(list(gamma[:, None] * b for b in params["B"])).T,  # (F, 2P)
                "C": jnp.concatenate([c_re, -c_im], axis=-1).T,  # (2P, H)
                "D": params["D"],
            }
        )

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:
        re, im = jnp.split(matmul(u, constants["B"]), 2, axis=-1)
        return constants["lam_bar"], jax.lax.complex(re, im)

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        y = matmul(jnp.concatenate([x.real, x.imag], axis=-1), constants["C"])
        return y + along_last(constants["D"], u) * u
