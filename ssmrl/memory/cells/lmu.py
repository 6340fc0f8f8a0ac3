"""LMU: a frozen window of Legendre coefficients, written and read by a small RNN."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory import hippo
from ssmrl.memory.dense import along_last, matmul
from ssmrl.memory.spec import CellMemory, Prepared
from ssmrl.shapes import BF, BH, BP, TBF, Key, PyTree


@dataclass(frozen=True)
class LMU(CellMemory):
    """`m' = A_bar m + B_bar (e_x u + e_h h + e_m m)`, `h' = tanh(W_x u + W_h h + W_m m')`.

    "Legendre Memory Units" (Voelker et al. 2019): A and B are frozen and turn one number per step
    into the coefficients of its last `window` values, exact for a number held during the step.
    Without h feeding back it would be linear: see `HippoLegT`. The carry is h `(*B, features)` and
    m `(*B, state)`, float32.

    Attributes:
        features: H, width of h and of the output.
        state: N, coefficients of the window.
        window: steps that are remembered, the paper's theta.

    Raises:
        UsageError: an option out of range.
    """

    features: int = 64
    state: int = 32
    window: int = 64

    def __post_init__(self) -> None:
        if min(self.features, self.state, self.window) < 1:
            raise UsageError(
                "LMU needs features, state and window >= 1; got "
                f"{self.features}, {self.state} and {self.window}"
            )

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Encoders lecun-uniform, that of m zero; kernels of h xavier-normal."""
        keys = jax.random.split(key, 5)
        h, n = self.features, self.state
        lecun, xavier = jax.nn.initializers.lecun_uniform(), jax.nn.initializers.glorot_normal()
        return {
            "input": jnp.hstack([xavier(keys[0], (in_dim, h)), lecun(keys[1], (in_dim, 1))]),
            "W_h": xavier(keys[2], (h, h)),
            "W_m": xavier(keys[3], (n, h)),
            "e_h": lecun(keys[4], (h, 1)),
            "e_m": jnp.zeros((n, 1)),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> tuple[BH, BP]:
        return jnp.zeros((*batch_shape, self.features)), jnp.zeros((*batch_shape, self.state))

    def prepare(self, params: PyTree) -> Prepared:
        """The frozen step, transposed: m comes from the left."""
        step = hippo.windowed_steps("lmu", self.state, self.window)
        frozen = {"A": jnp.asarray(step.a.T, jnp.float32), "B": jnp.asarray(step.b, jnp.float32)}
        return Prepared({**params, **frozen})

    def inputs(self, constants: PyTree, u: TBF) -> TBF:
        return matmul(u, constants["input"])  # (..., H + 1)

    def update(
        self, constants: PyTree, carry: tuple[BH, BP], inputs: BF
    ) -> tuple[tuple[BH, BP], BH]:
        h, m = carry
        written = inputs[..., -1:] + h @ constants["e_h"] + m @ constants["e_m"]
        m = m @ constants["A"] + written * along_last(constants["B"], written)
        h = jnp.tanh(inputs[..., :-1] + h @ constants["W_h"] + m @ constants["W_m"])
        return (h, m), h
