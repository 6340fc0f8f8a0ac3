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
    return x @ params["kernel"] + along_last(params["bias"], x)


def along_last(vector: Array, x: Array) -> Array:
    """`vector` with leading axes of size 1, so that it broadcasts over x without promotion."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))
