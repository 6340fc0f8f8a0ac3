"""How much of its state a memory uses: effective rank, half-lives, Hankel singular values."""

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.diagnostics.trajectories import batch_of, state_size, states
from ssmrl.memory.spec import Memory
from ssmrl.memory.tools.kernel import kernel
from ssmrl.shapes import TB, TBF, Array, PyTree


class Utilisation(NamedTuple):
    """Attributes:
    effective_rank: exp of the entropy of the spectrum of the states' covariance, 0 to
        `state_size` (Roy and Vetterli 2007, on variances).
    state_size: real numbers in the state.
    dead: entries of the state that never move.
    half_lives: (entries,) steps, see `half_lives`.
    """

    effective_rank: float
    state_size: int
    dead: int
    half_lives: np.ndarray


def utilisation(mem: Memory, params: PyTree, u: TBF, reset: TB | None = None) -> Utilisation:
    """What the states do on given inputs, e.g. those of a trained policy.

    Args:
        mem: the memory.
        params: its parameters.
        u: `(T, B, F)`.
        reset: `(T, B)` bool, or None.
    """
    x = np.asarray(states(mem, params, u, reset)[0], np.float64)
    x = x.reshape(prod(x.shape[:-1]), x.shape[-1])
    spread = x.std(axis=0)
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(x.T))) if x.shape[1] else np.zeros(1)
    lives = half_lives(mem, params, u, reset)
    return Utilisation(_rank(variances), state_size(mem), int(np.sum(spread < 1e-9)), lives)


def half_lives(mem: Memory, params: PyTree, u: TBF, reset: TB | None = None) -> np.ndarray:
    """Steps in which each entry of the state loses half of a small disturbance.

    Measured from the derivative of the state by itself, carried along the sequence: exact for
    diagonal memories, an average over the inputs where decay depends on them, and for dense
    ones that of the entries as they are. A complex entry counts once. 0 where the disturbance
    is gone at once, inf where it does not decay.

    Args:
        mem: the memory.
        params: its parameters.
        u: `(T, B, F)`.
        reset: `(T, B)` bool, or None; resets count as decay.

    Returns:
        float64, `(entries,)`: all leaves of the carry, flattened, in their order.
    """
    steps = u.shape[0]
    smooth = _smooth(jax.eval_shape(mem.init_carry))
    lives = [np.zeros(0)]
    for n in range(len(smooth)):
        size = np.asarray(_disturbance(mem, params, u, reset, jnp.int32(n))[n], np.float64)
        seen = np.cumprod(size > 1e-4 * size[0], axis=0)  # below, rounding takes over
        last = np.minimum(seen.sum(axis=0) - 1, steps)
        end = size[last, np.arange(size.shape[1])]
        with np.errstate(divide="ignore"):
            rate = np.log(size[0] / np.minimum(end, size[0])) / np.maximum(last, 1)
            lives.append(np.where(last > 0, np.log(2) / rate, 0.0))
    return np.concatenate(lives)


def _smooth(carry: PyTree) -> list[int]:
    """Which leaves of a carry can be disturbed: those that are no counters."""
    leaves = jax.tree.leaves(carry)
    return [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.inexact)]


@partial(jax.jit, static_argnums=0)
def _disturbance(
    mem: Memory, params: PyTree, u: TBF, reset: TB | None, chosen: Array
) -> list[Array]:
    """Sizes `(T + 1, entries)` of a disturbance in each smooth leaf; at first in one alone.

    That one is number `chosen` of the smooth leaves, all its entries moved by 1.
    """
    batch = batch_of(u)
    leaves, tree = jax.tree.flatten(mem.init_carry(batch))
    smooth, prepared = _smooth(leaves), mem.prepare(params)

    def sizes(moved: list[Array]) -> list[Array]:
        return [jnp.mean(jnp.abs(d), axis=tuple(range(len(batch)))).reshape(-1) for d in moved]

    def step(now: tuple[list[Array], list[Array]], inputs: PyTree) -> tuple[PyTree, PyTree]:
        def advance(floats: list[Array]) -> tuple[list[Array], list[Array]]:
            whole = list(now[0])
            for i, x in zip(smooth, floats, strict=True):
                whole[i] = x
            carry = mem.step(prepared, jax.tree.unflatten(tree, whole), *inputs)[0]
            after = jax.tree.leaves(carry)
            return [after[i] for i in smooth], after

        floats = [now[0][i] for i in smooth]
        _, moved, after = jax.jvp(advance, (floats,), (now[1],), has_aux=True)
        return (after, moved), sizes(moved)

    first = [
        jnp.full_like(leaves[i], 1) * (chosen == n).astype(leaves[i].dtype)
        for n, i in enumerate(smooth)
    ]
    _, later = jax.lax.scan(step, (leaves, first), (u, reset))
    return [jnp.concatenate([s[None], l]) for s, l in zip(sizes(first), later, strict=True)]


def hankel_singular_values(
    mem: Memory, params: PyTree, *, in_dim: int, steps: int = 64
) -> np.ndarray:
    """Singular values of the Hankel operator of a linear time-invariant memory, largest first.

    From its impulse response K_1 ... K_(steps - 1), the matrix of whose K_(i+j+1) maps past
    inputs to later outputs; their number is the order of the smallest equal memory, and the
    error of any of order d at least the (d+1)-th (Adamyan, Arov and Krein 1971).

    Args:
        mem: the bare cell: a block's norm and gates are not linear.
        params: its parameters.
        in_dim: width of the input.
        steps: length of the response, at least 3; what a slower memory does after it is not
            seen.

    Returns:
        float64, `(min(in_dim, out_dim) * (steps // 2),)`.

    Raises:
        UsageError: too few steps, or the memory has no `tools.kernel`.
    """
    if steps < 3:
        raise UsageError(f"Hankel singular values need at least 3 steps, got {steps}")
    response = np.asarray(kernel(mem, params, in_dim, steps), np.float64)
    half = steps // 2
    index = 1 + np.arange(half)[:, None] + np.arange(steps - half - 1)[None]
    blocks = response[index]  # (i, j, H, F)
    rows, columns, out, into = blocks.shape
    hankel = blocks.transpose(0, 2, 1, 3).reshape(rows * out, columns * into)
    return np.linalg.svd(hankel, compute_uv=False)


def _rank(variances: np.ndarray) -> float:
    variances = np.maximum(variances, 0)
    if not variances.sum():
        return 0.0
    p = variances / variances.sum()
    return float(np.exp(-np.sum(p * np.log(np.maximum(p, 1e-300)))))
