"""Linear attention and its forms with decay: GLA, RetNet and GateLoop."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.memory.cells.outer import OuterMemory, by_head, inverse_softplus, spread_rates
from ssmrl.memory.dense import along_last, matmul
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree


@dataclass(frozen=True)
class LinearAttention(OuterMemory):
    """`S += phi(k) v^T`, `z += phi(k)`, `o = phi(q) S / (phi(q) z)`, `phi = 1 + elu`; `y = o`.

    The fast weight programmer without forgetting (Katharopoulos et al. 2020; Schlag et al. 2021).
    z is held as the last column of S. Nothing ever fades: in long episodes each step counts less
    and less.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, K = V = H / heads.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"matrix_state", "counter"})
    block: ClassVar[dict[str, Any]] = {}

    @property
    def widths(self) -> dict[str, int]:
        return dict.fromkeys("qkv", self.features)

    @property
    def state_shape(self) -> tuple[int, int, int]:
        return self.heads, self.width, self.width + 1

    def init(self, key: Key, in_dim: int) -> PyTree:
        return {"in": super().init(key, in_dim)["in"]}

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        x = {name: by_head(value, self.heads) for name, value in x.items()}
        one = jnp.ones((*x["v"].shape[:-1], 1))
        return {
            "q": 1 + jax.nn.elu(x["q"]),
            "k": 1 + jax.nn.elu(x["k"]),
            "v": jnp.concatenate([x["v"], one], axis=-1),
        }, one

    def readout(self, params: PyTree, o: Array, g: PyTree) -> TBH:
        o = o[..., :-1] / (o[..., -1:] + 1e-6)
        return o.reshape(*o.shape[:-2], -1)


@dataclass(frozen=True)
class GLA(OuterMemory):
    """Every key decays at its own rate, `a = sigmoid(W_2 W_1 u + b)^(1/16)`.

    Gated linear attention (Yang et al. 2024: rank 16 of W_2 W_1, norm and gate of the output). At
    initialisation half-lives run from 4 to 1000 steps.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, K = V = H / heads.
    """

    rank: ClassVar[int] = 16
    temperature: ClassVar[float] = 16.0

    @property
    def widths(self) -> dict[str, int]:
        return super().widths | {"low": self.rank}

    def init(self, key: Key, in_dim: int) -> PyTree:
        key, key_up = jax.random.split(key)
        rates = by_head(spread_rates(self.features), self.heads).T.reshape(-1)
        lecun = jax.nn.initializers.lecun_normal()
        return super().init(key, in_dim) | {
            "up": lecun(key_up, (self.rank, self.features)),
            "decay": -inverse_softplus(self.temperature * rates),
        }

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        logit = matmul(x["low"], params["up"]) + along_last(params["decay"], x["low"])
        log_a = jax.nn.log_sigmoid(logit) / self.temperature
        terms, g = super().terms(params, x, lags)
        return terms | {"log_a": by_head(log_a, self.heads)}, g


@dataclass(frozen=True)
class RetNet(OuterMemory):
    """Constant decay of each head, and keys that turn: `a = gamma_h exp(i theta_k)`.

    RetNet (Sun et al. 2023), `gamma_h = 1 - 2^(-5 - h)`. Keys and queries are H / heads / 2
    complex numbers; their rotation is part of the decay, so that no position needs to be known.
    The carry is complex64.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, K = H / heads / 2 complex keys by V = H / heads.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"matrix_state"})
    state_dtype: ClassVar[Any] = jnp.complex64

    @property
    def state_shape(self) -> tuple[int, int, int]:
        return self.heads, self.width // 2, self.width

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        q, k, v = (by_head(x[name], self.heads) for name in "qkv")
        theta = 1e4 ** -np.linspace(0, 1, self.width // 2, endpoint=False)
        gamma = np.log1p(-(2.0 ** (-5 - np.arange(self.heads))))
        shape = (*q.shape[:-1], self.width // 2)
        return {
            "q": jax.lax.complex(*jnp.split(q, 2, axis=-1)),
            "k": jnp.conj(jax.lax.complex(*jnp.split(k, 2, axis=-1))),
            "v": v,
            "log_a": jnp.broadcast_to(jnp.asarray(gamma, jnp.float32), shape[:-1]),
            "phase": jnp.broadcast_to(jnp.asarray(theta, jnp.float32), shape),
        }, x["g"]


@dataclass(frozen=True)
class GateLoop(OuterMemory):
    """Decay and rotation of every key read off the input: `a = sigmoid(alpha) exp(i beta)`.

    GateLoop (Katsch 2023), alpha and beta affine maps of u. Rotation by half a turn where the
    input says so makes parity expressible. The carry is complex64. Half-lives run from 4 to 1000
    steps at initialisation (our choice: with zero biases all fades in a step).

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, K = V = H / heads.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"selective", "matrix_state", "parity"})
    state_dtype: ClassVar[Any] = jnp.complex64

    @property
    def widths(self) -> dict[str, int]:
        return super().widths | {"alpha": self.features, "beta": self.features}

    def init(self, key: Key, in_dim: int) -> PyTree:
        key, key_beta = jax.random.split(key)
        rates = by_head(spread_rates(self.features), self.heads).T.reshape(-1)
        beta = jax.random.uniform(key_beta, (self.features,), minval=-np.pi, maxval=np.pi) / 10
        params = super().init(key, in_dim)
        # sigmoid(x) = exp(-softplus(-x)); small kernels, or else the input overrules the biases
        scale = jnp.where(jnp.arange(6 * self.features) < 4 * self.features, 1.0, 0.1)
        kernel = params["in"]["kernel"] * scale[None]
        params = params | {"in": params["in"] | {"kernel": kernel}}
        return self.with_bias(params, alpha=-inverse_softplus(rates), beta=beta)

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        terms, g = super().terms(params, x, lags)
        log_a = by_head(jax.nn.log_sigmoid(x["alpha"]), self.heads)
        return terms | {"log_a": log_a, "phase": by_head(x["beta"], self.heads)}, g
