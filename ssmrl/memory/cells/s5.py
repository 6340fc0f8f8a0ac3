"""S5: one diagonal state-space model with many inputs and outputs (Smith et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError, unknown
from ssmrl.memory import hippo
from ssmrl.memory.cells.diagonal import check_options, check_width, discretised, stretched
from ssmrl.memory.dense import along_last, matmul
from ssmrl.memory.discretize import log_steps
from ssmrl.memory.inits import modes
from ssmrl.memory.reparam import RATES, SLOWEST, pair
from ssmrl.memory.spec import LinearMemory, Prepared
from ssmrl.shapes import BP, TB, TBF, TBH, TBP, Array, Key, PyTree

LARGEST_REAL_PART = -SLOWEST  # of lam, whatever the optimiser does to lam_re
C_INITS = ("lecun_normal", "trunc_standard_normal", "complex_normal")


@dataclass(frozen=True)
class S5(LinearMemory):
    """`x[t] = lam_bar x[t-1] + B_bar u[t]`, `y[t] = 2 Re(C x[t]) + D u[t]`.

    Resettable as in Lu et al. 2023. The carry is `(*B, state // 2)` complex64: of each conjugate
    pair of eigenvalues one is kept, and the output doubled.

    Attributes:
        features: H, width of input and output.
        state: N, real-equivalent state size; a multiple of `2 * blocks`.
        blocks: equal systems that the state is divided into.
        lam_init: a key of `inits.INITS`; `legs_half` is HiPPO, as in the paper.
        reparam: a key of `reparam.RATES`, for the real parts; `direct` is the paper's, held
            back at the edge of stability.
        dt_min, dt_max: range of the initial step lengths, log-uniform. The half-life of a mode
            at initialisation is 2 ln 2 / dt steps: take dt_min of about 1 / (longest memory).
        discretization: `zoh`, `bilinear`, `euler` or `dirac`.
        c_init: `lecun_normal` (the RL code of Lu et al.: a small SSM branch at the start),
            `trunc_standard_normal` (sqrt(H) times larger) or `complex_normal`.
        scan: backend of `affine_scan`.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 64
    blocks: int = 1
    lam_init: str = "legs_half"
    reparam: str = "direct"
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    discretization: str = "zoh"
    c_init: str = "trunc_standard_normal"
    scan: str = "auto"

    ssm_params: ClassVar[tuple[str, ...]] = ("lam_re", "lam_im", "log_dt", "B")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti", "dt"})

    def __post_init__(self) -> None:
        if self.features < 1:
            raise UsageError(f"S5 needs features >= 1, got {self.features}")
        hippo.check_blocks(self.state, self.blocks)
        check_options(self)
        if self.c_init not in C_INITS:
            raise unknown("c_init", self.c_init, C_INITS)

    @property
    def backend(self) -> str:
        return self.scan

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Real arrays only, complex ones as `(2, ...)` of real and imaginary part, so that
        optimisers see reals."""
        check_width(self, in_dim)
        key_b, key_c, key_d, key_dt = jax.random.split(key, 4)
        start = modes(self.lam_init, self.state, jax.random.fold_in(key, 4), self.blocks)
        lam_re, lam_im = pair(start.lam)
        lecun = jax.nn.initializers.lecun_normal()
        half = self.state // 2
        return {
            "lam_re": RATES[self.reparam].inverse(-lam_re),
            "lam_im": lam_im,
            "log_dt": log_steps(key_dt, (half,), self.dt_min, self.dt_max),
            "B": pair(start.left) @ lecun(key_b, (start.left.shape[1], in_dim)),  # (2, P, H)
            "C": self._init_c(key_c, start.right),  # (2, H, P)
            "D": jax.random.normal(key_d, (self.features,)),
        }

    def _init_c(self, key: Key, right: np.ndarray) -> Array:
        h, n = self.features, right.shape[0]
        if self.c_init == "complex_normal":
            return jax.random.normal(key, (2, h, right.shape[1])) * jnp.sqrt(0.5)
        # lecun_normal's fan-in is N * H: what jax reads off the (H, N, 2) array of the original
        fan_in = n * h if self.c_init == "lecun_normal" else n
        re, im = jax.nn.initializers.truncated_normal(fan_in**-0.5 / 0.87962566)(key, (2, h, n))
        v_re, v_im = pair(right)
        return jnp.stack([re @ v_re - im @ v_im, re @ v_im + im @ v_re])

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BP:
        return jnp.zeros((*batch_shape, self.state // 2), jnp.complex64)

    def prepare(self, params: PyTree) -> Prepared:
        """Discretises; B_bar and C as real matrices (products of complex ones are slow on CPU)."""
        constants = discretised(params, self.reparam, self.discretization)
        b = constants["gain"][:, None] * jax.lax.complex(params["B"][0], params["B"][1])
        c_re, c_im = params["C"]
        return Prepared(
            {
                **constants,  # (P,)
                "B": jnp.concatenate([b.real, b.imag]).T,  # (F, 2P)
                "C": 2 * jnp.concatenate([c_re, -c_im], axis=-1).T,  # (2P, H)
                "D": params["D"],
            }
        )

    def elements(self, constants: PyTree, u: TBF, dt: TB | None = None) -> tuple[Array, TBP]:
        re, im = jnp.split(matmul(u, constants["B"]), 2, axis=-1)
        return stretched(constants, self.discretization, jax.lax.complex(re, im), dt)

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        y = matmul(jnp.concatenate([x.real, x.imag], axis=-1), constants["C"])
        return y + along_last(constants["D"], u) * u
