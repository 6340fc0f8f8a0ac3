"""Memories made of memories: side by side, and both ways in time.

A combination is a `Memory` like any other. Its carry is the tuple of its members' carries.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.spec import (
    Memory,
    Prepared,
    Reading,
    check_input,
    joint_capabilities,
    start_carry,
)
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree

MERGES = ("concat", "sum")


class Combination(Memory):
    """What all combinations share: `members`, a carry that is the tuple of theirs, and the
    parameter `members`, the list of theirs."""

    members: tuple[Memory, ...]

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]
        return joint_capabilities(self.members)

    def widths(self, in_dim: int) -> tuple[int, ...]:
        """What each member reads, for inputs of width `in_dim`: the same, unless overridden."""
        return (in_dim,) * len(self.members)

    def init(self, key: Key, in_dim: int) -> PyTree:
        keys = jax.random.split(key, len(self.members))
        each = zip(self.members, keys, self.widths(in_dim), strict=True)
        return {"members": [m.init(k, width) for m, k, width in each]}

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return tuple(m.init_carry(batch_shape) for m in self.members)

    def prepare(self, params: PyTree) -> Prepared:
        members = [m.prepare(p) for m, p in zip(self.members, params["members"], strict=True)]
        return Prepared({**params, "members": members})

    def labels(self, params: PyTree) -> PyTree:
        members = [m.labels(p) for m, p in zip(self.members, params["members"], strict=True)]
        return {**super().labels(params), "members": members}

    def check(
        self, carry: PyTree, u: Array, reset: Array | None, dt: Array | None, time: int
    ) -> None:
        check_input(u, reset, (), (), time)
        expected = jax.tree.map(jnp.shape, self.carry_spec(u.shape[time:-1]))
        if not isinstance(carry, tuple) or len(carry) != len(expected):
            raise UsageError(
                f"the carry of {type(self).__name__} is a tuple with one entry for each of its "
                f"memories, as init_carry(batch_shape) makes it; expected shapes {expected}, got "
                f"{jax.tree.map(jnp.shape, carry)}"
            )
        for member, h in zip(self.members, carry, strict=False):
            member.check(h, u, reset, dt, time)


@dataclass(frozen=True)
class Parallel(Combination):
    """Memories side by side that read the same input.

    Attributes:
        members: the memories.
        merge: `concat` their outputs, or `sum` them (all as wide then).

    Raises:
        UsageError: no memories; an unknown merge; widths that differ under `sum`.
    """

    members: tuple[Memory, ...]
    merge: str = "concat"

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise unknown("merge", self.merge, MERGES)
        widths = [m.out_dim for m in self.members]
        if not widths or (self.merge == "sum" and len(set(widths)) > 1):
            raise UsageError(
                f"Parallel needs at least one memory, and all of one width to sum; got {widths}"
            )

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        widths = [m.out_dim for m in self.members]
        return sum(widths) if self.merge == "concat" else widths[0]

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        starts = reading.start or (None,) * len(self.members)
        results = [
            m.read(c.constants, h, u, reading._replace(start=s))
            for m, c, h, s in zip(self.members, constants["members"], carry, starts, strict=True)
        ]
        ys = [y for _, y in results]
        y = jnp.concatenate(ys, axis=-1) if self.merge == "concat" else sum(ys[1:], ys[0])
        return tuple(h for h, _ in results), y


@dataclass(frozen=True)
class Bidirectional(Combination):
    """Two memories that read each episode forwards and backwards; outputs side by side.

    For whole sequences at hand, as in encoders of trajectories: the second memory starts anew
    at the end of every call, so the carry serves the first alone, and there is no `step`.

    Attributes:
        forward, backward: the memories.

    Raises:
        UsageError: by `step`, also inside stacks and blocks.
    """

    forward: Memory
    backward: Memory

    @property
    def members(self) -> tuple[Memory, ...]:  # type: ignore[override]
        return (self.forward, self.backward)

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.forward.out_dim + self.backward.out_dim

    def check(
        self, carry: PyTree, u: Array, reset: Array | None, dt: Array | None, time: int
    ) -> None:
        if time == 0:
            raise UsageError(
                "a bidirectional memory reads the future, so it cannot step: apply it to whole "
                "sequences, or act with its forward memory alone"
            )
        super().check(carry, u, reset, dt, time)

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        starts = reading.start or (None, None)
        ahead, back = (c.constants for c in constants["members"])
        h, y = self.forward.read(ahead, carry[0], u, reading._replace(start=starts[0]))
        # Read backwards, an episode begins where the next one would have: one step earlier.
        reset = reading.reset
        reset = None if reset is None else jnp.roll(reset, -1, 0).at[-1].set(False)[::-1]
        dt = None if reading.dt is None else reading.dt[::-1]
        first = start_carry(self.backward, u.shape[1:-1], starts[1])
        _, z = self.backward.read(back, first, u[::-1], Reading(reset, starts[1], dt))
        return (h, carry[1]), jnp.concatenate([y, z[::-1]], axis=-1)
