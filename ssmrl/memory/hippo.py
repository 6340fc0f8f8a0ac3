"""HiPPO matrices, the eigenvalues that diagonal memories start from, and dense discretisation.

Computed once in float64 numpy when parameters are made or constants prepared, never traced.
An operator is the pair `(A, B)`, `(n, n)` and `(n,)`, of `dx/dt = A x + B u`. Those of a
window are scaled to a window of length 1: divide both by the window for another one.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from ssmrl.errors import UsageError


class Operator(NamedTuple):
    """`dx/dt = a x + b u`: a `(n, n)`, b `(n,)`, float64."""

    a: np.ndarray
    b: np.ndarray


def legs(n: int) -> np.ndarray:
    """HiPPO-LegS (Gu et al. 2020, theorem 2): `(n, n)` float64, eigenvalues -1, ..., -n."""
    p = np.sqrt(2 * np.arange(n) + 1.0)
    return -np.tril(np.outer(p, p), -1) - np.diag(np.arange(1.0, n + 1))


def legs_normal(n: int) -> np.ndarray:
    """The normal part of `legs`: its rank-one correction added, `(n, n)` float64.

    With q = sqrt(k + 1/2), `legs(n) + q q^T` is a skew-symmetric matrix minus one half of
    the identity (S4, Gu et al. 2022, appendix C.3), so unitary matrices diagonalise it.
    """
    q = np.sqrt(np.arange(n) + 0.5)
    return legs(n) + np.outer(q, q)


def legs_input(n: int) -> np.ndarray:
    """The input vector that belongs to `legs`: sqrt(2k + 1), `(n,)` float64."""
    return np.sqrt(2 * np.arange(n) + 1.0)


def legt(n: int) -> Operator:
    """HiPPO-LegT: Legendre coefficients of the last window (Gu et al. 2020, theorem 1).

    The code of its authors halves both, which is a window of length 2.
    """
    p = np.sqrt(2 * np.arange(n) + 1.0)
    sign = np.where(np.tri(n, dtype=bool), 1.0, (-1.0) ** np.subtract.outer(*[np.arange(n)] * 2))
    return Operator(-np.outer(p, p) * sign, p)


def fout(n: int) -> Operator:
    """HiPPO-FouT: Fourier coefficients of the last window (Gu et al. 2023, section 3.2).

    The last value of the window, which would leave it, is taken from its Fourier series: at
    the jump between the ends that is their mean.

    Raises:
        UsageError: n is odd.
    """
    if n % 2:
        raise UsageError(f"FouT pairs sines with cosines, so state must be even; got {n}")
    b = np.where(np.arange(n) % 2, 0.0, np.sqrt(2))
    b[0] = 1
    skew = np.kron(np.diag(2 * np.pi * np.arange(n // 2)), [[0.0, -1.0], [1.0, 0.0]])
    return Operator(skew - 2 * np.outer(b, b), 2 * b)


def lmu(n: int) -> Operator:
    """The Legendre memory unit (Voelker et al. 2019, equation 2): LegT unnormalised and mirrored.

    State i times `P_i(2 d - 1)`, summed, is the input d windows ago.
    """
    i = np.arange(n)
    sign = np.where(i[:, None] < i[None], -1.0, (-1.0) ** (i[:, None] - i[None] + 1))
    return Operator((2 * i[:, None] + 1) * sign, (2 * i + 1) * (-1.0) ** i)


WINDOWS: dict[str, Callable[[int], Operator]] = {"legt": legt, "fout": fout, "lmu": lmu}
"""Operators that remember a window of fixed length."""


def expm(a: np.ndarray) -> np.ndarray:
    """exp of each matrix of `(..., n, n)`: Taylor's series after halving, squared again."""
    norm = np.max(np.sum(np.abs(a), axis=-1), initial=1e-300)
    halvings = max(0, int(np.ceil(np.log2(norm))) + 2)
    a = a / 2.0**halvings
    total = term = np.broadcast_to(np.eye(a.shape[-1]), a.shape)
    for k in range(1, 15):
        term = term @ a / k
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total


def zoh(operator: Operator, delta: float) -> Operator:
    """One step of length delta for input held constant in it: exp of `[[A, B], [0, 0]]`."""
    n = len(operator.b)
    whole = np.zeros((n + 1, n + 1))
    whole[:n, :n], whole[:n, n] = operator
    step = expm(whole * delta)
    return Operator(step[:n, :n], step[:n, n])


def check_blocks(n: int, blocks: int) -> None:
    """Refuses a size that does not split into blocks of conjugate pairs.

    Raises:
        UsageError: see above.
    """
    if blocks < 1 or n < 2 or n % (2 * blocks):
        raise UsageError(f"state={n} must be a multiple of 2 * blocks={2 * blocks}")


@cache
def windowed_steps(measure: str, n: int, window: int) -> Operator:
    """`zoh` of an operator of `WINDOWS` whose window is `window` steps long."""
    return zoh(WINDOWS[measure](n), 1 / window)


@cache
def legs_steps(n: int, longest: int) -> Operator:
    """`dx/dt = (A x + B u) / t`, the time-varying LegS, from step t to t + 1 for t < longest.

    Exact for input held constant within a step: in the time log t the system does not vary, so
    `A_t = exp(A log((t + 1) / t))`. The first step takes x to (u, 0, 0, ...), whatever it was.

    Returns:
        a `(longest, n, n)` and b `(longest, n)`; row t takes the state after t inputs further.
    """
    t = np.arange(1.0, longest)
    lengths = np.log1p(1 / t)[:, None, None]
    a = legs(n)
    # groups of similar length, for each as many squarings as it needs
    parts = [expm(a * part) for part in np.array_split(lengths, [1, 3, 10, 30, 100, 300])]
    steps = np.concatenate([np.zeros((1, n, n)), *parts])
    held = np.linalg.solve(a, (steps - np.eye(n)) @ legs_input(n)[:, None])[..., 0]
    held[0] = np.eye(n)[0]
    return Operator(steps, held)


def diagonalised(n: int, blocks: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors that S5 starts from (Smith et al. 2023, appendix B.1.1).

    The normal part of LegS of size n / blocks is diagonalised, the half of its conjugate
    pairs with negative imaginary part kept, and the result repeated for every block.

    Returns:
        lam: `(n // 2,)` complex128, real part -1/2, most negative imaginary part first in
            each block.
        v: `(n, n // 2)` complex128, block diagonal; the columns are orthonormal.
    """
    check_blocks(n, blocks)
    size = n // blocks
    normal = legs_normal(size)
    imaginary, vectors = np.linalg.eigh(-1j * normal)
    half = size // 2
    lam = np.mean(np.diag(normal)) + 1j * imaginary[:half]
    v = np.kron(np.eye(blocks), vectors[:, :half])
    return np.tile(lam, blocks), v
