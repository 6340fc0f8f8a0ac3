"""Liquid-S4, diagonal: the input also multiplies the state (Hasani et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.memory.cells.diagonal import leading
from ssmrl.memory.cells.s4d import S4D, outer
from ssmrl.shapes import TBF, TBP, Array, PyTree


@dataclass(frozen=True)
class Liquid(S4D):
    """`x[t] = clip(lam_bar + B_bar u[t]) x[t-1] + B_bar u[t]`, `y[t] = 2 Re(C x[t]) + D u[t]`.

    "Liquid Structural State-Space Models" (Hasani et al. 2023, whose liquid kernels expand the
    product in powers of u); diagonal, so that no expansion is needed. `clip` scales to a magnitude
    of at most 1: large inputs would make the memory explode. The fields are those of `S4D`; so is
    the memory while the input is zero.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"selective"})

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:  # type: ignore[override]
        b = outer(u, constants["B"])
        a = leading(constants["lam_bar"], u.ndim - 1) + b
        size = a.real * a.real + a.imag * a.imag
        return a * jax.lax.rsqrt(jnp.maximum(size, 1.0)).astype(a.dtype), b
