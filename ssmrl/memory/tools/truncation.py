"""Balanced truncation: the same memory with the states that matter least left out (Moore 1981)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.cells.lru import LRU
from ssmrl.memory.reparam import pair
from ssmrl.memory.spec import LinearMemory, Reading
from ssmrl.memory.tools.kernel import kernel
from ssmrl.shapes import Array, PyTree


class Realisation(NamedTuple):
    """`x[t] = a x[t-1] + b u[t]`, `y[t] = c x[t] + d u[t]`; float64 numpy.

    a `(P, P)`, b `(P, F)`, c `(H, P)`, d `(H, F)`; the kernel is `c a^k b`, plus d at k = 0.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray

    def kernel(self, steps: int) -> np.ndarray:
        """`(steps, H, F)`, the impulse response."""
        x, response = self.b, [self.c @ self.b + self.d]
        for _ in range(steps - 1):
            x = self.a @ x
            response.append(self.c @ x)
        return np.stack(response)


class Truncation(NamedTuple):
    """Attributes:
    system: the memory of lower order.
    singular_values: Hankel singular values of the memory it came from, largest first.
    bound: twice the sum of those left out; at no frequency do the two differ by more.
    """

    system: Realisation
    singular_values: np.ndarray
    bound: float


def realisation(mem: LinearMemory, params: PyTree, in_dim: int) -> Realisation:
    """The matrices of a memory, with a complex state as two real ones.

    P is the number of reals in the carry: for memories with a state in every channel these
    are large matrices.

    Raises:
        UsageError: the memory is not linear and time-invariant.
    """
    kernel(mem, params, in_dim, 2)  # which checks that there is one
    if not isinstance(mem, LinearMemory):
        raise UsageError(f"{type(mem).__name__} is no LinearMemory, so its readout is not known")
    constants = mem.prepare(params).constants
    carry = mem.init_carry()
    parts = 2 if jnp.iscomplexobj(carry) else 1
    size = parts * carry.size

    def state(x: Array) -> Array:
        z = x.reshape(parts, *carry.shape)
        return jax.lax.complex(z[0], z[1]) if parts == 2 else z[0]

    def real(z: Array) -> Array:
        return (pair(z) if parts == 2 else z).reshape(-1)

    def write(x: Array, u: Array) -> Array:
        return real(mem.read(constants, state(x), u[None], Reading())[0])

    def readout(x: Array, u: Array) -> Array:
        return mem.readout(constants, state(x)[None], u[None])[0]

    zeros = jnp.zeros(size), jnp.zeros(in_dim)
    with jax.numpy_dtype_promotion("standard"):
        matrices = jax.jit(
            lambda: (*jax.jacfwd(write, (0, 1))(*zeros), *jax.jacfwd(readout, (0, 1))(*zeros))
        )()
    return Realisation(*(np.asarray(m, np.float64) for m in matrices))


def balanced_truncation(system: Realisation, order: int) -> Truncation:
    """The `order` states that inputs reach and outputs see best, jointly.

    In the coordinates where both Gramians are the same diagonal matrix, that of the Hankel
    singular values, the smallest are left out (Moore 1981; the bound on the error: Enns 1984,
    Glover 1984; in discrete time Al-Saggaf and Franklin 1987).

    Raises:
        UsageError: the order is not in [1, P], or the system is unstable.
    """
    if not 1 <= order <= len(system.a):
        raise UsageError(f"order must be in [1, {len(system.a)}], got {order}")
    reached = _factor(_gramian(system.a, system.b @ system.b.T))
    seen = _factor(_gramian(system.a.T, system.c.T @ system.c))
    left, sigma, right = np.linalg.svd(seen.T @ reached)
    if sigma[order - 1] <= 1e-12 * sigma[0]:
        raise UsageError(
            f"only {np.sum(sigma > 1e-12 * sigma[0])} states are reached and seen: "
            f"take an order of at most that, not {order}"
        )
    scale = 1 / np.sqrt(sigma[:order])
    into = scale[:, None] * left[:, :order].T @ seen.T
    back = reached @ right[:order].T * scale
    reduced = Realisation(into @ system.a @ back, into @ system.b, system.c @ back, system.d)
    return Truncation(reduced, sigma, 2 * float(np.sum(sigma[order:])))


def _gramian(a: np.ndarray, q: np.ndarray) -> np.ndarray:
    """`sum_k a^k q a^kT`, doubling the number of terms until nothing is added."""
    for _ in range(48):
        more = a @ q @ a.T
        q = q + more
        a = a @ a
        if not np.all(np.isfinite(q)):
            break
        if np.max(np.abs(more)) <= 1e-16 * np.max(np.abs(q)):
            return q
    raise UsageError("the system is unstable or does not forget: it has no Gramian")


def _factor(gramian: np.ndarray) -> np.ndarray:
    """l with `l l^T = gramian`."""
    values, vectors = np.linalg.eigh((gramian + gramian.T) / 2)
    return vectors * np.sqrt(np.maximum(values, 0))


def as_lru(system: Realisation) -> tuple[LRU, PyTree]:
    """A system as a memory: an `LRU` of its eigenvalues, and parameters; float32.

    Of each conjugate pair one mode is kept, with twice its readout.

    Raises:
        UsageError: the system is unstable, its d is not diagonal, or its eigenvectors are
            nearly dependent.
    """
    if system.d.shape[0] != system.d.shape[1] or np.any(system.d - np.diag(np.diag(system.d))):
        raise UsageError("an LRU feeds each input through to its own output: d must be diagonal")
    lam, v = np.linalg.eig(system.a)
    if np.max(np.abs(lam)) >= 1 or np.linalg.cond(v) > 1e7:
        raise UsageError(
            f"no LRU: eigenvalues up to {np.max(np.abs(lam)):.6g} must lie within the unit disc, "
            f"and eigenvectors be independent (their condition number is {np.linalg.cond(v):.2g})"
        )
    kept = lam.imag >= 0
    b, c = np.linalg.solve(v, system.b.astype(complex))[kept], (system.c @ v)[:, kept]
    lam = lam[kept]
    size = np.linalg.norm(b, axis=1, keepdims=True)  # goes to gamma
    size = np.where(size, size, 1)
    params = {
        "nu": jnp.asarray(np.log(-np.log(np.maximum(np.abs(lam), 1e-30))), jnp.float32),
        "log_theta": jnp.asarray(np.log(np.maximum(np.angle(lam), 1e-12)), jnp.float32),
        "log_gamma": jnp.asarray(np.log(size[:, 0]), jnp.float32),
        "B": pair(b / size),
        "C": pair(c * np.where(lam.imag > 0, 2.0, 1.0)),
        "D": jnp.asarray(np.diag(system.d), jnp.float32),
    }
    return LRU(features=len(system.d), state=len(lam)), params
