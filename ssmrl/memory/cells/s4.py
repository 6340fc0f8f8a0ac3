"""S4: a diagonal-plus-low-rank system for every channel (Gu et al. 2022; SaShiMi's form)."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.memory.cells.diagonal import (
    Chunked,
    check_channels,
    check_options,
    check_width,
    leading,
)
from ssmrl.memory.cells.s4d import channel_readout, outer
from ssmrl.memory.discretize import log_steps
from ssmrl.memory.inits import legs
from ssmrl.memory.reparam import RATES, pair
from ssmrl.memory.spec import Prepared, Reading, cell_scan, start_carry
from ssmrl.shapes import BP, TBF, TBH, TBP, Array, Key, PyTree


class Linear(NamedTuple):
    """`x -> decay x - inward Re(outward . x)`, each `(H, N / 2)` complex64."""

    decay: Array
    inward: Array
    outward: Array


@dataclass(frozen=True)
class S4(Chunked):
    """`dx/dt = (diag(lam) - P P*) x + B u`, `y = 2 Re(C x) + D u` in every channel, bilinear.

    "Efficiently Modeling Long Sequences with Structured State Spaces" (Gu et al. 2022), with one P
    on both sides and Re lam < 0, hence stable ("It's Raw!", Goel et al. 2022). At first it is
    HiPPO-LegS itself, which S4D cuts to its diagonal.

    Bilinear steps of such a matrix are diagonal plus rank one again: with
    `d = 1 / (2 / delta - lam)` and `g = 1 / (1 + 2 Re(sum |P|^2 d))`,

        x[t] = (2 / delta + lam) d x[t-1] - (4 g / delta) (d P) Re(sum 2 conj(P) d x[t-1])
               + B_bar u[t]

    (sums over one of each conjugate pair), so a step costs O(N). The states of a step depend on
    each other: a loop over time on every device, so prefer S4D or S5 on accelerators. The carry is
    `(*B, features, state // 2)` complex64.

    Attributes:
        features: H, width of input and output.
        state: N, real-equivalent state size of each channel; even.
        reparam: a key of `reparam.RATES`, for the real parts.
        dt_min, dt_max: range of the initial step lengths, log-uniform; see `S5`.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    state: int = 16
    reparam: str = "exp"
    dt_min: float = 1e-3
    dt_max: float = 1e-1

    state_dtype: ClassVar[Any] = jnp.complex64
    ssm_params: ClassVar[tuple[str, ...]] = ("lam_re", "lam_im", "log_dt", "P", "B")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})

    def __post_init__(self) -> None:
        check_channels(self)
        check_options(self)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.features, self.state // 2)

    def init(self, key: Key, in_dim: int) -> PyTree:
        check_width(self, in_dim)
        key_c, key_d, key_dt = jax.random.split(key, 3)
        h, shape = self.features, (self.features, self.state // 2)
        start = legs(self.state)
        correction = start.left @ np.sqrt(np.arange(self.state) + 0.5)
        lam, p, b = (
            jnp.broadcast_to(pair(z)[:, None], (2, *shape))
            for z in (start.lam, correction, start.b)
        )
        return {
            "lam_re": RATES[self.reparam].inverse(-lam[0]),
            "lam_im": lam[1],
            "log_dt": log_steps(key_dt, (h, 1), self.dt_min, self.dt_max),
            "P": p,  # (2, H, N / 2)
            "B": b,
            "C": jax.random.normal(key_c, (2, *shape)) * np.sqrt(0.5).astype(np.float32),
            "D": jax.random.normal(key_d, (h,)),
        }

    def prepare(self, params: PyTree) -> Prepared:
        """The step above as `Linear`, with B_bar and C doubled."""
        lam = jax.lax.complex(-RATES[self.reparam].value(params["lam_re"]), params["lam_im"])
        p, b = (jax.lax.complex(*params[k]) for k in "PB")
        rate = (2 * jnp.exp(-params["log_dt"])).astype(lam.dtype)  # 2 / delta
        d = 1 / (rate - lam)
        outward = 2 * p.conj() * d

        def through(x: Array) -> Array:
            return jnp.sum((outward * x).real, axis=-1, keepdims=True).astype(lam.dtype)

        g = 1 / (1 + through(p))
        return Prepared(
            {
                "decay": (rate + lam) * d,
                "inward": 2 * g * rate * d * p,
                "outward": outward,
                "B": 2 * d * (b - g * through(b) * p),
                "C": 2 * params["C"],
                "D": params["D"],
            }
        )

    def elements(self, constants: PyTree, u: TBF) -> tuple[Linear, TBP]:  # type: ignore[override]
        linear = Linear(*(constants[k] for k in Linear._fields))
        return linear, outer(u, constants["B"])

    def solve(  # type: ignore[override]
        self, a: Linear, b: TBP, carry: BP, reading: Reading
    ) -> TBP:
        def update(x: BP, b: BP) -> tuple[BP, BP]:
            decay, inward, outward = (leading(z, x.ndim - 2) for z in a)
            through = jnp.sum((outward * x).real, axis=-1, keepdims=True)
            x = decay * x - inward * through.astype(x.dtype) + b
            return x, x

        start = start_carry(self, b.shape[1:-2], reading.start)
        return cell_scan(update, carry, b, reading.reset, start)[1]

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        return channel_readout(constants, x, u)
