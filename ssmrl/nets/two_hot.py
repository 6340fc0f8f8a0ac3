"""Scalars of any size as classification: bins in symlog space (Hafner et al. 2023, section 3)."""

import jax
import jax.numpy as jnp

from ssmrl.shapes import Array, B


def symlog(x: Array) -> Array:
    """`sign(x) log(1 + |x|)`: the identity near 0, logarithmic far from it."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


class TwoHot:
    """A distribution over scalars: bins spaced evenly in symlog space.

    The expectation is taken there too, as in the first version of DreamerV3. Spread the bins
    no wider than the targets ask for: rewards smaller than a bin move the mean between two
    bins only, and give a weak gradient.

    Args:
        logits: `(*B, bins)`.
        limit: the outermost bins lie at `-limit` and `limit` in symlog space; values beyond
            count as these.
    """

    def __init__(self, logits: Array, limit: float) -> None:
        self.logits, self.limit = logits, limit

    @property
    def bins(self) -> Array:
        """Places of the bins in symlog space, `(1, ..., bins)`."""
        n = self.logits.shape[-1]
        places = jnp.linspace(-self.limit, self.limit, n, dtype=jnp.float32)
        return places.reshape((1,) * (self.logits.ndim - 1) + (n,))

    def mean(self) -> B:
        """`symexp` of the expected bin, `(*B,)`."""
        return symexp(jnp.sum(jax.nn.softmax(self.logits) * self.bins, axis=-1))

    def log_prob(self, value: B) -> B:
        """Minus the cross entropy with `value` split between its two nearest bins."""
        place = jnp.clip(symlog(value), -self.limit, self.limit)[..., None]
        spacing = 2 * self.limit / (self.logits.shape[-1] - 1)
        weight = jnp.maximum(1 - jnp.abs(self.bins - place) / spacing, 0)  # no gather: slow on CPU
        log_normaliser = jax.nn.logsumexp(self.logits, axis=-1)
        return jnp.sum(weight * self.logits, axis=-1) - log_normaliser
