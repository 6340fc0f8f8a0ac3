"""What a memory is: a frozen specification with pure functions; the carry is always explicit.

`Memory` is the protocol every agent talks to. `LinearMemory` derives all of it for a linear
recurrence from `init`, `elements` and `readout`; `CellMemory` for a non-linear cell from
`init`, `inputs`, `update`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.scan import affine_scan
from ssmrl.shapes import BF, BH, BP, TB, TBF, TBH, TBP, Array, B, Key, PyTree


@partial(jax.tree_util.register_dataclass, data_fields=["constants"], meta_fields=[])
@dataclass(frozen=True)
class Prepared:
    """Constants that `Memory.prepare` derived from parameters; `step` takes them in their place."""

    constants: PyTree


class Memory:
    """A recurrent memory: hashable and without state of its own.

    Sequences are time-major, `(T, *B, F)`; `reset[t]` is True iff `u[t]` is the first input
    of a new episode, and drops the carry before u[t] is read.
    """

    out_dim: int  # H, the width of y

    ssm_params: ClassVar[tuple[str, ...]] = ()
    """Top-level parameters of the recurrence itself: lower learning rate, no weight decay."""

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Parameters, float32, for inputs of width `in_dim`."""
        raise NotImplementedError

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        """The carry before the first step; each leaf leads with `batch_shape`."""
        raise NotImplementedError

    def apply(
        self, params: PyTree, carry: PyTree, u: TBF, reset: TB | None = None
    ) -> tuple[PyTree, TBH]:
        """Reads a sequence, in parallel over time where the recurrence allows it.

        Args:
            params: from `init`.
            carry: from `init_carry(u.shape[1:-1])` or an earlier call.
            u: `(T, *B, in_dim)` floating point.
            reset: `(T, *B)` bool, or None for no resets.

        Returns:
            The carry after the last step and the outputs `(T, *B, out_dim)`.

        Raises:
            UsageError: shapes or dtypes that do not fit together.
        """
        raise NotImplementedError

    def step(
        self, params: PyTree | Prepared, carry: PyTree, u: BF, reset: B | None = None
    ) -> tuple[PyTree, BH]:
        """One step of `apply`, for acting: u `(*B, in_dim)`, reset `(*B,)`.

        Takes what `prepare(params)` returned in place of params.
        """
        raise NotImplementedError

    def prepare(self, params: PyTree) -> Prepared:
        """What `step` would compute from params at every call, computed once.

        Valid for these params only: prepare again after an update.
        """
        return Prepared(params)

    def labels(self, params: PyTree) -> PyTree:
        """`"ssm"` or `"regular"` for every leaf of params, for `optax.multi_transform`."""

        def label(path: tuple[Any, ...], _: Array) -> str:
            return "ssm" if path[0].key in self.ssm_params else "regular"

        return jax.tree_util.tree_map_with_path(label, params)

    def constants(self, params: PyTree | Prepared) -> PyTree:
        """The constants inside a `Prepared`, prepared here if params are given."""
        return (params if isinstance(params, Prepared) else self.prepare(params)).constants


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
        """a and b of `affine_scan` for inputs `(..., F)`; pointwise in time."""
        raise NotImplementedError

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        """Outputs `(..., H)` from states `(..., P)` and inputs `(..., F)`; pointwise in time."""
        raise NotImplementedError

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    @property
    def backend(self) -> str:
        """The backend of `affine_scan`."""
        return "auto"

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BP:
        return jnp.zeros((*batch_shape, self.state), self.state_dtype)

    def apply(
        self, params: PyTree, carry: Array, u: TBF, reset: TB | None = None
    ) -> tuple[Array, TBH]:
        check_input(u, reset, carry, jax.eval_shape(lambda: self.init_carry(u.shape[1:-1])), time=1)
        constants = self.constants(params)
        a, b = self.elements(constants, u)
        x = affine_scan(a, b, carry, reset=reset, backend=self.backend)
        return (x[-1] if u.shape[0] else carry), self.readout(constants, x, u)

    def step(
        self, params: PyTree | Prepared, carry: Array, u: BF, reset: B | None = None
    ) -> tuple[Array, BH]:
        check_input(u, reset, carry, jax.eval_shape(lambda: self.init_carry(u.shape[:-1])), time=0)
        constants = self.constants(params)
        a, b = self.elements(constants, u)
        if reset is not None:
            carry = jnp.where(reset[..., None], jnp.zeros_like(carry), carry)
        x = a.reshape((1,) * (b.ndim - a.ndim) + a.shape) * carry + b
        return x, self.readout(constants, x, u)


class CellMemory(Memory):
    """A memory whose next state is any function of the last one: read step by step.

    A subclass gives `init`, `init_carry`, `inputs` (all that does not need the state, done for
    the whole sequence at once) and `update`.
    """

    def inputs(self, params: PyTree, u: TBF) -> PyTree:
        """The part of a step that depends on u alone; pointwise in time."""
        raise NotImplementedError

    def update(self, params: PyTree, carry: PyTree, inputs: PyTree) -> tuple[PyTree, BH]:
        """One step: next carry and output."""
        raise NotImplementedError

    def apply(
        self, params: PyTree, carry: PyTree, u: TBF, reset: TB | None = None
    ) -> tuple[PyTree, TBH]:
        start = self.init_carry(u.shape[1:-1])
        check_input(u, reset, carry, start, time=1)
        constants = self.constants(params)

        def step(h: PyTree, inputs: tuple[PyTree, Any]) -> tuple[PyTree, BH]:
            return self.update(constants, where_reset(inputs[1], start, h), inputs[0])

        return jax.lax.scan(step, carry, (self.inputs(constants, u), reset))

    def step(
        self, params: PyTree | Prepared, carry: PyTree, u: BF, reset: B | None = None
    ) -> tuple[PyTree, BH]:
        start = self.init_carry(u.shape[:-1])
        check_input(u, reset, carry, start, time=0)
        constants = self.constants(params)
        return self.update(constants, where_reset(reset, start, carry), self.inputs(constants, u))


def where_reset(reset: B | None, start: PyTree, carry: PyTree) -> PyTree:
    """`start` where reset `(*B,)` is True and `carry` elsewhere, leaf by leaf."""
    if reset is None:
        return carry

    def pick(s: Array, h: Array) -> Array:
        return jnp.where(reset.reshape(reset.shape + (1,) * (h.ndim - reset.ndim)), s, h)

    return jax.tree.map(pick, start, carry)
