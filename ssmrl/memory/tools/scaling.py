"""Scales and frequencies of the readout of a linear time-invariant memory."""

from typing import Any

import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.spec import Memory
from ssmrl.memory.tools.kernel import kernel
from ssmrl.shapes import TBF, Array, PyTree, Scalar


def tau(mem: Memory, params: PyTree, u: TBF) -> Array:
    """How large outputs may become on data like u, squared: `(H,)`, differentiable in params.

    `(sum_k |K_k| sigma_(T-k) + |sum_k K_k mu_(T-k)|)^2`, with mean mu and standard deviation
    sigma of the inputs at each step: what bounds the generalisation error of an SSM on
    sequences that depend on time ("From Generalization Analysis to Optimization Designs for
    State Space Models", Liu and Li 2024, theorem 1).

    Args:
        mem: a bare cell with the capability `lti`.
        params: its parameters.
        u: `(T, *B, F)`, e.g. the first batch; the statistics are over *B.
    """
    batch = tuple(range(1, u.ndim - 1))
    mean, deviation = jnp.mean(u, axis=batch)[::-1], jnp.std(u, axis=batch)[::-1]
    k = kernel(mem, params, u.shape[-1], u.shape[0])
    spread = jnp.einsum("thf,tf->h", jnp.abs(k), deviation)
    return (spread + jnp.abs(jnp.einsum("thf,tf->h", k, mean))) ** 2


def tau_penalty(mem: Memory, params: PyTree, u: TBF) -> Scalar:
    """The mean of `tau`: add it to a loss, times 1e-4 to 1e-1 (ibid., section 4.2)."""
    return jnp.mean(tau(mem, params, u))


def scale_by_tau(mem: Memory, params: PyTree, u: TBF) -> PyTree:
    """Parameters whose C and D are divided by sqrt(tau), channel by channel (ibid., section 4.1).

    Outputs on data like u are then at most of the order of 1, whatever its time dependence.

    Raises:
        UsageError: the memory is not linear and time-invariant, or has no C and D.
    """
    scale = jnp.sqrt(tau(mem, params, u))
    scale = 1 / jnp.where(scale > 0, scale, 1)
    c = _readout_of(mem, params)
    column = scale.reshape((1,) * (c.ndim - 2) + (-1, 1))
    return {**params, "C": c * column, "D": params["D"] * scale}


def bandlimit(mem: Memory, params: PyTree, limit: float = 1.0) -> PyTree:
    """Parameters whose C is zero for modes faster than `limit / 2` cycles per step.

    With limit 1 what a mode does between two steps is not mistaken for something slower (S4ND,
    Nguyen et al. 2022, section 3.2); take a smaller one to read with longer steps afterwards.

    Raises:
        UsageError: the memory has no frequencies.
    """
    constants: Any = mem.prepare(params).constants
    if "delta" in constants:
        phase = constants["lam"].imag * constants["delta"].real
    elif "log_theta" in params:
        phase = jnp.exp(params["log_theta"])
    else:
        raise UsageError(f"{type(mem).__name__} has no modes with a frequency: take S5, S4D or LRU")
    slow = (jnp.abs(phase) < jnp.pi * limit).astype(jnp.float32)
    c = _readout_of(mem, params)
    return {**params, "C": c * slow.reshape((1,) * (c.ndim - slow.ndim) + slow.shape)}


def _readout_of(mem: Memory, params: PyTree) -> Array:
    if not isinstance(params, dict) or not {"C", "D"} <= params.keys():
        raise UsageError(
            f"{type(mem).__name__} has no readout C and D to scale: take S5, S4D or LRU"
        )
    return params["C"]
