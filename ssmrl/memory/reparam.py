"""What an optimiser sees in place of an eigenvalue: unbounded parameters, stable memories.

StableSSM (Wang and Li 2024, section 3.3): a memory is perturbed little by a step of its
parameters w iff |f'(w)| / f(w)^2 grows at most linearly in w, which `best` meets with
equality. `direct` can leave the stable region and is held back at its edge.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.shapes import Array

SLOWEST = 1e-4  # the smallest rate of decay: keeps |lam_bar| < 1 whatever the optimiser does


class Reparam(NamedTuple):
    """`value(w)` for a parameter w, and `inverse(value)`, elementwise and float32.

    A value is the rate of decay -Re(lam) > 0 in `RATES` and the magnitude |lam_bar| < 1 in
    `MAGNITUDES`. What a value cannot be is moved to the nearest that it can.
    """

    value: Callable[[Array], Array]
    inverse: Callable[[Array], Array]


def _log(x: Array) -> Array:
    return jnp.log(jnp.maximum(x, SLOWEST))


def _inverse_softplus(r: Array) -> Array:
    return r + jnp.log(-jnp.expm1(-jnp.maximum(r, SLOWEST)))


def _logit(p: Array) -> Array:
    p = jnp.clip(p, 1e-6, 1 - 1e-6)
    return jnp.log(p) - jnp.log1p(-p)


def best(a: float = 1.0, b: float = 0.5) -> Reparam:
    """`1 / (a w^2 + b)`: rates up to 1 / b, so with b = 1/2 a step length sets the scale."""
    return Reparam(
        lambda w: 1 / (a * w * w + b),
        lambda r: jnp.sqrt(jnp.maximum(1 / jnp.maximum(r, SLOWEST) - b, 1e-6) / a),
    )


RATES: dict[str, Reparam] = {
    "exp": Reparam(jnp.exp, _log),
    "softplus": Reparam(jax.nn.softplus, _inverse_softplus),
    "relu": Reparam(lambda w: jnp.maximum(w, 0) + SLOWEST, lambda r: r - SLOWEST),
    "sigmoid": Reparam(jax.nn.sigmoid, _logit),
    "best": best(),
    "direct": Reparam(lambda w: jnp.maximum(-w, SLOWEST), lambda r: -r),
}
"""Rates of decay of continuous time; `direct` stores the real part itself."""

MAGNITUDES: dict[str, Reparam] = {
    "exp_exp": Reparam(
        lambda w: jnp.exp(-jnp.exp(w)), lambda r: jnp.log(-jnp.log(jnp.clip(r, 1e-6, 1 - 1e-6)))
    ),
    "best_discrete": Reparam(
        lambda w: 1 - 1 / (w * w + 0.5),
        lambda r: jnp.sqrt(jnp.maximum(1 / (1 - jnp.minimum(r, 1 - 1e-6)) - 0.5, 1e-6)),
    ),
    "sigmoid": Reparam(jax.nn.sigmoid, _logit),
    "ring": Reparam(lambda w: jnp.sqrt(jax.nn.sigmoid(w)), lambda r: _logit(r * r)),
}
"""Magnitudes of discrete time. `best_discrete` lies in (-1, 1), its inverse in w >= 0; `ring`
is uniform in area where sigmoid(w) is uniform."""


def pair(z: np.ndarray | Array) -> Array:
    """Real and imaginary part of a complex array, stacked: `(2, ...)` float32.

    Parameters are kept so: gradients of complex ones are conjugated by convention, and
    optimisers take the square of a complex number for its square, not its size.
    """
    return jnp.stack([jnp.real(z), jnp.imag(z)]).astype(jnp.float32)
