"""How much of its state a memory uses: effective rank, half-lives, Hankel singular values."""

from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.diagnostics.trajectories import batch_of, read, state_size, states
from ssmrl.memory.spec import Memory
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
    steps, batch = u.shape[0], batch_of(u)
    carry = mem.init_carry(batch)
    leaves, tree = jax.tree.flatten(carry)
    smooth = [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.inexact)]
    if not smooth:
        return np.zeros(0)

    @jax.jit
    def disturbed(params: PyTree, u: TBF, reset: TB | None, chosen: Array) -> list[Array]:
        """`(T + 1, entries)` size of the disturbance of each leaf, itself alone disturbed."""
        prepared = mem.prepare(params)

        def step(now: tuple[list[Array], list[Array]], inputs: PyTree) -> tuple[PyTree, PyTree]:
            def advance(floats: list[Array]) -> tuple[list[Array], list[Array]]:
                whole = list(now[0])
                for i, x in zip(smooth, floats, strict=True):
                    whole[i] = x
                after = jax.tree.leaves(
                    mem.step(prepared, jax.tree.unflatten(tree, whole), *inputs)[0]
                )
                return [after[i] for i in smooth], after

            floats = [now[0][i] for i in smooth]
            _, moved, after = jax.jvp(advance, (floats,), (now[1],), has_aux=True)
            return (after, moved), sizes(moved)

        def sizes(moved: list[Array]) -> list[Array]:
            return [jnp.mean(jnp.abs(d), axis=tuple(range(len(batch)))).reshape(-1) for d in moved]

        first = [
            jnp.full_like(leaves[i], 1) * (chosen == n).astype(leaves[i].dtype)
            for n, i in enumerate(smooth)
        ]
        _, later = jax.lax.scan(step, (leaves, first), (u, reset))
        return [jnp.concatenate([s[None], l]) for s, l in zip(sizes(first), later, strict=True)]

    lives = []
    for n in range(len(smooth)):
        size = np.asarray(disturbed(params, u, reset, jnp.int32(n))[n], np.float64)
        seen = np.cumprod(size > 1e-4 * size[0], axis=0)  # below, rounding takes over
        last = np.minimum(seen.sum(axis=0) - 1, steps)
        end = size[last, np.arange(size.shape[1])]
        with np.errstate(divide="ignore"):
            rate = np.log(size[0] / np.minimum(end, size[0])) / np.maximum(last, 1)
            lives.append(np.where(last > 0, np.log(2) / rate, 0.0))
    return np.concatenate(lives)


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
        steps: length of the response, at least 3; what a slower
            memory does after it is not seen.

    Returns:
        float64, `(min(in_dim, out_dim) * (steps // 2),)`.

    Raises:
        UsageError: the memory is not linear, or not time-invariant.
    """
    response = impulse_response(mem, params, in_dim=in_dim, steps=steps)
    half = steps // 2
    index = 1 + np.arange(half)[:, None] + np.arange(steps - half - 1)[None]
    blocks = response[index]  # (i, j, H, F)
    rows, columns, out, into = blocks.shape
    hankel = blocks.transpose(0, 2, 1, 3).reshape(rows * out, columns * into)
    return np.linalg.svd(hankel, compute_uv=False)


def impulse_response(mem: Memory, params: PyTree, *, in_dim: int, steps: int = 64) -> np.ndarray:
    """K_k, `(steps, out_dim, in_dim)` float64: the output k steps after a unit input.

    Raises:
        UsageError: the memory is not linear, or not time-invariant.
    """
    if steps < 3:
        raise UsageError(f"an impulse response needs at least 3 steps, got {steps}")
    impulses = jnp.zeros((steps, in_dim, in_dim)).at[0].set(jnp.eye(in_dim))
    random = jax.random.normal(jax.random.key(0), (steps, 1, in_dim))
    y = np.asarray(
        read(mem, params, jnp.concatenate([impulses, random, jnp.zeros_like(random)], axis=1)),
        np.float64,
    )
    response = (y[:, :in_dim] - y[:, -1:]).transpose(0, 2, 1)
    u = np.asarray(random[:, 0], np.float64)
    predicted = y[:, -1].copy()
    for k in range(steps):
        predicted[k:] += u[: steps - k] @ response[k].T
    if np.max(np.abs(predicted - y[:, -2])) > 1e-3 * max(1.0, np.max(np.abs(y[:, -2]))):
        raise UsageError(
            f"{type(mem).__name__} is not linear and time-invariant: its response to a random "
            "input is not the sum of its responses to impulses. Pass the bare cell, e.g. "
            "ssmrl.memory.S5(...)"
        )
    return response


def _rank(variances: np.ndarray) -> float:
    variances = np.maximum(variances, 0)
    if not variances.sum():
        return 0.0
    p = variances / variances.sum()
    return float(np.exp(-np.sum(p * np.log(np.maximum(p, 1e-300)))))
