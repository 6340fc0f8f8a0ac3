"""S5: one diagonal state-space model with many inputs and outputs (Smith et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError, unknown
from ssmrl.memory import discretize
from ssmrl.memory.backends import BACKENDS
from ssmrl.memory.dense import along_last, matmul
from ssmrl.memory.hippo import diagonalised
from ssmrl.memory.spec import LinearMemory, Prepared
from ssmrl.shapes import BP, TBF, TBH, TBP, Array, Key, PyTree

LARGEST_REAL_PART = -1e-4  # keeps |lam_bar| < 1 whatever the optimiser does to lam_re
C_INITS = ("lecun_normal", "trunc_standard_normal", "complex_normal")


@dataclass(frozen=True)
class S5(LinearMemory):
    """`x[t] = lam_bar x[t-1] + B_bar u[t]`, `y[t] = 2 Re(C x[t]) + D u[t]`.

    Resettable as in Lu et al. 2023 (section 4.1). The carry is `(*B, state // 2)` complex64:
    of each conjugate pair of eigenvalues one is kept, and the output doubled.

    Attributes:
        features: H, width of input and output.
        state: N, real-equivalent state size; a multiple of `2 * blocks`.
        blocks: HiPPO blocks that the state is divided into.
        dt_min, dt_max: range of the initial step lengths, log-uniform. The half-life of a mode
            at initialisation is 2 ln 2 / dt steps: take dt_min of about 1 / (longest memory).
        discretization: `zoh` or `bilinear`.
        c_init: `lecun_normal` (the RL code of Lu et al.: a small SSM branch at the start),
            `trunc_standard_normal` (sqrt(H) times larger) or `complex_normal`.
        scan: backend of `affine_scan`.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 64
    blocks: int = 1
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    discretization: str = "zoh"
    c_init: str = "trunc_standard_normal"
    scan: str = "auto"

    ssm_params: ClassVar[tuple[str, ...]] = ("lam_re", "lam_im", "log_dt", "B")

    def __post_init__(self) -> None:
        diagonal_blocks = 2 * self.blocks
        if self.features < 1 or self.blocks < 1 or self.state < 2 or self.state % diagonal_blocks:
            raise UsageError(
                "S5 needs features >= 1, blocks >= 1 and a state that is a multiple of "
                f"2 * blocks; got features={self.features}, state={self.state}, "
                f"blocks={self.blocks}"
            )
        if not 0 < self.dt_min <= self.dt_max:
            raise UsageError(f"S5 needs 0 < dt_min <= dt_max; got {self.dt_min}, {self.dt_max}")
        for kind, name, known in (
            ("discretization", self.discretization, discretize.METHODS),
            ("c_init", self.c_init, C_INITS),
            ("scan backend", self.scan, BACKENDS),
        ):
            if name not in known:
                raise unknown(kind, name, known)

    @property
    def backend(self) -> str:
        return self.scan

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Parameters (section 3.3 and appendix B.1): real arrays only, complex ones as
        `(2, ...)` of real and imaginary part, so that optimisers see reals."""
        if in_dim != self.features:
            raise UsageError(
                f"S5 feeds its input through to its output, so both are features="
                f"{self.features} wide; got in_dim={in_dim}. Project the input first, as "
                "ssmrl.memory.make and ssmrl.memory.Stack do"
            )
        key_b, key_c, key_d, key_dt = jax.random.split(key, 4)
        lam, v = diagonalised(self.state, self.blocks)
        lecun = jax.nn.initializers.lecun_normal()
        log_range = np.log(self.dt_min), np.log(self.dt_max)
        half = self.state // 2
        return {
            "lam_re": jnp.asarray(lam.real, jnp.float32),
            "lam_im": jnp.asarray(lam.imag, jnp.float32),
            "log_dt": jax.random.uniform(key_dt, (half,), jnp.float32, *log_range),
            "B": _pair(v.conj().T) @ lecun(key_b, (self.state, in_dim)),  # (2, P, H)
            "C": self._init_c(key_c, v),  # (2, H, P)
            "D": jax.random.normal(key_d, (self.features,)),
        }

    def _init_c(self, key: Key, v: np.ndarray) -> Array:
        h, n = self.features, self.state
        if self.c_init == "complex_normal":
            return jax.random.normal(key, (2, h, n // 2)) * jnp.sqrt(0.5)
        # lecun_normal's fan-in is N * H: what jax reads off the (H, N, 2) array of the original
        fan_in = n * h if self.c_init == "lecun_normal" else n
        re, im = jax.nn.initializers.truncated_normal(fan_in**-0.5 / 0.87962566)(key, (2, h, n))
        v_re, v_im = _pair(v)
        return jnp.stack([re @ v_re - im @ v_im, re @ v_im + im @ v_re])

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BP:
        return jnp.zeros((*batch_shape, self.state // 2), jnp.complex64)

    def prepare(self, params: PyTree) -> Prepared:
        """Discretises; B_bar and C as real matrices (products of complex ones are slow on CPU)."""
        lam_re = jnp.minimum(params["lam_re"], LARGEST_REAL_PART)
        lam = jax.lax.complex(lam_re, params["lam_im"])
        method = discretize.METHODS[self.discretization]
        lam_bar, gain = method(lam, jnp.exp(params["log_dt"]).astype(jnp.complex64))
        b_bar = gain[:, None] * jax.lax.complex(params["B"][0], params["B"][1])
        c_re, c_im = params["C"]
        return Prepared(
            {
                "lam_bar": lam_bar,  # (P,)
                "B": jnp.concatenate([b_bar.real, b_bar.imag]).T,  # (F, 2P)
                "C": 2 * jnp.concatenate([c_re, -c_im], axis=-1).T,  # (2P, H)
                "D": params["D"],
            }
        )

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:
        re, im = jnp.split(matmul(u, constants["B"]), 2, axis=-1)
        return constants["lam_bar"], jax.lax.complex(re, im)

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        y = matmul(jnp.concatenate([x.real, x.imag], axis=-1), constants["C"])
        return y + along_last(constants["D"], u) * u


def _pair(z: np.ndarray) -> Array:
    """Real and imaginary part of a complex array, stacked: `(2, ...)` float32."""
    return jnp.asarray(np.stack([z.real, z.imag]), jnp.float32)
