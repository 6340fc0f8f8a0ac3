"""DeltaNet and gated DeltaNet: writes that replace what a key held before."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssmrl.memory.cells.outer import OuterMemory, by_head, decay_of_steps, initial_steps
from ssmrl.memory.convolution import conv_init, convolve
from ssmrl.shapes import TBF, Array, Key, PyTree


@dataclass(frozen=True)
class DeltaNet(OuterMemory):
    """`S[t] = S[t-1] + beta k (v - k S[t-1])^T`, `|k| = 1`, beta in (0, 1).

    DeltaNet (Schlag et al. 2021; Yang et al. 2024): q, k and v pass a short convolution and SiLU,
    q and k are normalised. The carry is the pair of the last 3 of their inputs `(*B, 3, 3 H)` and
    S `(*B, heads, K, V)`.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, K = V = H / heads.
        negative_eigs: beta in (0, 2), so that a write can reflect: parity and transpositions
            become expressible (Grazzi et al. 2025).
    """

    negative_eigs: bool = False

    held: ClassVar[str] = "qkv"

    @property
    def widths(self) -> dict[str, int]:
        return {"qkv": 3 * self.features, "g": self.features, "beta": self.heads}

    def init(self, key: Key, in_dim: int) -> PyTree:
        key, key_conv = jax.random.split(key)
        return super().init(key, in_dim) | {"conv": conv_init(key_conv, 4, 3 * self.features)}

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        qkv = jax.nn.silu(convolve(params["conv"], x["qkv"], lags))
        q, k, v = (by_head(z, self.heads) for z in jnp.split(qkv, 3, axis=-1))
        beta = jax.nn.sigmoid(x["beta"]) * (2.0 if self.negative_eigs else 1.0)
        return {"q": unit(q), "k": unit(k), "v": v, "beta": beta}, x["g"]


@dataclass(frozen=True)
class GatedDeltaNet(DeltaNet):
    """`S[t] = a S[t-1] + beta k (v - k a S[t-1])^T`, a in (0, 1) read off the input.

    Gated DeltaNet (Yang et al. 2025): one decay per head, that of Mamba-2,
    `a = exp(-exp(log_rate) softplus(W u + step))`. Otherwise as `DeltaNet`.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, K = V = H / heads.
        negative_eigs: beta in (0, 2), as in `DeltaNet`.
    """

    ssm_params: ClassVar[tuple[str, ...]] = ("log_rate", "step")

    @property
    def widths(self) -> dict[str, int]:
        return super().widths | {"step": self.heads}

    def init(self, key: Key, in_dim: int) -> PyTree:
        key, key_steps = jax.random.split(key)
        return super().init(key, in_dim) | initial_steps(key_steps, self.heads)

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        terms, g = super().terms(params, x, lags)
        return terms | {"log_a": decay_of_steps(params, x["step"])[1]}, g


def unit(x: Array) -> Array:
    """x divided by its length over the last axis."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
