"""A long convolution as a memory with constant cost per step (Massaroli et al. 2023)."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.cells.s4d import S4D
from ssmrl.memory.reparam import RATES, pair
from ssmrl.shapes import Array, PyTree


class Distilled(NamedTuple):
    """Attributes:
    memory: `S4D` of as many channels as the kernel has.
    params: its parameters.
    singular_values: `(H, ...)` of the Hankel matrix of every channel, largest first; no memory
        of order d comes closer to the kernel than the (d + 1)-th.
    error: `(H,)` largest difference between the kernels.
    """

    memory: S4D
    params: PyTree
    singular_values: np.ndarray
    error: np.ndarray


def distil(kernel: Array | np.ndarray, order: int) -> Distilled:
    """Fits `K_k = Re(sum of c lam^k)` to the kernel of every channel, e.g. of Hyena or SGConv.

    "Laughing Hyena Distillery" (Massaroli et al. 2023, section 3) fits by gradient; here in
    closed form: the poles by ESPRIT (Roy and Kailath 1989: the column space of the Hankel
    matrix, shifted by one row, is itself times a matrix with the poles for eigenvalues), their
    weights by least squares. Exact where the kernel is a sum of `order` exponentials.

    Args:
        kernel: `(L, H)`, L at least `2 * order + 2`. The first entry is free: it becomes D.
        order: poles of every channel; a conjugate pair is two.

    Raises:
        UsageError: the shape does not allow this order.
    """
    k = np.asarray(kernel, np.float64)
    if k.ndim != 2 or order < 1 or len(k) < 2 * order + 2:
        raise UsageError(
            f"distil needs a kernel (L, H) with L >= 2 * order + 2 = {2 * order + 2}; got {k.shape}"
        )
    poles, sigma = zip(*(_poles(channel[1:], order) for channel in k.T), strict=True)
    width = max(len(p) for p in poles)
    lam = np.stack([np.pad(p, (0, width - len(p)), constant_values=0.5) for p in poles])
    c, d = np.zeros(lam.shape, complex), np.zeros(len(poles))
    fitted = np.zeros_like(k)
    for h, p in enumerate(poles):
        c[h, : len(p)], d[h], fitted[:, h] = _weights(p, k[:, h])
    memory = S4D(k.shape[1], 2 * width, dt_min=1.0, dt_max=1.0, discretization="dirac")
    rate = jnp.asarray(-np.log(np.abs(lam)), jnp.float32)
    params = {
        "lam_re": RATES[memory.reparam].inverse(rate),
        "lam_im": jnp.asarray(np.angle(lam), jnp.float32),
        "log_dt": jnp.zeros((k.shape[1], 1)),
        "B": pair(np.ones_like(lam)),
        "C": pair(c / 2),
        "D": jnp.asarray(d, jnp.float32),
    }
    return Distilled(memory, params, np.stack(sigma), np.max(np.abs(fitted - k), axis=0))


def _poles(k: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every conjugate pair the one above the real axis, within the unit disc; all sigma."""
    rows = len(k) // 2
    hankel = k[np.arange(rows)[:, None] + np.arange(len(k) - rows + 1)[None]]
    space, sigma, _ = np.linalg.svd(hankel, full_matrices=False)
    space = space[:, :order]
    lam = np.linalg.eigvals(np.linalg.lstsq(space[:-1], space[1:], rcond=None)[0]).astype(complex)
    lam = lam[lam.imag >= 0]
    return lam * np.clip(np.abs(lam), 1e-6, 1 - 1e-4) / np.maximum(np.abs(lam), 1e-30), sigma


def _weights(lam: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """c and d of least squares for `K_k = Re(sum of c lam^k) + [k = 0] d`, and that K."""
    powers = lam[None] ** np.arange(len(k))[:, None]
    design = np.concatenate([powers.real, -powers.imag, np.eye(len(k), 1)], axis=1)
    w = np.linalg.lstsq(design, k, rcond=None)[0]
    re, im, d = np.split(w, [len(lam), 2 * len(lam)])
    return re + 1j * im, float(d[0]), design @ w
