"""Two memories at two paces: one for spans of some steps, one that reads a span at a time."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.combine import Combination
from ssmrl.memory.spec import Memory, Reading, cell_scan, start_carry, where_reset
from ssmrl.shapes import BH, TB, TBF, TBH, Array, B, PyTree


class Pace(NamedTuple):
    """The part of a `Hierarchical` carry that is its own.

    Attributes:
        position: `(*B,)` int32, steps since the last reset, from 0.
        held: `(*B, H)` float32, the last output of the upper memory.
    """

    position: B
    held: BH


@dataclass(frozen=True)
class Hierarchical(Combination):
    """A memory for spans of `every` steps below one that reads a span at a time (HiSS,
    Bhirangi et al. 2024, section 3; the levels of Hieros, Mattes et al. 2024).

    The lower memory starts anew at every span; its output at the end of a span is what the
    upper memory reads. The output is `[lower[t], upper]`, the upper half held between
    spans and zero in the first one. Spans are counted from the last reset. The upper memory is
    stepped, `T / every` times, since its steps fall on other times in every sequence of a
    batch. The carry is `(lower's, upper's, Pace)`.

    Attributes:
        low, high: the memories.
        every: steps in a span.

    Raises:
        UsageError: `every` below 1.
    """

    low: Memory
    high: Memory
    every: int

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"a span of a hierarchy lasts at least one step, got {self.every}")

    @property
    def members(self) -> tuple[Memory, ...]:  # type: ignore[override]
        return (self.low, self.high)

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.low.out_dim + self.high.out_dim

    def widths(self, in_dim: int) -> tuple[int, ...]:
        return (in_dim, self.low.out_dim)

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        held = jnp.zeros((*batch_shape, self.high.out_dim))
        return (*super().init_carry(batch_shape), Pace(jnp.zeros(batch_shape, jnp.int32), held))

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        low, high = (c.constants for c in constants["members"])
        if u.shape[0] > 1 and reading.start is None:
            return self._read_spans(low, high, carry, u, reading)
        start = start_carry(self, u.shape[1:-1], reading.start)
        inputs = (u, reading.dt)
        return cell_scan(partial(self._update, low, high), carry, inputs, reading.reset, start)

    def _update(self, low: PyTree, high: PyTree, carry: PyTree, inputs: PyTree) -> PyTree:
        """One step of both memories; the step of the upper one counts at the end of a span."""
        h_low, h_high, pace = carry
        u, dt = inputs
        at = pace.position % self.every
        fresh = self.low.init_carry(u.shape[:-1])
        reading = Reading(dt=None if dt is None else dt[None])
        h_low, y = self.low.read(low, where_reset(at == 0, fresh, h_low), u[None], reading)
        upper = self.high.read(high, h_high, y, Reading())
        ends = at == self.every - 1
        h_high, held = where_reset(ends, (upper[0], upper[1][0]), (h_high, pace.held))
        return (h_low, h_high, Pace(pace.position + 1, held)), jnp.concatenate([y[0], held], -1)

    def _read_spans(
        self, low: PyTree, high: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        """The lower memory over all steps at once, the upper one over the ends of spans alone."""
        h_low, h_high, pace = carry
        at = positions(u.shape[:-1], pace.position, reading.reset)
        reset = jnp.zeros(at.shape, bool) if reading.reset is None else reading.reset
        h_low, y = self.low.read(low, h_low, u, reading._replace(reset=at % self.every == 0))
        ends = at % self.every == self.every - 1
        slots = -(-u.shape[0] // self.every)  # at most so many spans end
        time = jnp.argsort(~ends, axis=0, stable=True)[:slots]  # of the ends first
        ended = _take(ends, time)
        episode = jnp.cumsum(reset, axis=0, dtype=jnp.int32)
        of_slot = _take(episode, time)
        anew = of_slot != jnp.concatenate([jnp.zeros_like(of_slot[:1]), of_slot[:-1]])
        fresh = self.high.init_carry(u.shape[1:-1])

        def read_span(h: PyTree, span: tuple[Array, Array, Array]) -> tuple[PyTree, Array]:
            y, ended, anew = span
            after, z = self.high.read(high, where_reset(anew, fresh, h), y[None], Reading())
            return where_reset(ended, after, h), z[0]

        h_high, z = jax.lax.scan(read_span, h_high, (_take(y, time), ended, anew))
        latest = jnp.max(jnp.where(ended, of_slot, 0), axis=0)
        h_high = where_reset(latest != episode[-1], fresh, h_high)

        count = jnp.cumsum(ends, axis=0, dtype=jnp.int32)
        slot = jnp.maximum(count - 1, 0)
        seen = (count > 0) & (_take(of_slot, slot) == episode)
        first = jnp.where((episode == 0)[..., None], pace.held[None], 0.0)
        held = jnp.where(seen[..., None], _take(z, slot), first)
        return (h_low, h_high, Pace(at[-1] + 1, held[-1])), jnp.concatenate([y, held], axis=-1)


def _take(x: Array, index: Array) -> Array:
    """`x[index[t, b], b]` for x `(T, *B, ...)` and index `(S, *B)`."""
    index = index.reshape(index.shape + (1,) * (x.ndim - index.ndim))
    return jnp.take_along_axis(x, index, axis=0)


def positions(shape: tuple[int, ...], first: B, reset: TB | None, start: B | None = None) -> TB:
    """Steps since the last reset at each step, `(T, *B)` int32.

    `first` of them at step 0, and at a reset `start`, 0 if None.
    """
    t = jnp.arange(shape[0], dtype=jnp.int32).reshape(-1, *(1,) * (len(shape) - 1))
    since = jnp.broadcast_to(t + first[None], shape)
    if reset is None:
        return since
    latest = jax.lax.cummax(jnp.where(reset, t, -1), axis=0)
    anew = t - latest if start is None else t - latest + start[None]
    return jnp.where(latest < 0, since, anew)
