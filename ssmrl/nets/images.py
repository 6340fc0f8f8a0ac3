"""Strided convolutions between images and vectors (Hafner et al. 2023, first version, appendix).

Images are square, `(*B, S, S, channels)`, S a power of two from 8 on. Each stage halves the
side and doubles the channels, down to 4 x 4; there are no residual blocks.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from ssmrl.memory.dense import along_last
from ssmrl.nets.dreamer import Affine, LayerNorm, hidden_init, output_init
from ssmrl.nets.resize import double, halve
from ssmrl.shapes import Array

SMALLEST = 4  # side of the image that is flattened, or grown from


def stages(side: int) -> int | None:
    """How often an image of this side is halved; None where that does not lead to 4."""
    halvings = (side // SMALLEST).bit_length() - 1
    return halvings if halvings > 0 and SMALLEST << halvings == side else None


class ImageEncoder(nnx.Module):
    """Convolutions 4 x 4 with stride 2, layer norm over channels and SiLU; then flat.

    Args:
        side, channels: of the images.
        depth: channels after the first convolution.
        rngs: its `params` stream makes the parameters.
    """

    def __init__(self, side: int, channels: int, depth: int, *, rngs: nnx.Rngs) -> None:
        count = stages(side) or 0
        widths = [channels, *(depth << i for i in range(count))]
        pairs = list(pairwise(widths))
        self.kernels = nnx.List(nnx.Param(hidden_init(rngs.params(), (4, 4, *p))) for p in pairs)
        self.norms = nnx.List(LayerNorm(width) for width in widths[1:])
        self.out_dim = SMALLEST**2 * widths[-1]

    def __call__(self, x: Array) -> Array:
        """Maps `(*B, S, S, channels)` to `(*B, out_dim)`."""
        batch = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        for kernel, norm in zip(self.kernels, self.norms, strict=True):
            x = jax.nn.silu(norm(halve(x, kernel[...])))
        return x.reshape(*batch, self.out_dim)


class ImageDecoder(nnx.Module):
    """A vector to an image: the mirror of `ImageEncoder`, its last layer plain with a bias.

    Args:
        in_dim: width of the vector.
        side, channels: of the images.
        depth: channels before the last convolution.
        rngs: its `params` stream makes the parameters.
    """

    def __init__(
        self, in_dim: int, side: int, channels: int, depth: int, *, rngs: nnx.Rngs
    ) -> None:
        count = stages(side) or 0
        widths = [*(depth << i for i in reversed(range(count))), channels]
        self.project = Affine(in_dim, SMALLEST**2 * widths[0], output_init(1.0), rngs=rngs)
        pairs = list(pairwise(widths))
        self.kernels = nnx.List(nnx.Param(hidden_init(rngs.params(), (4, 4, *p))) for p in pairs)
        self.norms = nnx.List(LayerNorm(width) for width in widths[1:-1])
        self.bias = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, x: Array) -> Array:
        """Maps `(*B, in_dim)` to `(*B, S, S, channels)`, around 0."""
        batch = x.shape[:-1]
        x = self.project(x).reshape(-1, SMALLEST, SMALLEST, self.kernels[0].shape[2])
        for kernel, norm in zip(self.kernels, [*self.norms, None], strict=True):
            x = double(x, kernel[...])
            x = x + along_last(self.bias[...], x) if norm is None else jax.nn.silu(norm(x))
        return x.reshape(*batch, *x.shape[1:])
