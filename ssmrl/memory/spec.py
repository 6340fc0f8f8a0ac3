"""What a memory is: a frozen specification with pure functions; the carry is always explicit.

`Memory` is the protocol every agent talks to; a cell defines `init`, `init_carry` and `read`.
`LinearMemory` derives all but `init` for a linear recurrence from `elements` and `readout`;
`CellMemory` for any recurrent cell from `init_carry`, `inputs` and `update`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.scan import affine_scan
from ssmrl.shapes import BF, BH, BP, TB, TBF, TBH, TBP, Array, B, Key, PyTree

CHUNK = 64  # steps whose states are held at once; no fewer, or accelerators would loop over them


@partial(jax.tree_util.register_dataclass, data_fields=["constants"], meta_fields=[])
@dataclass(frozen=True)
class Prepared:
    """Constants that `Memory.prepare` derived from parameters; `step` takes them in their place."""

    constants: PyTree


class Reading(NamedTuple):
    """How a sequence is read, beside the inputs.

    Attributes:
        reset: `(T, *B)` bool, or None for no resets.
        start: the carry that a reset goes back to, shaped like `init_carry(())`; None for that.
        dt: `(T, *B)` float32, multiples of the step length; None for 1 everywhere.
    """

    reset: TB | None = None
    start: PyTree | None = None
    dt: TB | None = None


class Memory:
    """A recurrent memory: hashable and without state of its own.

    Sequences are time-major, `(T, *B, F)`; `reset[t]` is True iff `u[t]` is the first input
    of a new episode, and drops the carry before u[t] is read.
    """

    out_dim: int  # H, the width of y

    ssm_params: ClassVar[tuple[str, ...]] = ()
    """Top-level parameters of the recurrence itself: lower learning rate, no weight decay."""

    capabilities: ClassVar[frozenset[str]] = frozenset()
    """What it is and can do: of `lti` (constant linear part), `selective` (gates read the input),
    `matrix_state`, `nonlinear`, `counter` (position within the episode), `dt` (takes step
    lengths), `parity` (can count modulo 2 over any length)."""

    block: ClassVar[dict[str, Any]] = {}
    """Options of `Block` that differ for this cell, e.g. no GLU where it has gates itself."""

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Parameters, float32, for inputs of width `in_dim`."""
        raise NotImplementedError

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        """The carry before the first step; each leaf leads with `batch_shape`."""
        raise NotImplementedError

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        """What a cell defines: `apply` for checked input and what `prepare` made of params."""
        raise NotImplementedError

    def read_all(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        """`read`, but with the carries after every step, `(T, *B, ...)`, in place of the last.

        Step by step here; a cell whose recurrence gives all its states at once overrides it.
        """
        step = Reading(reading.reset, None, reading.dt)

        def advance(h: PyTree, at: tuple[Array, Reading]) -> tuple[PyTree, tuple[PyTree, Array]]:
            one = jax.tree.map(lambda x: x[None], at)
            h, y = self.read(constants, h, one[0], one[1]._replace(start=reading.start))
            return h, (h, y[0])

        return jax.lax.scan(advance, carry, (u, step))[1]

    def apply(
        self,
        params: PyTree | Prepared,
        carry: PyTree,
        u: TBF,
        reset: TB | None = None,
        *,
        start: PyTree | None = None,
        dt: TB | None = None,
    ) -> tuple[PyTree, TBH]:
        """Reads a sequence, in parallel over time where the recurrence allows it.

        Args:
            params: from `init`, or from `prepare`.
            carry: from `init_carry(u.shape[1:-1])` or an earlier call.
            u: `(T, *B, in_dim)` floating point.
            reset: `(T, *B)` bool, or None for no resets.
            start: the carry after a reset, shaped like `init_carry(())`, None for that itself.
            dt: `(T, *B)` float32, how many times the usual step length each step lasts, for
                memories with the capability `dt`; None for 1.

        Returns:
            The carry after the last step and the outputs `(T, *B, out_dim)`.

        Raises:
            UsageError: shapes or dtypes that do not fit together.
        """
        self.check(carry, u, reset, dt, time=1)
        constants = self.constants(params)
        if not u.shape[0]:
            one = jnp.zeros((1, *u.shape[1:]), u.dtype)
            y = jax.eval_shape(lambda: self.read(constants, carry, one, Reading())[1])
            return carry, jnp.zeros((0, *y.shape[1:]), y.dtype)
        return self.read(constants, carry, u, Reading(reset, start, dt))

    def trace(
        self,
        params: PyTree | Prepared,
        carry: PyTree,
        u: TBF,
        reset: TB | None = None,
        *,
        start: PyTree | None = None,
    ) -> tuple[PyTree, TBH]:
        """`apply` that returns the carry after every step, each leaf `(T, *B, ...)`, T >= 1.

        What imagination starts from, at any step of a sequence (Hafner et al. 2023).
        """
        self.check(carry, u, reset, None, time=1)
        return self.read_all(self.constants(params), carry, u, Reading(reset, start))

    def step(
        self,
        params: PyTree | Prepared,
        carry: PyTree,
        u: BF,
        reset: B | None = None,
        *,
        start: PyTree | None = None,
        dt: B | None = None,
    ) -> tuple[PyTree, BH]:
        """One step of `apply`, for acting: u `(*B, in_dim)`, reset and dt `(*B,)`.

        Takes what `prepare(params)` returned in place of params.
        """
        self.check(carry, u, reset, dt, time=0)
        reading = Reading(*(None if x is None else x[None] for x in (reset, None, dt)))
        carry, y = self.read(self.constants(params), carry, u[None], reading._replace(start=start))
        return carry, y[0]

    def prepare(self, params: PyTree) -> Prepared:
        """What `step` would compute from params at every call, computed once.

        Valid for these params only: prepare again after an update.
        """
        return Prepared(params)

    def labels(self, params: PyTree) -> PyTree:
        """`"ssm"`, `"regular"` or `"frozen"` for every leaf, for `optax.multi_transform`."""

        def label(path: tuple[Any, ...], _: Array) -> str:
            return "ssm" if path[0].key in self.ssm_params else "regular"

        return jax.tree_util.tree_map_with_path(label, params)

    def constants(self, params: PyTree | Prepared) -> PyTree:
        """The constants inside a `Prepared`, prepared here if params are given."""
        return (params if isinstance(params, Prepared) else self.prepare(params)).constants

    def carry_spec(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        """Shape and dtype of each leaf of the carry."""
        return jax.eval_shape(lambda: self.init_carry(batch_shape))

    @property
    def state_bytes(self) -> int:
        """Size of the carry of one sequence."""
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(self.carry_spec()))

    def check(
        self, carry: PyTree, u: Array, reset: Array | None, dt: Array | None, time: int
    ) -> None:
        """Refuses what this memory cannot read; `time` is 1 for a sequence and 0 for a step."""
        check_input(u, reset, carry, self.carry_spec(u.shape[time:-1]), time)
        if dt is None:
            return
        if "dt" not in self.capabilities:
            raise UsageError(f"{type(self).__name__} has no step length: leave dt out")
        if dt.shape != u.shape[:-1] or not jnp.issubdtype(dt.dtype, jnp.floating):
            raise UsageError(
                f"dt must be floating point of shape {u.shape[:-1]}, one number per input of "
                f"shape {u.shape}; got {dt.dtype} {dt.shape}"
            )


def joint_capabilities(members: Sequence[Memory]) -> frozenset[str]:
    """Those of any member; `dt` only where all take it."""
    each = [m.capabilities for m in members]
    return frozenset.union(*each) - ({"dt"} - frozenset.intersection(*each))


def check_input(u: Array, reset: Array | None, carry: PyTree, spec: PyTree, time: int) -> None:
    """Refuses what a memory cannot read; `time` is 1 for a sequence and 0 for a step.

    `spec` is the carry that `init_carry(batch_shape)` gives, as arrays or shapes.
    """
    axes = "(T, *B, F), time first" if time else "(*B, F)"
    if u.ndim < 1 + time or not jnp.issubdtype(u.dtype, jnp.floating):
        raise UsageError(f"input must be floating point of shape {axes}; got {u.dtype} {u.shape}")
    if reset is not None and (reset.shape != u.shape[:-1] or reset.dtype != jnp.bool_):
        raise UsageError(
            f"reset must be bool of shape {u.shape[:-1]}, one flag per input of shape "
            f"{u.shape}; got {reset.dtype} {reset.shape}"
        )
    got = jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), carry)
    want = jax.tree.map(lambda x: (x.shape, x.dtype), spec)
    if got != want:
        raise UsageError(
            f"the carry does not fit input of shape {u.shape} = {axes}: expected (shape, dtype) "
            f"{want}, got {got}. Make it with init_carry({u.shape[time:-1]}); if the input is "
            "batch-major, swap its first two axes"
        )


class LinearMemory(Memory):
    """A memory with a linear recurrence `x[t] = a[t] x[t-1] + b[t]`.

    A subclass, a frozen dataclass with the fields `features` and `state`, gives three functions:
    `init`, `elements` and `readout`. Everything else follows, resets included.
    """

    features: int
    state: int
    state_dtype: ClassVar[Any] = jnp.float32

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:
        """a and b of `affine_scan` for inputs `(..., F)`; pointwise in time.

        A memory with the capability `dt` takes a third argument, `(...)` multiples of the step
        length or None.
        """
        raise NotImplementedError

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        """Outputs `(..., H)` from states `(..., P)` and inputs `(..., F)`; pointwise in time."""
        raise NotImplementedError

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the state of one sequence: vectors, matrices, images."""
        return (self.state,)

    @property
    def backend(self) -> str:
        """The backend of `affine_scan`."""
        return "auto"

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BP:
        return jnp.zeros((*batch_shape, *self.state_shape), self.state_dtype)

    def solve(self, a: Array, b: TBP, carry: Array, reading: Reading) -> TBP:
        """All states; `affine_scan`, unless the linear part is not elementwise."""
        return affine_scan(
            a, b, carry, reset=reading.reset, reset_to=reading.start, backend=self.backend
        )

    def read(self, constants: PyTree, carry: Array, u: TBF, reading: Reading) -> tuple[Array, TBH]:
        x, y = LinearMemory.read_all(self, constants, carry, u, reading)
        return x[-1], y

    def read_all(
        self, constants: PyTree, carry: Array, u: TBF, reading: Reading
    ) -> tuple[TBP, TBH]:
        dt = () if reading.dt is None else (reading.dt,)
        a, b = self.elements(constants, u, *dt)
        x = self.solve(a, b, carry, reading)
        return x, self.readout(constants, x, u)


class CellMemory(Memory):
    """A memory whose next state is any function of the last one: read step by step.

    A subclass gives `init`, `init_carry`, `inputs` (all that does not need the state, done for
    the whole sequence at once) and `update`.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"nonlinear", "parity"})

    def inputs(self, params: PyTree, u: TBF) -> PyTree:
        """The part of a step that depends on u alone; pointwise in time."""
        return u

    def update(self, params: PyTree, carry: PyTree, inputs: PyTree) -> tuple[PyTree, BH]:
        """One step: next carry and output."""
        raise NotImplementedError

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        start = start_carry(self, u.shape[1:-1], reading.start)
        update = partial(self.update, constants)

        def chunk(carry: PyTree, u: TBF, reading: Reading) -> tuple[PyTree, TBH]:
            return cell_scan(update, carry, self.inputs(constants, u), reading.reset, start)

        return in_chunks(chunk, carry, u, reading)

    def read_all(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        def update(h: PyTree, inputs: PyTree) -> tuple[PyTree, tuple[PyTree, BH]]:
            h, y = self.update(constants, h, inputs)
            return h, (h, y)

        start = start_carry(self, u.shape[1:-1], reading.start)
        return cell_scan(update, carry, self.inputs(constants, u), reading.reset, start)[1]


def in_chunks(
    read: Callable[[PyTree, TBF, Reading], tuple[PyTree, TBH]],
    carry: PyTree,
    u: TBF,
    reading: Reading,
) -> tuple[PyTree, TBH]:
    """`read(carry, u, reading)`, `CHUNK` steps at a time; the gradient reads each chunk again."""
    chunks, rest = divmod(u.shape[0], CHUNK)
    if chunks + bool(rest) < 2:
        return read(carry, u, reading)
    series = (u, reading.reset, reading.dt)

    def chunk(carry: PyTree, inputs: tuple[TBF, TB | None, TB | None]) -> tuple[PyTree, TBH]:
        u, reset, dt = inputs
        return read(carry, u, Reading(reset, reading.start, dt))

    whole = jax.tree.map(lambda x: x[: chunks * CHUNK].reshape(chunks, CHUNK, *x.shape[1:]), series)
    carry, y = jax.lax.scan(jax.checkpoint(chunk, prevent_cse=False), carry, whole)
    y = y.reshape(-1, *y.shape[2:])
    if not rest:
        return carry, y
    carry, last = chunk(carry, jax.tree.map(lambda x: x[chunks * CHUNK :], series))
    return carry, jnp.concatenate([y, last])


def cell_scan(update: Any, carry: PyTree, inputs: PyTree, reset: TB | None, start: PyTree) -> Any:
    """`update(carry, inputs[t]) -> (carry, y)` over time; where `reset[t]`, from `start`.

    The one scan that is a loop on every device. `start` has the shapes of `carry`. Returns the
    last carry and all y.
    """

    def step(h: PyTree, at: tuple[PyTree, Any]) -> tuple[PyTree, Any]:
        return update(where_reset(at[1], start, h), at[0])

    if jax.tree.leaves(inputs)[0].shape[0] > 1:
        return jax.lax.scan(step, carry, (inputs, reset))
    carry, y = step(carry, jax.tree.map(lambda x: x[0], (inputs, reset)))
    return carry, jax.tree.map(lambda x: x[None], y)


def start_carry(memory: Memory, batch_shape: tuple[int, ...], start: PyTree | None) -> PyTree:
    """`start`, or what `init_carry` gives if it is None, for every sequence of a batch."""
    zero = memory.init_carry(batch_shape)
    if start is None:
        return zero
    return jax.tree.map(lambda s, z: jnp.broadcast_to(s, z.shape).astype(z.dtype), start, zero)


def where_reset(reset: B | None, start: PyTree, carry: PyTree) -> PyTree:
    """`start` where reset `(*B,)` is True and `carry` elsewhere, leaf by leaf."""
    if reset is None:
        return carry

    def pick(s: Array, h: Array) -> Array:
        return jnp.where(reset.reshape(reset.shape + (1,) * (h.ndim - reset.ndim)), s, h)

    return jax.tree.map(pick, start, carry)
