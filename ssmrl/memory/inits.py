"""Where the eigenvalues of a diagonal memory start from, by name.

Each function of `INITS` takes the real-equivalent state size n and a key, and returns the
`Modes` of an n-dimensional system `dx/dt = A x + b u` in continuous time: of n // 2
conjugate pairs of eigenvalues one each. Outputs are `2 Re(C x)`. With a step length of 1 the
system is as the name says; the members multiply by step lengths drawn log-uniformly.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError, unknown
from ssmrl.memory import hippo
from ssmrl.shapes import Array, Key


class Modes(NamedTuple):
    """A diagonalised system; P = n // 2 modes.

    Attributes:
        lam: `(P,)` complex eigenvalues, real parts negative.
        left: `(P, N)` complex: what takes a real state, or a column of B, to the modes; N is n
            where one mode stands for a pair, P where the spectrum is whole (`ptd`).
        right: `(N, P)` complex: `2 Re(right @ x)` is the real state again.
        b: `(P,)` complex: the input vector of the system as modes.
    """

    lam: np.ndarray | Array
    left: np.ndarray
    right: np.ndarray
    b: np.ndarray


def modes(name: str, n: int, key: Key, blocks: int = 1) -> Modes:
    """The modes of the init `name`, of `blocks` equal systems side by side.

    Args:
        name: a key of `INITS`.
        n: real-equivalent size of all blocks together; a multiple of `2 * blocks`.
        key: for the inits that are random; blocks differ then.
        blocks: number of systems.

    Raises:
        UsageError: unknown name, or a size that does not divide.
    """
    if name not in INITS:
        raise unknown("init of eigenvalues", name, INITS)
    hippo.check_blocks(n, blocks)
    parts = [INITS[name](n // blocks, k) for k in jax.random.split(key, blocks)]
    return parts[0] if blocks == 1 else _side_by_side(parts)


def legs(n: int, key: Key | None = None) -> Modes:
    """The normal part of HiPPO-LegS, slowest mode first (S4D-LegS, Gu et al. 2022, section 4.1).

    b is that of LegS undivided, as in the authors' code; their theorem 3 has half of it.
    """
    lam, v = hippo.diagonalised(n)
    lam, v = lam.conj()[::-1], v.conj()[:, ::-1]
    return Modes(lam, v.conj().T, v, v.conj().T @ hippo.legs_input(n))


def legs_half(n: int, key: Key | None = None) -> Modes:
    """`legs` in the order of S5: negative imaginary parts, the fastest first."""
    lam, v = hippo.diagonalised(n)
    return Modes(lam, v.conj().T, v, v.conj().T @ hippo.legs_input(n))


def _rotations(lam: np.ndarray | Array) -> Modes:
    """The system of one damped rotation of the plane for each eigenvalue, b of ones."""
    v = np.kron(np.eye(lam.shape[0]), np.array([[1.0], [-1j]]) / np.sqrt(2))
    return Modes(lam, v.conj().T, v, np.ones(lam.shape[0], complex))


def lin(n: int, key: Key | None = None) -> Modes:
    """S4D-Lin: `-1/2 + i pi k` (Gu et al. 2022, "On the parameterization", section 4.3)."""
    return _rotations(-0.5 + 1j * np.pi * np.arange(n // 2))


def inv(n: int, key: Key | None = None) -> Modes:
    """S4D-Inv: `-1/2 + i (n / pi) (n / (2 k + 1) - 1)` (ibid.), close to `legs`.

    n is the full size, k counts the n // 2 modes.
    """
    k = np.arange(n // 2)
    return _rotations(-0.5 + 1j * n / np.pi * (n / (2 * k + 1) - 1))


def inv2(n: int, key: Key | None = None) -> Modes:
    """`-1/2 + i (n / pi) (n / (k + 1) - 1)`, the S4 code's second form of `inv`."""
    k = np.arange(n // 2)
    return _rotations(-0.5 + 1j * n / np.pi * (n / (k + 1) - 1))


def quad(n: int, key: Key | None = None) -> Modes:
    """`-1/2 + i (1 + 2 k)^2 / pi` (ibid., ablations)."""
    return _rotations(-0.5 + 1j * (1 + 2 * np.arange(n // 2)) ** 2 / np.pi)


def real(n: int, key: Key | None = None) -> Modes:
    """S4D-Real: `-(k + 1)` (ibid.), the decays of LegS without its oscillations."""
    return _rotations(-(np.arange(n // 2) + 1.0) + 0j)


def rand(n: int, key: Key) -> Modes:
    """`-1/2 + i exp(N(0, 1))`, drawn from `key` (ibid.)."""
    frequency = jnp.exp(jax.random.normal(key, (n // 2,)))
    return _rotations(jax.lax.complex(jnp.full_like(frequency, -0.5), frequency))


def fout_diag(n: int, key: Key | None = None) -> Modes:
    """S4D-FouD: `-1/2 + 2 pi i k` (Gu et al. 2023, section 3.2): a damped Fourier basis."""
    found = _rotations(-0.5 + 2j * np.pi * np.arange(n // 2))
    return found._replace(b=np.where(np.arange(n // 2), np.sqrt(2), 1.0) + 0j)


def identity(n: int, key: Key | None = None) -> Modes:
    """All eigenvalues -1: leaky integrators, which differ by their step lengths alone."""
    return _rotations(np.full(n // 2, -1.0 + 0j))


def ring(
    n: int,
    key: Key,
    *,
    r_min: float = 0.4,
    r_max: float = 0.99,
    max_phase: float = 2 * np.pi,
) -> Modes:
    """Logarithms of points uniform in area on a ring (LRU, Orvieto et al. 2023, lemma 3.2).

    For a step length of 1 (`dt_min=dt_max=1`) `r_min <= |lam_bar| <= r_max` and phases lie in
    [0, max_phase); shorter steps slow all modes down.
    """
    key_r, key_phase = jax.random.split(key)
    area = jax.random.uniform(key_r, (n // 2,), jnp.float32, r_min**2, r_max**2)
    phase = jax.random.uniform(key_phase, (n // 2,), jnp.float32, 0.0, max_phase)
    return _rotations(jax.lax.complex(jnp.log(area) / 2, phase))


def hippo_mix(n: int, key: Key | None = None) -> Modes:
    """One half of the modes `legs`, the other `fout_diag`: slow trends beside a window.

    The S4 code gives the one to half of the channels and the other to the rest; within a
    channel it also serves members that have only one state for all channels.
    """
    if n % 4:
        raise UsageError(f"the init 'hippo' splits the state in two halves of pairs; got {n}")
    return _side_by_side([legs(n // 2), fout_diag(n // 2)])


def ptd(n: int, key: Key | None = None) -> Modes:
    """Perturb, then diagonalise (S4-PTD and S5-PTD, Yu et al. 2024, section 3).

    LegS itself is diagonalised, after a perturbation of one ten thousandth of its norm that
    makes its eigenvectors usable: unlike `legs`, which drops a rank-one part, it keeps the
    transfer function. A real matrix of size n // 2 with its whole spectrum: pairs are not
    halved, so that there are n // 2 modes as everywhere. The same for every key.
    """
    if n < 4:
        raise UsageError(f"the init 'ptd' needs a state of at least 4, got {n}")
    lam, v = perturbed_legs(n // 2)
    left = np.linalg.inv(v)
    return Modes(lam, left, v / 2, left @ hippo.legs_input(n // 2))


@cache
def perturbed_legs(n: int, size: float = 1e-4, draws: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of LegS plus a real perturbation, `(n,)` and `(n, n)` complex128.

    Of `draws` Gaussian perturbations of spectral norm `size * |A|` that leave all eigenvalues
    in the left half plane, the one whose eigenvectors are conditioned best. A hundredth of
    the norm is too much: an eigenvalue turns positive.
    """
    rng, a = np.random.default_rng(0), hippo.legs(n)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for _ in range(draws):
        noise = rng.normal(size=(n, n))
        noise *= size * np.linalg.norm(a, 2) / np.linalg.norm(noise, 2)
        lam, v = np.linalg.eig(a + noise)
        condition = np.linalg.cond(v)
        if lam.real.max() < -0.1 and (best is None or condition < best[0]):
            best = condition, lam.astype(complex), v.astype(complex)
    if best is None:
        raise UsageError(f"no perturbation of LegS of size {n} by {size} of its norm is stable")
    return best[1], best[2]


def _side_by_side(parts: list[Modes]) -> Modes:
    def diagonal(matrices: list[np.ndarray]) -> np.ndarray:
        rows, columns = np.cumsum([[0, 0], *(m.shape for m in matrices)], axis=0).T
        whole = np.zeros((rows[-1], columns[-1]), complex)
        for m, i, j in zip(matrices, rows, columns, strict=False):
            whole[i : i + m.shape[0], j : j + m.shape[1]] = m
        return whole

    join = np.concatenate if isinstance(parts[0].lam, np.ndarray) else jnp.concatenate
    return Modes(
        join([p.lam for p in parts]),
        diagonal([p.left for p in parts]),
        diagonal([p.right for p in parts]),
        np.concatenate([p.b for p in parts]),
    )


INITS: dict[str, Callable[[int, Key], Modes]] = {
    "legs": legs,
    "legs_half": legs_half,
    "lin": lin,
    "inv": inv,
    "inv2": inv2,
    "quad": quad,
    "real": real,
    "rand": rand,
    "fout_diag": fout_diag,
    "hippo": hippo_mix,
    "identity": identity,
    "ptd": ptd,
    "ring": ring,
}
