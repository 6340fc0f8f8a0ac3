"""Residual blocks around a memory, and the stack of them that policies use.

    x -> x + activation(memory(norm(x)))

Norm first and separate for every block; the block of resettable S5 (Lu et al. 2023, appendix;
`full_glu` and the other names are those of the S5 code).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.combine import Combination
from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import Memory, Prepared, Reading, check_input
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree

ACTIVATIONS = {"full_glu": 2, "half_glu1": 1, "half_glu2": 1, "gelu": 0, "none": 0}
NORMS = ("pre", "post", "none")


@dataclass(frozen=True)
class Block(Memory):
    """A residual block around `memory`, whose output must be as wide as its input.

    Attributes:
        memory: what to wrap.
        norm: `pre` (layer norm of the memory's input), `post` (of the block's output) or
            `none`. It has no parameters: scale and shift are in the memory's input matrix.
        activation: `full_glu` W1 g * sigmoid(W2 g) with g = gelu(y); `half_glu1`
            g * sigmoid(W2 g); `half_glu2` y * sigmoid(W2 g); `gelu`; `none`.

    Raises:
        UsageError: unknown norm or activation; widths that differ.
    """

    memory: Memory
    norm: str = "pre"
    activation: str = "full_glu"

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.memory.out_dim

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]
        return self.memory.capabilities

    def init(self, key: Key, in_dim: int) -> PyTree:
        if in_dim != self.out_dim:
            raise UsageError(f"a block of width {self.out_dim} got an input of width {in_dim}")
        key_memory, key_gates = jax.random.split(key)
        gates = ACTIVATIONS[self.activation]
        return {
            "memory": self.memory.init(key_memory, in_dim),
            "gates": dense_init(key_gates, in_dim, gates * in_dim) if gates else {},
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return self.memory.init_carry(batch_shape)

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        return self._around(self.memory.read, constants, carry, u, reading)

    def read_all(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        return self._around(self.memory.read_all, constants, carry, u, reading)

    def _around(
        self, read: Any, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        u_in = layer_norm(u) if self.norm == "pre" else u
        carry, y = read(constants["memory"].constants, carry, u_in, reading)
        y = u + activate(self.activation, constants["gates"], y)
        return carry, layer_norm(y) if self.norm == "post" else y

    def check(
        self, carry: PyTree, u: Array, reset: Array | None, dt: Array | None, time: int
    ) -> None:
        self.memory.check(carry, u, reset, dt, time)

    def prepare(self, params: PyTree) -> Prepared:
        return Prepared({**params, "memory": self.memory.prepare(params["memory"])})

    def labels(self, params: PyTree) -> PyTree:
        return {**super().labels(params), "memory": self.memory.labels(params["memory"])}


@dataclass(frozen=True)
class Stack(Combination):
    """Memories one after the other, behind a linear map to the width of the first.

    The map is there only where the input is not as wide as the first memory's output. The
    carry is the tuple of the members' carries.
    """

    members: tuple[Memory, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise UsageError("a stack needs at least one memory, got none")

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.members[-1].out_dim

    def init(self, key: Key, in_dim: int) -> PyTree:
        key, *keys = jax.random.split(key, 1 + len(self.members))
        width = self.members[0].out_dim
        project = {} if in_dim == width else dense_init(key, in_dim, width)
        widths = [width, *(m.out_dim for m in self.members)]
        members = [m.init(k, w) for m, k, w in zip(self.members, keys, widths, strict=False)]
        return {"project": project, "members": members}

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        return self._through([m.read for m in self.members], constants, carry, u, reading)

    def read_all(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        return self._through([m.read_all for m in self.members], constants, carry, u, reading)

    def _through(
        self, reads: Sequence[Any], constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        starts = reading.start or (None,) * len(self.members)
        y, carries = _project(constants["project"], u), []
        for read, c, h, start in zip(reads, constants["members"], carry, starts, strict=True):
            h, y = read(c.constants, h, y, reading._replace(start=start))
            carries.append(h)
        return tuple(carries), y

    def check(
        self, carry: PyTree, u: Array, reset: Array | None, dt: Array | None, time: int
    ) -> None:
        check_input(u, reset, (), (), time)
        if not isinstance(carry, tuple) or len(carry) != len(self.members):
            raise UsageError(
                f"the carry of a stack is a tuple with one entry for each of its "
                f"{len(self.members)} memories, as init_carry(batch_shape) makes it; got "
                f"{jax.tree.map(jnp.shape, carry)}"
            )
        for member, h in zip(self.members, carry, strict=True):
            member.check(h, u, reset, dt, time)


def _project(params: PyTree, u: Array) -> Array:
    return dense(params, u) if params else u


def layer_norm(x: Array, epsilon: float = 1e-6) -> Array:
    """Zero mean and unit variance over the last axis, without parameters."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)


def activate(kind: str, gates: PyTree, y: Array) -> Array:
    """The activations that `Block` lists; `gates` is the dense layer of W2, or of W1 | W2."""
    if kind == "none":
        return y
    g = jax.nn.gelu(y)
    if kind == "gelu":
        return g
    if kind == "full_glu":  # both products at once
        value, gate = jnp.split(dense(gates, g), 2, axis=-1)
    else:
        value, gate = (g if kind == "half_glu1" else y), dense(gates, g)
    return value * jax.nn.sigmoid(gate)
