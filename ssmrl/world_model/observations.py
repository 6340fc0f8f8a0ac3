"""Observations of any space to one vector, and back to a distribution over the space.

A space is taken apart into its leaves. Images, uint8 `(S, S, channels)`, go through
convolutions; everything else is a vector: one-hots of integers, `symlog` of numbers.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ssmrl.envs.contract import (
    Box,
    Discrete,
    MultiDiscrete,
    Space,
    feature_size,
    flatten,
)
from ssmrl.nets.dreamer import MLP
from ssmrl.nets.images import ImageDecoder, ImageEncoder
from ssmrl.nets.leaves import bounds, centred, is_image, leaves, put_together, split, take_apart
from ssmrl.nets.two_hot import symexp, symlog
from ssmrl.shapes import TB, TBF, Array, PyTree
from ssmrl.world_model.config import WorldModelConfig


class Encoder(nnx.Module):
    """An observation to a vector: images by convolutions, all else together by an MLP.

    Args:
        space: of the observations.
        config: `mlp_layers`, `mlp_units`, `cnn_depth`.
        rngs: its `params` stream makes the parameters.

    Raises:
        UsageError: a space that it cannot read.
    """

    def __init__(self, space: Space, config: WorldModelConfig, *, rngs: nnx.Rngs) -> None:
        self.space = space
        images, width = split(space)
        self.images = nnx.Dict(
            {
                name: ImageEncoder(s.shape[0], s.shape[2], config.cnn_depth, rngs=rngs)
                for name, s in images.items()
            }
        )
        layers, units = config.mlp_layers, config.mlp_units
        self.vectors = MLP(width, layers, units, rngs=rngs) if width else None
        self.out_dim = sum(net.out_dim for net in self.images.values()) + units * bool(width)

    def __call__(self, obs: PyTree) -> TBF:
        """Maps an observation with leading axes `*B` to `(*B, out_dim)`."""
        outputs, vectors = [], []
        parts = take_apart(self.space, obs)
        for name, space in leaves(self.space).items():
            if name in self.images:
                outputs.append(self.images[name](centred(space, parts[name])))
            else:
                x = flatten(space, parts[name])
                vectors.append(symlog(x) if isinstance(space, Box) else x)
        if self.vectors is not None:
            outputs.append(self.vectors(jnp.concatenate(vectors, axis=-1)))
        return jnp.concatenate(outputs, axis=-1)


class Decoded:
    """A distribution over observations: outputs of the decoder by leaf, `(*B, ...)`."""

    def __init__(self, space: Space, outputs: dict[str, Array]) -> None:
        self.space, self.outputs = space, outputs

    def prediction(self) -> PyTree:
        """The most likely observation, an element of the space with leading axes `*B`."""
        parts = {n: _most_likely(s, self.outputs[n]) for n, s in leaves(self.space).items()}
        return put_together(self.space, parts)

    def losses(self, obs: PyTree) -> dict[str, TB]:
        """For each leaf, `(*B,)`: squared error of images and of symlog numbers, summed over
        entries and not halved; cross entropy of integers, summed, in nats."""
        parts = take_apart(self.space, obs)
        return {n: _loss(s, self.outputs[n], parts[n]) for n, s in leaves(self.space).items()}


class Decoder(nnx.Module):
    """The features of a latent to a distribution over observations; arguments as `Encoder`."""

    def __init__(
        self, in_dim: int, space: Space, config: WorldModelConfig, *, rngs: nnx.Rngs
    ) -> None:
        self.space = space
        images, width = split(space)
        self.images = nnx.Dict(
            {
                name: ImageDecoder(in_dim, s.shape[0], s.shape[2], config.cnn_depth, rngs=rngs)
                for name, s in images.items()
            }
        )
        layers, units = config.mlp_layers, config.mlp_units
        self.vectors = MLP(in_dim, layers, units, width, rngs=rngs) if width else None

    def __call__(self, x: TBF) -> Decoded:
        """Maps features `(*B, in_dim)`."""
        outputs, at = {}, 0
        vectors = None if self.vectors is None else self.vectors(x)
        for name, space in leaves(self.space).items():
            if name in self.images:
                outputs[name] = self.images[name](x)
            elif vectors is not None:
                size = feature_size(space)
                outputs[name] = jax.lax.slice_in_dim(vectors, at, at + size, axis=-1)
                at += size
        return Decoded(self.space, outputs)


# ------------------------------------------------------------------------------ leaves


def _groups(space: Discrete | MultiDiscrete, x: Array) -> list[Array]:
    """One-hots or logits `(*B, F)` side by side, as arrays with the classes last."""
    sizes = (space.n,) if isinstance(space, Discrete) else space.nvec
    if len(set(sizes)) == 1:
        return [x.reshape(*x.shape[:-1], len(sizes), sizes[0])]
    splits = [int(n) for n in np.cumsum(sizes)[:-1]]
    return [part[..., None, :] for part in jnp.split(x, splits, axis=-1)]


def _loss(space: Any, output: Array, target: Array) -> TB:
    if isinstance(space, Box):
        image = is_image(space)
        wanted = centred(space, target) if image else symlog(flatten(space, target))
        return jnp.sum(jnp.square(output - wanted), axis=(-3, -2, -1) if image else -1)
    logits, one_hots = _groups(space, output), _groups(space, flatten(space, target))
    pairs = zip(logits, one_hots, strict=True)
    nats = [jnp.sum(jax.nn.log_softmax(part) * x, axis=(-2, -1)) for part, x in pairs]
    return -sum(nats[1:], nats[0])


def _most_likely(space: Any, output: Array) -> Array:
    if not isinstance(space, Box):
        each = [jnp.argmax(part, axis=-1) for part in _groups(space, output)]
        index = jnp.concatenate(each, axis=-1).astype(space.dtype)
        return index[..., 0] if isinstance(space, Discrete) else index
    if is_image(space):
        low, high = bounds(space)
        x = jnp.clip((output + 0.5) * (high - low) + low, low, high)
    else:
        x = symexp(output).reshape(*output.shape[:-1], *space.shape)
        x = jnp.clip(x, space.low, space.high)
    return (x if jnp.issubdtype(space.dtype, jnp.floating) else jnp.round(x)).astype(space.dtype)
