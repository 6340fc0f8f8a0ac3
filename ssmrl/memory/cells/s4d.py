"""S4D and DSS: one small diagonal system for every channel (Gu et al. 2022; Gupta et al. 2022)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.cells.diagonal import (
    Chunked,
    check_channels,
    check_options,
    check_width,
    discretised,
    leading,
    stretched,
)
from ssmrl.memory.dense import along_last
from ssmrl.memory.discretize import log_steps, phi
from ssmrl.memory.inits import modes
from ssmrl.memory.reparam import RATES, pair
from ssmrl.memory.spec import Prepared
from ssmrl.shapes import TB, TBF, TBH, TBP, Array, Key, PyTree


@dataclass(frozen=True)
class S4D(Chunked):
    """`x[t] = lam_bar x[t-1] + B_bar u[t]`, `y[t] = 2 Re(C x[t]) + D u[t]` in every channel.

    "On the Parameterization and Initialization of Diagonal State Space Models" (Gu et al. 2022).
    lam, B and C are `(H, N / 2)`, one step length per channel. The carry is
    `(*B, features, state // 2)` complex64.

    Attributes:
        features: H, width of input and output: the channels, which the block mixes.
        state: N, real-equivalent state size of each channel; even.
        lam_init: a key of `inits.INITS`: `legs`, `lin`, `inv`, `quad`, `real`, `ptd`, ...
        reparam: a key of `reparam.RATES`, for the real parts.
        dt_min, dt_max: range of the initial step lengths, log-uniform; see `S5`.
        discretization: `zoh`, `bilinear`, `euler` or `dirac`.
        scan: backend of `affine_scan`.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 16
    lam_init: str = "legs"
    reparam: str = "exp"
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    discretization: str = "zoh"
    scan: str = "auto"

    state_dtype: ClassVar[Any] = jnp.complex64
    ssm_params: ClassVar[tuple[str, ...]] = ("lam_re", "lam_im", "log_dt", "B")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti", "dt"})

    def __post_init__(self) -> None:
        check_channels(self)
        check_options(self)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.features, self.state // 2)

    @property
    def backend(self) -> str:
        return self.scan

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Parameters: lam and B from the init, C real normal in its coordinates, D normal."""
        check_width(self, in_dim)
        key_lam, key_c, key_d, key_dt = jax.random.split(key, 4)
        h = self.features
        start = modes(self.lam_init, self.state, key_lam)
        lam_re, lam_im = jnp.moveaxis(  # random inits differ between channels
            jax.vmap(lambda k: pair(modes(self.lam_init, self.state, k).lam))(
                jax.random.split(key_lam, h)
            ),
            1,
            0,
        )
        c = jax.random.normal(key_c, (h, start.right.shape[0]))
        return {
            "lam_re": RATES[self.reparam].inverse(-lam_re),  # (H, N / 2)
            "lam_im": lam_im,
            "log_dt": log_steps(key_dt, (h, 1), self.dt_min, self.dt_max),
            "B": jnp.broadcast_to(pair(start.b)[:, None], (2, h, self.state // 2)),
            "C": jnp.stack([c @ part for part in pair(start.right)]),  # (2, H, N / 2)
            "D": jax.random.normal(key_d, (h,)),
        }

    def prepare(self, params: PyTree) -> Prepared:
        """Discretises, with B multiplied by the gain and C doubled."""
        constants = discretised(params, self.reparam, self.discretization)
        b = self.input_vector(params, constants)
        return Prepared({**constants, "B": b, "C": 2 * params["C"], "D": params["D"]})

    def input_vector(self, params: PyTree, constants: PyTree) -> Array:
        """B_bar, `(H, N / 2)` complex64."""
        return constants["gain"] * jax.lax.complex(params["B"][0], params["B"][1])

    def elements(self, constants: PyTree, u: TBF, dt: TB | None = None) -> tuple[Array, TBP]:
        return stretched(constants, self.discretization, outer(u, constants["B"]), dt)

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        return channel_readout(constants, x, u)


def outer(u: TBF, b: Array) -> TBP:
    """`b[h, n] u[..., h]` for complex b and real u, `(..., H, N / 2)` complex64."""
    b, u = leading(b, u.ndim - 1), u[..., None]
    return jax.lax.complex(b.real * u, b.imag * u)


def channel_readout(constants: PyTree, x: TBP, u: TBF) -> TBH:
    """`Re(sum_n C x) + D u`, from complex states `(..., H, N / 2)`."""
    c_re, c_im = (leading(c, u.ndim - 1) for c in constants["C"])
    y = jnp.sum(c_re * x.real - c_im * x.imag, axis=-1)
    return y + along_last(constants["D"], u) * u


DSS_FORMS = ("exp", "softmax")


@dataclass(frozen=True)
class DSS(S4D):
    """S4D without B; the kernel is a sum of exponentials, normalised over time or not.

    "Diagonal State Spaces are as Effective as Structured State Spaces" (Gupta et al. 2022):
    `K_k = 2 Re(C exp(k lam delta) g)`, where for `exp` (S4D with zero-order hold and B of ones)
    `g = (exp(lam delta) - 1) / lam`, and for `softmax` that divided by
    `exp(lam delta length) - 1`: `K` is the softmax of `k lam delta` over `length` steps, times C /
    lam.

    Attributes:
        form: `exp`, or `softmax`, which weighs slow modes more.
        length: steps of the softmax; a constant, so that acting and training agree.
    """

    form: str = "exp"
    length: int = 1024

    ssm_params: ClassVar[tuple[str, ...]] = ("lam_re", "lam_im", "log_dt")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in DSS_FORMS:
            raise unknown("form of DSS", self.form, DSS_FORMS)
        if self.length < 1 or self.discretization != "zoh":
            raise UsageError(
                "DSS needs length >= 1 and has a discretization of its own, so leave that at "
                f"'zoh'; got length={self.length}, discretization={self.discretization!r}"
            )

    def init(self, key: Key, in_dim: int) -> PyTree:
        params = super().init(key, in_dim)
        return {k: v for k, v in params.items() if k != "B"}

    def input_vector(self, params: PyTree, constants: PyTree) -> Array:
        if self.form == "exp":
            return constants["gain"]
        z = constants["lam"] * constants["delta"]  # gain / (exp(L z) - 1), by phi: finite ratio
        return phi(z) / (constants["lam"] * self.length * phi(self.length * z))
