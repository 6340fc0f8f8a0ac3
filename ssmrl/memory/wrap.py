"""Memories around one other memory, and around a user's own recurrent cell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.adapters import complex_view, real_view
from ssmrl.memory.dense import along_last
from ssmrl.memory.spec import CellMemory, LinearMemory, Memory, Prepared, Reading
from ssmrl.shapes import BF, BH, TBF, TBH, Array, Key, PyTree


class Wrapped(Memory):
    """What wrappers of one `memory` share; its parameters are the entry `memory` of theirs."""

    memory: Memory

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.memory.out_dim

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]
        return self.memory.capabilities

    def init(self, key: Key, in_dim: int) -> PyTree:
        return {"memory": self.memory.init(key, in_dim)}

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return self.memory.init_carry(batch_shape)

    def prepare(self, params: PyTree) -> Prepared:
        return Prepared({**params, "memory": self.memory.prepare(params["memory"])})

    def labels(self, params: PyTree) -> PyTree:
        return {**super().labels(params), "memory": self.memory.labels(params["memory"])}

    def check(
        self, carry: PyTree, u: Array, reset: Array | None, dt: Array | None, time: int
    ) -> None:
        self.memory.check(carry, u, reset, dt, time)


@dataclass(frozen=True)
class LearnedStart(Wrapped):
    """A memory whose episodes start from a learned carry instead of the usual one.

    The parameter `start` is the difference from `init_carry()`, zero at first, label "ssm":
    one `real_view` for each floating point leaf of the carry; counters stay. The very first
    carry comes from `init_carry`, which knows no parameters: let the first input of a rollout
    carry a reset. A `start` given to `apply` goes before the learned one.

    Attributes:
        memory: what to wrap.
    """

    memory: Memory

    ssm_params: ClassVar[tuple[str, ...]] = ("start",)

    def init(self, key: Key, in_dim: int) -> PyTree:
        return {**super().init(key, in_dim), "start": zero_offsets(self.memory.init_carry())}

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        if reading.start is None:
            start = add_offsets(self.memory.init_carry(), constants["start"])
            reading = reading._replace(start=start)
        return self.memory.read(constants["memory"].constants, carry, u, reading)


def zero_offsets(carry: PyTree) -> list[Array]:
    """Zeros for the `real_view` of each floating point leaf of a carry, float32."""
    leaves = [x for x in jax.tree.leaves(carry) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return [jnp.zeros_like(real_view(x)) for x in leaves]


def add_offsets(carry: PyTree, offsets: list[Array]) -> PyTree:
    """The carry plus what `zero_offsets` made room for."""
    rest = iter(offsets)

    def add(x: Array) -> Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        return x + complex_view(next(rest), jax.eval_shape(lambda: x))

    return jax.tree.map(add, carry)


OFFSETS = ("output", "state")


@dataclass(frozen=True)
class WithOffset(Wrapped):
    """A frozen memory with one learned vector, to adapt it to a task or an opponent
    (state-offset tuning, Kang et al. 2025).

    `output`: `y[t] + offset`. `state`, for a `LinearMemory`: `readout(x[t] + offset)`, which
    unlike a learned first state does not fade with time. The recurrence itself is not touched.
    All parameters but `offset`, zero at first, are labelled "frozen". To tune the first state
    instead, use `LearnedStart`.

    Attributes:
        memory: what to wrap.
        kind: `output` or `state`.

    Raises:
        UsageError: an unknown kind, or `state` around a memory that is not linear.
    """

    memory: Memory
    kind: str = "state"

    def __post_init__(self) -> None:
        if self.kind not in OFFSETS:
            raise unknown("offset", self.kind, OFFSETS, "LearnedStart tunes the first state")
        if self.kind == "state" and not isinstance(self.memory, LinearMemory):
            raise UsageError(
                f"a state offset needs a LinearMemory, got {type(self.memory).__name__}: wrap "
                "the cell inside the block, or choose kind='output'"
            )

    def init(self, key: Key, in_dim: int) -> PyTree:
        like = self.memory.init_carry() if self.kind == "state" else jnp.zeros(self.out_dim)
        return {**super().init(key, in_dim), "offset": zero_offsets(like)}

    def labels(self, params: PyTree) -> PyTree:
        return {
            "memory": jax.tree.map(lambda _: "frozen", params["memory"]),
            "offset": ["regular"] * len(params["offset"]),
        }

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        inner = constants["memory"].constants
        if not isinstance(self.memory, LinearMemory) or self.kind == "output":
            carry, y = self.memory.read(inner, carry, u, reading)
            return carry, y + along_last(constants["offset"][0], y)
        dt = () if reading.dt is None else (reading.dt,)
        x = self.memory.solve(*self.memory.elements(inner, u, *dt), carry, reading)
        offset = add_offsets(self.memory.init_carry(), constants["offset"])
        offset = offset.reshape((1,) * (x.ndim - offset.ndim) + offset.shape)
        return x[-1], self.memory.readout(inner, x + offset, u)


@dataclass(frozen=True)
class FromCell(CellMemory):
    """What `from_cell` returns."""

    step_cell: Callable[[PyTree, PyTree, BF], tuple[PyTree, BH]]
    init_params: Callable[[Key, int], PyTree]
    first: Callable[[tuple[int, ...]], PyTree]
    out_dim: int

    def init(self, key: Key, in_dim: int) -> PyTree:
        return self.init_params(key, in_dim)

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return self.first(batch_shape)

    def update(self, params: PyTree, carry: PyTree, inputs: BF) -> tuple[PyTree, BH]:
        return self.step_cell(params, carry, inputs)


def from_cell(
    step: Callable[[PyTree, PyTree, BF], tuple[PyTree, BH]],
    init: Callable[[Key, int], PyTree],
    carry: Callable[[tuple[int, ...]], PyTree],
    features: int,
) -> Memory:
    """Any recurrent cell as a memory, resets included.

    Args:
        step: `step(params, carry, u) -> (carry, y)` for u `(*B, in_dim)` and y `(*B, H)`.
        init: `init(key, in_dim)`, the parameters, a dict.
        carry: `carry(batch_shape)`, the carry before the first step, also after a reset.
        features: H, the width of y.
    """
    return FromCell(step, init, carry, features)
