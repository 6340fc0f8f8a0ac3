"""The affine layer that cells and blocks share; the core of `ssmrl.memory` goes without Flax."""

import jax
import jax.numpy as jnp

from ssmrl.shapes import Array, Key, PyTree


def dense_init(key: Key, in_dim: int, out_dim: int) -> PyTree:
    """`{"kernel": (in_dim, out_dim) lecun-normal, "bias": (out_dim,) zeros}`, float32."""
    kernel = jax.nn.initializers.lecun_normal()(key, (in_dim, out_dim))
    return {"kernel": kernel, "bias": jnp.zeros((out_dim,))}


def dense(params: PyTree, x: Array) -> Array:
    """`x @ kernel + bias` over the last axis."""
    return matmul(x, params["kernel"]) + along_last(params["bias"], x)


def matmul(x: Array, kernel: Array) -> Array:
    """`x @ kernel` for x with any leading axes, as one product of two matrices.

    Backwards, a product over `(T, B)` contracts two axes, which XLA does on CPU at two thirds
    of the speed of one axis.
    """
    y = x.reshape(-1, x.shape[-1]) @ kernel
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def along_last(vector: Array, x: Array) -> Array:
    """`vector` with leading axes of size 1, so that it broadcasts over x without promotion."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))
