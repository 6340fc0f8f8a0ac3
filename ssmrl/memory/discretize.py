"""From continuous time, `dx/dt = lam x + B u`, to steps of length delta, for diagonal lam.

Each method returns `(lam_bar, gain)` with `x[t] = lam_bar x[t-1] + gain (B u[t])`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.shapes import Array, Key


def phi(z: Array) -> Array:
    """`(exp(z) - 1) / z`, exact and with finite gradient at z = 0; complex or real."""
    small = jnp.abs(z) < 1e-3
    safe = jnp.where(small, jnp.ones_like(z), z)
    return jnp.where(small, 1 + z / 2 + z * z / 6, jnp.expm1(safe) / safe)


def zoh(lam: Array, delta: Array) -> tuple[Array, Array]:
    """Zero-order hold: exact for inputs constant within a step (S5, section 2.2)."""
    z = lam * delta
    return jnp.exp(z), delta * phi(z)


def bilinear(lam: Array, delta: Array) -> tuple[Array, Array]:
    """Tustin's method: maps the left half plane into the unit disc (S4, section 2.3)."""
    z = lam * delta / 2
    return (1 + z) / (1 - z), delta / (1 - z)


def euler(lam: Array, delta: Array) -> tuple[Array, Array]:
    """Exact decay, the input times the length of the step (Mamba, Gu and Dao 2023, section 3)."""
    return jnp.exp(lam * delta), delta


def dirac(lam: Array, delta: Array) -> tuple[Array, Array]:
    """Inputs as impulses at the end of each step: exact decay, the input as it is."""
    return jnp.exp(lam * delta), jnp.ones_like(delta)


METHODS: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "zoh": zoh,
    "bilinear": bilinear,
    "euler": euler,
    "dirac": dirac,
}


def log_steps(key: Key, shape: tuple[int, ...], dt_min: float, dt_max: float) -> Array:
    """Logarithms of initial step lengths, uniform between those of dt_min and dt_max, float32."""
    return jax.random.uniform(key, shape, jnp.float32, np.log(dt_min), np.log(dt_max))
