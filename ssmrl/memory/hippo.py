"""HiPPO matrices and the eigenvalues that diagonal memories start from.

Computed once in float64 numpy when parameters are made, never traced.
"""

import numpy as np

from ssmrl.errors import UsageError


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


def diagonalised(n: int, blocks: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors that S5 starts from (Smith et al. 2023, appendix B.1.1).

    The normal part of LegS of size n / blocks is diagonalised, the half of its conjugate
    pairs with negative imaginary part kept, and the result repeated for every block.

    Returns:
        lam: `(n // 2,)` complex128, real part -1/2, most negative imaginary part first in
            each block.
        v: `(n, n // 2)` complex128, block diagonal; the columns are orthonormal.

    Raises:
        UsageError: n does not split into blocks of an even size.
    """
    if blocks < 1 or n % (2 * blocks):
        raise UsageError(f"state={n} must be a multiple of 2 * blocks={2 * blocks}")
    size = n // blocks
    normal = legs_normal(size)
    imaginary, vectors = np.linalg.eigh(-1j * normal)
    half = size // 2
    lam = np.mean(np.diag(normal)) + 1j * imaginary[:half]
    v = np.kron(np.eye(blocks), vectors[:, :half])
    return np.tile(lam, blocks), v
