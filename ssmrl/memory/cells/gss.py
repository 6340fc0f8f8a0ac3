"""GSS: a diagonal memory in a narrow space, gated in a wide one (Mehta et al. 2023)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.cells.s4d import DSS
from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import Memory, Prepared, Reading
from ssmrl.shapes import BP, TBF, TBH, Array, Key, PyTree


@dataclass(frozen=True)
class GSS(Memory):
    """`y[t] = W_4 (W_3 dss(gelu(W_2 u))[t] * gelu(W_1 u[t]))`.

    "Long Range Language Modeling via Gated State Spaces" (Mehta et al. 2023): DSS in a quarter of
    the width, the product in four times the width. Step lengths are 1 and not trained, and there
    is no B. The carry is that of `DSS`, `(*B, features // 4, state // 2)` complex64.

    Attributes:
        features: H, width of the output; a multiple of 4.
        state: N, real-equivalent state size of each of the H / 4 channels.
        lam_init: a key of `inits.INITS`. The paper's `rand` loses half in about one step;
            `ring` spreads half-lives up to 69.
        reparam: a key of `reparam.RATES`.
        scan: backend of `affine_scan`.

    Raises:
        UsageError: an option out of range.
    """

    features: int = 64
    state: int = 32
    lam_init: str = "ring"
    reparam: str = "exp"
    scan: str = "auto"

    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})
    block: ClassVar[dict[str, Any]] = {"activation": "none"}

    def __post_init__(self) -> None:
        if self.features < 4 or self.features % 4:
            raise UsageError(f"GSS needs features that are a multiple of 4, got {self.features}")
        _ = self.inner  # which checks the rest

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    @property
    def inner(self) -> DSS:
        """The memory in the narrow space."""
        return DSS(
            self.features // 4,
            self.state,
            lam_init=self.lam_init,
            reparam=self.reparam,
            dt_min=1.0,
            dt_max=1.0,
            scan=self.scan,
        )

    def init(self, key: Key, in_dim: int) -> PyTree:
        key_in, key_gate, key_wide, key_out, key_ssm = jax.random.split(key, 5)
        narrow, wide = self.features // 4, self.features * 4
        ssm = self.inner.init(key_ssm, narrow)
        return {
            "ssm": {k: v for k, v in ssm.items() if k != "log_dt"},
            "input": dense_init(key_in, in_dim, narrow),
            "gate": dense_init(key_gate, in_dim, wide),
            "widen": dense_init(key_wide, narrow, wide),
            "output": dense_init(key_out, wide, self.features),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BP:
        return self.inner.init_carry(batch_shape)

    def prepare(self, params: PyTree) -> Prepared:
        ssm = {**params["ssm"], "log_dt": jnp.zeros((self.features // 4, 1))}
        return Prepared({**params, "ssm": self.inner.prepare(ssm)})

    def labels(self, params: PyTree) -> PyTree:
        return {**super().labels(params), "ssm": self.inner.labels(params["ssm"])}

    def read(self, constants: PyTree, carry: Array, u: TBF, reading: Reading) -> tuple[Array, TBH]:
        narrow = jax.nn.gelu(dense(constants["input"], u))
        carry, y = self.inner.read(constants["ssm"].constants, carry, narrow, reading)
        gated = dense(constants["widen"], y) * jax.nn.gelu(dense(constants["gate"], u))
        return carry, dense(constants["output"], gated)
