"""What matrix memories share: one matrix per head, written by keys and read by queries."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.convolution import lagged
from ssmrl.memory.dense import along_last, dense, dense_init, matmul
from ssmrl.memory.linear_attention import linear_attention
from ssmrl.memory.spec import Memory, Reading
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree


@dataclass(frozen=True)
class OuterMemory(Memory):
    """`S[t] = a[t] S[t-1] + k[t] v[t]^T`, `y = W_o (norm(q S) * silu(g))`; base class.

    A subclass says what q, k, v, a and the gate g are: `widths` of the affine maps of the input
    that it needs, and `terms`. The carry is S, `(*B, heads, K, V)`. If one of the maps is `held`
    the carry is the pair of its last `taps - 1` values and S.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, each with K = V = H / heads unless the subclass says otherwise.

    Raises:
        UsageError: features that do not divide, or an input that is not H wide.
    """

    features: int = 64
    heads: int = 4

    held: ClassVar[str] = ""
    taps: ClassVar[int] = 4
    state_dtype: ClassVar[Any] = jnp.float32
    capabilities: ClassVar[frozenset[str]] = frozenset({"selective", "matrix_state"})
    block: ClassVar[dict[str, Any]] = {"activation": "none"}

    def __post_init__(self) -> None:
        if self.heads < 1 or self.features < 1 or self.features % (2 * self.heads):
            raise UsageError(
                f"{type(self).__name__} needs features that are a multiple of 2 * heads; got "
                f"features={self.features}, heads={self.heads}"
            )

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    @property
    def width(self) -> int:
        """K of one head."""
        return self.features // self.heads

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """`(heads, K, V)`."""
        return self.heads, self.width, self.width

    @property
    def widths(self) -> dict[str, int]:
        """The affine maps of the input by name, and their widths."""
        return dict.fromkeys("qkvg", self.features)

    def init(self, key: Key, in_dim: int) -> PyTree:
        if in_dim != self.features:
            raise UsageError(
                f"{type(self).__name__} is features={self.features} wide; got in_dim={in_dim}. "
                "Project the input first, as ssmrl.memory.make and ssmrl.memory.Stack do"
            )
        key_in, key_out = jax.random.split(key)
        lecun = jax.nn.initializers.lecun_normal()
        values = self.state_shape[0] * self.state_shape[2]
        return {
            "in": dense_init(key_in, in_dim, sum(self.widths.values())),
            "out": lecun(key_out, (values, self.features)),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        h = jnp.zeros((*batch_shape, *self.state_shape), self.state_dtype)
        if not self.held:
            return h
        return jnp.zeros((*batch_shape, self.taps - 1, self.widths[self.held])), h

    def project(self, params: PyTree, u: TBF) -> dict[str, Array]:
        """The affine maps by name; pointwise in time."""
        return self.split(dense(params["in"], u))

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        """Arguments of `linear_attention`, and the gate.

        `x` is what `project` returned and `lags` are the earlier values of `x[held]`.
        """
        return {name: by_head(x[name], self.heads) for name in "qkv"}, x["g"]

    def readout(self, params: PyTree, o: Array, g: PyTree) -> TBH:
        """`(..., H)` from what the heads read, `(..., heads, V)`."""
        o = rms_norm(o).reshape(*o.shape[:-2], -1)
        return matmul(o * jax.nn.silu(g), params["out"])

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        x = self.project(constants, u)
        reset, start = reading.reset, reading.start
        if not self.held:
            terms, g = self.terms(constants, x, [])
            carry, o = linear_attention(**terms, state=carry, reset=reset, start=start)
            return carry, self.readout(constants, o, g)
        window, h = carry
        start_window, start = (None, None) if start is None else start
        window, lags = lagged(x[self.held], window, reset, start_window)
        terms, g = self.terms(constants, x, lags)
        h, o = linear_attention(**terms, state=h, reset=reset, start=start)
        return (window, h), self.readout(constants, o, g)

    def split(self, x: Array) -> dict[str, Array]:
        """The affine maps by name from all of them side by side."""
        ends = np.cumsum(list(self.widths.values()))[:-1].tolist()
        return dict(zip(self.widths, jnp.split(x, ends, axis=-1), strict=True))

    def with_bias(self, params: PyTree, **biases: Array) -> PyTree:
        """params with the biases of some of the affine maps set."""
        parts = self.split(params["in"]["bias"]) | biases
        return params | {"in": params["in"] | {"bias": jnp.concatenate(list(parts.values()))}}


def by_head(x: Array, heads: int) -> Array:
    """`(..., heads, width / heads)`."""
    return x.reshape(*x.shape[:-1], heads, -1)


def rms_norm(x: Array, epsilon: float = 1e-5) -> Array:
    """Root mean square 1 over the last axis, without parameters."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)


def spread_rates(n: int, shortest: float = 4.0, longest: float = 1000.0) -> Array:
    """Decay rates `(n,)` per step whose half-lives run evenly in logarithm between two."""
    return jnp.asarray(np.log(2) / np.geomspace(shortest, longest, n), jnp.float32)


def inverse_softplus(y: Array) -> Array:
    """x with `softplus(x) = y`, for y > 0."""
    return y + jnp.log(-jnp.expm1(-y))


def initial_steps(key: Key, heads: int) -> PyTree:
    """Mamba-2's: `log_rate` the logarithms of 1 to 16, `step` of lengths 0.001 to 0.1, uniform."""
    key_rate, key_step = jax.random.split(key)
    rate = jax.random.uniform(key_rate, (heads,), minval=1.0, maxval=16.0)
    return {"log_rate": jnp.log(rate), "step": step_bias(key_step, heads)}


def step_bias(key: Key, n: int) -> Array:
    """Biases whose softplus is log-uniform in [0.001, 0.1]."""
    log_step = jax.random.uniform(key, (n,), minval=np.log(1e-3), maxval=np.log(1e-1))
    return inverse_softplus(jnp.maximum(jnp.exp(log_step), 1e-4))


def decay_of_steps(params: PyTree, x: Array) -> tuple[Array, Array]:
    """Step lengths `softplus(x + step)` and log decays `-exp(log_rate)` times these."""
    steps = jax.nn.softplus(x + along_last(params["step"], x))
    return steps, -along_last(jnp.exp(params["log_rate"]), x) * steps
