"""Which window of a ring is drawn: functions from a key and window counts to window numbers.

A sampler takes `(key, n)` with n `(*N,)` int32 and returns int32 `(*N,)`, each in `0 .. n - 1`;
0 is the oldest window. Both cost the same whatever n.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import Array, Key

Sampler: TypeAlias = Callable[[Key, Array], Array]

SAMPLERS = ("uniform", "time_balanced")


def sampler(name: str, temperature: float = 0.3) -> Sampler:
    """The sampler of that name.

    Args:
        name: one of `SAMPLERS`.
        temperature: of `time_balanced`, 0 (uniform) to 1 (most weight on the newest).

    Raises:
        UsageError: unknown name, temperature out of range.
    """
    if name not in SAMPLERS:
        raise unknown("replay sampler", name, SAMPLERS)
    if not 0 <= temperature <= 1:
        raise UsageError(f"the temperature of a sampler lies in 0 to 1; got {temperature}")
    return uniform if name == "uniform" else partial(time_balanced, temperature=temperature)


def uniform(key: Key, n: Array) -> Array:
    """Every window equally likely."""
    return jax.random.randint(key, n.shape, 0, n)


def time_balanced(key: Key, n: Array, temperature: float) -> Array:
    """Newer windows more likely, so that lifetime draws differ less (Hieros, Mattes et al. 2023).

    Under uniform draws from a growing store, a window of relative age v (0 old, 1 new) has been
    drawn with density -ln v: the old ones far more often. A uniform variate u is pushed through
    the distribution function of that density, Q(u) = u (1 - ln u), and blended with itself:
    window floor(n w), w = temperature Q(u) + (1 - temperature) u. The density of draws over w
    is 1 / (1 - temperature - temperature ln u). The original scales by the store's capacity in
    place of n, which never draws the oldest windows of a store that is not full; here it is n.
    """
    u = jax.random.uniform(key, n.shape, minval=jnp.finfo(jnp.float32).tiny)
    w = temperature * u * (1 - jnp.log(u)) + (1 - temperature) * u
    return jnp.minimum((w * n.astype(jnp.float32)).astype(jnp.int32), n - 1)
