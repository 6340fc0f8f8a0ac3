"""What diagonal memories in continuous time share: options, eigenvalues, step lengths, chunks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.memory import discretize
from ssmrl.memory.backends import BACKENDS
from ssmrl.memory.inits import INITS
from ssmrl.memory.reparam import RATES
from ssmrl.memory.spec import LinearMemory, Memory, Reading, in_chunks
from ssmrl.shapes import TB, TBF, TBH, TBP, Array, PyTree


def check_options(cell: Any) -> None:
    """Refuses a step length out of range and names that are unknown.

    Raises:
        UsageError: see above; `cell` has any of the fields that diagonal memories share.
    """
    name = type(cell).__name__
    if not 0 < cell.dt_min <= cell.dt_max:
        raise UsageError(f"{name} needs 0 < dt_min <= dt_max; got {cell.dt_min}, {cell.dt_max}")
    for field, kind, known in (
        ("lam_init", "init of eigenvalues", INITS),
        ("reparam", "reparameterisation", RATES),
        ("discretization", "discretization", discretize.METHODS),
        ("scan", "scan backend", BACKENDS),
    ):
        if getattr(cell, field, None) not in (None, *known):
            raise unknown(kind, getattr(cell, field), known)


def check_channels(cell: Any) -> None:
    """Refuses what a memory of `features` channels with `state // 2` modes each cannot be."""
    if cell.features < 1 or cell.state < 2 or cell.state % 2:
        raise UsageError(
            f"{type(cell).__name__} needs features >= 1 and an even state >= 2 per channel; got "
            f"features={cell.features}, state={cell.state}"
        )


def check_width(cell: Memory, in_dim: int) -> None:
    """Refuses an input that is not as wide as the output, which it is fed through to."""
    if in_dim != cell.out_dim:
        raise UsageError(
            f"{type(cell).__name__} feeds its input through to its output, so both are features="
            f"{cell.out_dim} wide; got in_dim={in_dim}. Project the input first, as "
            "ssmrl.memory.make and ssmrl.memory.Stack do"
        )


def discretised(params: PyTree, reparam: str, discretization: str) -> dict[str, Array]:
    """`lam` and `delta`, and what one step makes of them: `lam_bar` and `gain`.

    Complex64, of the shape of `params["lam_re"]`; `params["log_dt"]` broadcasts to it.
    """
    lam = jax.lax.complex(-RATES[reparam].value(params["lam_re"]), params["lam_im"])
    delta = jnp.exp(params["log_dt"]).astype(jnp.complex64)
    lam_bar, gain = discretize.METHODS[discretization](lam, delta)
    return {"lam": lam, "delta": delta, "lam_bar": lam_bar, "gain": gain}


def stretched(constants: PyTree, discretization: str, b: TBP, dt: TB | None) -> tuple[Array, TBP]:
    """a and b of a scan whose steps last dt times as long; b is that of dt = 1.

    Per-step discretisation: exact wherever the method is. Varies a, so it costs a copy of it
    for every step.
    """
    if dt is None:
        return constants["lam_bar"], b
    state_axes = constants["lam"].ndim
    lam, delta, gain = (leading(constants[k], dt.ndim) for k in ("lam", "delta", "gain"))
    steps = delta * trailing(dt, state_axes).astype(jnp.complex64)
    a, longer = discretize.METHODS[discretization](lam, steps)
    return a, b * (longer / gain)


def leading(x: Array, axes: int) -> Array:
    """x with `axes` axes of size 1 in front."""
    return x.reshape((1,) * axes + x.shape)


def trailing(x: Array, axes: int) -> Array:
    """x with `axes` axes of size 1 behind."""
    return x.reshape(x.shape + (1,) * axes)


class Chunked(LinearMemory):
    """A linear memory whose state is many times wider than its input and output.

    Reads `CHUNK` steps at a time and computes their states anew for the gradient, so that the
    states of a whole sequence, `(T, *B, H, P)`, never exist: less memory, and on a CPU several
    times faster, as the states stay in its cache.
    """

    def read(self, constants: PyTree, carry: Array, u: TBF, reading: Reading) -> tuple[Array, TBH]:
        return in_chunks(partial(super().read, constants), carry, u, reading)
