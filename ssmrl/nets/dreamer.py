"""Feed-forward layers of DreamerV3 (Hafner et al. 2023, appendix): linear, layer norm, SiLU."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from ssmrl.memory.dense import along_last, matmul
from ssmrl.shapes import Array

hidden_init = nnx.initializers.variance_scaling(1.0, "fan_avg", "truncated_normal")


def output_init(scale: float) -> nnx.initializers.Initializer:
    """Uniform with variance `scale / mean fan`; zeros for scale 0."""
    if not scale:
        return nnx.initializers.zeros_init()
    return nnx.initializers.variance_scaling(scale, "fan_avg", "uniform")


class LayerNorm(nnx.Module):
    """Zero mean and unit variance over the last axis, then a learned scale and shift."""

    def __init__(self, width: int) -> None:
        self.scale, self.bias = nnx.Param(jnp.ones((width,))), nnx.Param(jnp.zeros((width,)))

    def __call__(self, x: Array) -> Array:
        """Keeps the shape."""
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-3)
        return x * along_last(self.scale[...], x) + along_last(self.bias[...], x)


class Hidden(nnx.Module):
    """`silu(norm(x W))`."""

    def __init__(self, in_dim: int, width: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(hidden_init(rngs.params(), (in_dim, width)))
        self.norm = LayerNorm(width)

    def __call__(self, x: Array) -> Array:
        """Maps `(*B, in_dim)` to `(*B, width)`."""
        return jax.nn.silu(self.norm(matmul(x, self.kernel[...])))


class Affine(nnx.Module):
    """`x W + b`."""

    def __init__(
        self, in_dim: int, width: int, init: nnx.initializers.Initializer, *, rngs: nnx.Rngs
    ) -> None:
        self.kernel = nnx.Param(init(rngs.params(), (in_dim, width)))
        self.bias = nnx.Param(jnp.zeros((width,)))

    def __call__(self, x: Array) -> Array:
        """Maps `(*B, in_dim)` to `(*B, width)`."""
        y = matmul(x, self.kernel[...])
        return y + along_last(self.bias[...], y)


class MLP(nnx.Module):
    """`layers` hidden layers of `units`, and an affine layer to `out_dim` where it is given.

    out_scale: variance of the last kernel times its mean fan; 0 starts with zeros.
    """

    def __init__(
        self,
        in_dim: int,
        layers: int,
        units: int,
        out_dim: int | None = None,
        *,
        out_scale: float = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        widths = [in_dim, *[units] * layers]
        pairs = pairwise(widths)
        self.layers = nnx.List(Hidden(i, o, rngs=rngs) for i, o in pairs)
        self.out_dim = widths[-1] if out_dim is None else out_dim
        init = output_init(out_scale)
        self.out = None if out_dim is None else Affine(widths[-1], out_dim, init, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Maps `(*B, in_dim)` to `(*B, out_dim)`."""
        for layer in self.layers:
            x = layer(x)
        return x if self.out is None else self.out(x)
