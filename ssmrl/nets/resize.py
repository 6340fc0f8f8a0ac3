"""Halving and doubling images by learned 4 x 4 convolutions with stride 2.

On CPU, XLA runs a convolution inside a loop, and a train step is one, on a naive path: the
encoder's gradient over 64 images of 64 x 64 takes 14 times as long there as it does here, where
it is a product of matrices. Accelerators have convolutions of their own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ssmrl.memory.backends import only_cpu
from ssmrl.memory.dense import matmul
from ssmrl.shapes import Array

NHWC = ("NHWC", "HWIO", "NHWC")


def halve(x: Array, kernel: Array) -> Array:
    """`(B, S, S, C)` to `(B, S/2, S/2, D)` with a kernel `(4, 4, C, D)`, zeros around the image."""
    return _by_platform(_halve_by_product, _halve_by_convolution, x, kernel)


def double(x: Array, kernel: Array) -> Array:
    """`(B, S, S, C)` to `(B, 2S, 2S, D)` with a kernel `(4, 4, C, D)`: `halve`, transposed."""
    return _by_platform(_double_by_product, _double_by_convolution, x, kernel)


def _by_platform(
    cpu: Callable[..., Array], default: Callable[..., Array], x: Array, kernel: Array
) -> Array:
    if only_cpu():
        return cpu(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=cpu, default=default)


def _halve_by_convolution(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=NHWC)


def _double_by_convolution(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=NHWC)


def _halve_by_product(x: Array, kernel: Array) -> Array:
    """A window of 4 x 4 pixels is 2 x 2 blocks of 2 x 2: one row of a matrix."""
    B, S, _, C = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    blocks = x.reshape(B, S // 2 + 1, 2, S // 2 + 1, 2, C).swapaxes(2, 3)
    blocks = blocks.reshape(B, S // 2 + 1, S // 2 + 1, 4 * C)
    rows = (
        jnp.concatenate([y[:, :, :-1], y[:, :, 1:]], -1) for y in (blocks[:, :-1], blocks[:, 1:])
    )
    return matmul(jnp.concatenate([*rows], -1), _of_blocks(kernel).reshape(16 * C, -1))


def _double_by_product(x: Array, kernel: Array) -> Array:
    """A pixel paints a window of 4 x 4, that is 2 x 2 blocks of 2 x 2; overlaps add up."""
    B, S, _, C = x.shape
    flipped = jnp.flip(kernel, (0, 1))  # a transposed convolution slides it the other way
    painted = matmul(x, jnp.moveaxis(_of_blocks(flipped), 4, 0).reshape(C, -1))
    painted = painted.reshape(B, S, S, 2, 2, -1)

    def placed(i: int, j: int) -> Array:
        return jnp.pad(painted[:, :, :, i, j], ((0, 0), (i, 1 - i), (j, 1 - j), (0, 0)))

    blocks = placed(0, 0) + placed(0, 1) + placed(1, 0) + placed(1, 1)
    pixels = blocks.reshape(B, S + 1, S + 1, 2, 2, -1).swapaxes(2, 3)
    return pixels.reshape(B, 2 * S + 2, 2 * S + 2, -1)[:, 1:-1, 1:-1]


def _of_blocks(kernel: Array) -> Array:
    """`(4, 4, C, D)` to (2, 2) blocks of (2, 2) pixels: `(2, 2, 2, 2, C, D)`."""
    return kernel.reshape(2, 2, 2, 2, *kernel.shape[2:]).swapaxes(1, 2)
