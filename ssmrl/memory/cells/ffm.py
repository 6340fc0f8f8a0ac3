"""FFM, fast and forgetful memory: decay rates crossed with frequencies (Morad et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.blocks import layer_norm
from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import LinearMemory, Prepared
from ssmrl.shapes import TBF, TBH, TBP, Array, Key, PyTree


@dataclass(frozen=True)
class FFM(LinearMemory):
    """`S[t] = exp(-|alpha| + i omega) S[t-1] + x[t] 1^T`, `x = W u * sigmoid(V u)`.

    S is a grid of `state` traces, which share a decay, by `contexts` frequencies. The readout
    mixes all of it, normalises it and gates it against a linear skip,
    `y = LN(mix(Re S, Im S)) g + W_s u (1 - g)`. The carry is `(*B, state, contexts)` complex64.

    Attributes:
        features: H, width of the output.
        state: traces.
        contexts: frequencies.
        slowest: the longest period at initialisation in steps; the decays span half-lives
            from about one step to 10^6 of them.

    Raises:
        UsageError: an option out of range.
    """

    features: int = 64
    state: int = 32
    contexts: int = 4
    slowest: float = 1024.0

    ssm_params: ClassVar[tuple[str, ...]] = ("alpha", "omega")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})
    block: ClassVar[dict[str, str]] = {"activation": "none"}
    state_dtype: ClassVar[type] = jnp.complex64

    def __post_init__(self) -> None:
        if min(self.features, self.state, self.contexts) < 1 or self.slowest < 1:
            raise UsageError(
                "FFM needs features, state, contexts and slowest of at least 1; got "
                f"{self.features}, {self.state}, {self.contexts}, {self.slowest}"
            )

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.state, self.contexts)

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Decays evenly spaced in (0, 1/2], periods evenly spaced up to `slowest`."""
        key_in, key_mix, key_out = jax.random.split(key, 3)
        h = self.features
        return {
            "alpha": jnp.linspace(1e-6, 0.5, self.state),
            "omega": 2 * jnp.pi / jnp.linspace(1.0, self.slowest, self.contexts),
            "input": dense_init(key_in, in_dim, 2 * self.state),
            "mix": dense_init(key_mix, 2 * self.state * self.contexts, h),
            "output": dense_init(key_out, in_dim, 2 * h),
        }

    def prepare(self, params: PyTree) -> Prepared:
        rate = jnp.broadcast_to(-jnp.abs(params["alpha"])[:, None], self.state_shape)
        omega = jnp.broadcast_to(params["omega"][None], self.state_shape)
        return Prepared({**params, "decay": jnp.exp(jax.lax.complex(rate, omega))})

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:
        x, gate = jnp.split(dense(constants["input"], u), 2, axis=-1)
        x = (x * jax.nn.sigmoid(gate))[..., None].astype(self.state_dtype)
        return constants["decay"], jnp.broadcast_to(x, (*u.shape[:-1], *self.state_shape))

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        flat = x.reshape(*u.shape[:-1], -1)
        y = layer_norm(dense(constants["mix"], jnp.concatenate([flat.real, flat.imag], axis=-1)))
        skip, gate = jnp.split(dense(constants["output"], u), 2, axis=-1)
        gate = jax.nn.sigmoid(gate)
        return y * gate + skip * (1 - gate)
