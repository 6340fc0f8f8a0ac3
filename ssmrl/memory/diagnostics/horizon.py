"""How far back a memory reaches: what its state tells of past inputs, how its output forgets."""

from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.diagnostics.trajectories import read, state_size, states
from ssmrl.memory.spec import Memory
from ssmrl.shapes import TBH, Key, PyTree, Scalar


class Horizon(NamedTuple):
    """What the state tells of the inputs before it.

    Attributes:
        r2: (lags,) float64, share of the variance of the input k steps ago that a linear map of
            the state explains, on held-out data; 0 to 1.
        horizon: the lags before r2 first falls below one half.
        capacity: sum of r2. For a linear memory it is at most `state_size` (Jaeger 2001,
            "Short term memory in echo state networks").
        state_size: real numbers in the state.
    """

    r2: np.ndarray
    horizon: int
    capacity: float
    state_size: int


def horizon(
    mem: Memory,
    params: PyTree,
    key: Key,
    *,
    in_dim: int,
    lags: int = 64,
    steps: int = 512,
    batch: int = 16,
    ridge: float = 1e-6,
) -> Horizon:
    """Drives the memory with random signs and decodes them from its state by ridge regression.

    All entries of the input carry the same sign, each scaled by a random weight: signs, since
    a block that normalises its input would leave nothing else of a scalar.

    Args:
        mem: the memory, its input `in_dim` wide.
        params: its parameters.
        key: fixes the signs.
        in_dim: width of the input.
        lags: how far back to look; the first `lags` steps are not used.
        steps: length of the sequences.
        batch: their number; a fifth of them is held out.
        ridge: penalty, relative to the mean variance of the state's entries.

    Raises:
        UsageError: too few sequences or steps.
    """
    if batch < 5 or steps <= lags or lags < 1:
        raise UsageError(
            f"horizon needs batch >= 5 and steps > lags >= 1; got batch={batch}, steps={steps}, "
            f"lags={lags}"
        )
    key_sign, key_weight = jax.random.split(key)
    signs = jax.random.rademacher(key_sign, (steps, batch), jnp.float32)
    weight = jax.random.normal(key_weight, (in_dim,))
    x, _ = states(mem, params, signs[..., None] * weight[None, None])
    x, s = np.asarray(x, np.float64)[lags:], np.asarray(signs, np.float64)
    past = np.stack([s[lags - k : steps - k] for k in range(lags)], axis=-1)
    held = batch // 5
    x_fit, x_test = _columns(x[:, held:]), _columns(x[:, :held])
    mean, scale = x_fit.mean(axis=0), x_fit.std(axis=0) + 1e-12
    x_fit, x_test = (x_fit - mean) / scale, (x_test - mean) / scale
    gram = x_fit.T @ x_fit + ridge * len(x_fit) * np.eye(x_fit.shape[1])
    decoder = np.linalg.solve(gram, x_fit.T @ _columns(past[:, held:]))
    wrong = _columns(past[:, :held]) - x_test @ decoder
    r2 = np.clip(1 - np.mean(wrong**2, axis=0), 0, 1)
    below = np.append(r2 < 0.5, True)
    return Horizon(r2, int(np.argmax(below)), float(r2.sum()), state_size(mem))


class MemoryFunction(NamedTuple):
    """How the output forgets a step of the input (Wang and Xue, StableSSM 2024, section 3.1).

    Attributes:
        rho: (steps,) float64, largest change of the output k steps after the input rose from
            zero to a unit vector, over the tried directions.
        exponential, power: misfit of `log rho` by a straight line over k, and over log k (root
            mean square, from the peak on while rho > 1e-6 of it); the smaller one names the
            kind of decay.
    """

    rho: np.ndarray
    exponential: float
    power: float


def memory_function(
    mem: Memory, params: PyTree, key: Key, *, in_dim: int, steps: int = 128, directions: int = 16
) -> MemoryFunction:
    """The derivative of the response to unit steps in random directions.

    Args:
        mem: the memory.
        params: its parameters.
        key: fixes the directions.
        in_dim: width of the input.
        steps: how long to watch, at least 8.
        directions: how many to try.

    Raises:
        UsageError: fewer than 8 steps.
    """
    if steps < 8:
        raise UsageError(f"memory_function needs at least 8 steps, got {steps}")
    x = jax.random.normal(key, (directions, in_dim))
    x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    y = np.asarray(read(mem, params, jnp.tile(x[None], (steps, 1, 1))), np.float64)
    rest = np.asarray(read(mem, params, jnp.zeros((1, 1, in_dim))), np.float64)
    change = np.diff(y, axis=0, prepend=np.broadcast_to(rest, (1, *y.shape[1:])))
    rho = np.linalg.norm(change, axis=-1).max(axis=1)
    peak = int(np.argmax(rho[1:])) + 1  # rho[0] has the direct path from input to output
    alive = rho[peak:] > 1e-6 * rho[peak]
    length = int(np.argmin(np.append(alive, False)))
    k = np.arange(peak, peak + length, dtype=float)
    log_rho = np.log(rho[peak : peak + length])
    return MemoryFunction(rho, _misfit(k, log_rho), _misfit(np.log(k), log_rho))


def perturbation_growth(
    mem: Memory,
    params: PyTree,
    key: Key,
    *,
    in_dim: int,
    sizes: tuple[float, ...] = (1e-3, 1e-2),
    steps: int = 512,
    draws: int = 8,
) -> dict[float, float]:
    """The largest relative error of the output when the recurrence is perturbed a little.

    Every parameter that the memory labels `ssm` moves by plus or minus the size, at random; a
    stable reparameterisation keeps the error in proportion, direct eigenvalues near 1 let it
    explode (StableSSM 2024, section 3.2). inf where the perturbed memory diverges.

    Args:
        mem: the memory.
        params: its parameters.
        key: fixes input and perturbations.
        in_dim: width of the input.
        sizes: how far to move.
        steps: how long to watch.
        draws: random perturbations of each size.

    Returns:
        For each size, the worst over draws of max |y' - y| / max |y|.
    """
    key_u, key_signs = jax.random.split(key)
    u = jax.random.normal(key_u, (steps, 1, in_dim))
    labels = mem.labels(params)

    @jax.jit
    def output(params: PyTree, key: Key, size: Scalar) -> TBH:
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(key, len(leaves))
        moved = [
            p + size * jax.random.rademacher(k, p.shape, p.dtype) if label == "ssm" else p
            for p, k, label in zip(leaves, keys, jax.tree.leaves(labels), strict=True)
        ]
        return read(mem, jax.tree.unflatten(tree, moved), u)

    y = np.asarray(output(params, key_signs, jnp.float32(0)))
    growth = {}
    for size in sizes:
        keys = jax.random.split(key_signs, draws)
        others = [np.asarray(output(params, k, jnp.float32(size))) for k in keys]
        error = max(float(np.max(np.abs(other - y))) for other in others)
        growth[size] = error / float(np.max(np.abs(y))) if np.isfinite(error) else np.inf
    return growth


def _columns(x: np.ndarray) -> np.ndarray:
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _misfit(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3:
        return 0.0
    return float(np.sqrt(np.mean((y - np.polyval(np.polyfit(x, y, 1), x)) ** 2)))
