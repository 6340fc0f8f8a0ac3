"""What recurrent networks share: affine maps of the input and of the last output.

Backwards in time the loop carries the gradient of the state alone and hands out those of the
gates; the gradients of the recurrent kernels follow from them after the loop, as products over
all steps at once (Appleyard et al. 2016, section 3).
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.memory.dense import along_last, dense_init, matmul
from ssmrl.memory.spec import (
    CellMemory,
    Prepared,
    Reading,
    cell_scan,
    in_chunks,
    start_carry,
    where_reset,
)
from ssmrl.shapes import BH, TB, TBF, TBH, Key, PyTree


@dataclass(frozen=True)
class GatedMemory(CellMemory):
    """Gates read `W u + b` of the input and `R h` of the last output; base class.

    A subclass says in `advance` what it makes of them. The maps are kept apart: slices of one
    wide product cost more on a CPU than the product itself, as what reads them is not vectorised.

    Attributes:
        features: H, width of state and output.
    """

    features: int = 64

    gates: ClassVar[int] = 1
    apart: ClassVar[int] = 0
    """How many of the last gates get what they read as two arrays instead of the sum."""

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Input kernels lecun-normal, recurrent kernels orthogonal per gate, biases zero."""
        key_w, key_r = jax.random.split(key)
        h, keys = self.features, jax.random.split(key_r, self.gates)
        orthogonal = jax.nn.initializers.orthogonal()
        return {
            "input": dense_init(key_w, in_dim, self.gates * h),
            "R": jnp.concatenate([orthogonal(k, (h, h)) for k in keys], axis=1),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return jnp.zeros((*batch_shape, self.features))

    def prepare(self, params: PyTree) -> Prepared:
        """The kernels and biases of each gate."""
        parts = {"R": params["R"], "W": params["input"]["kernel"], "b": params["input"]["bias"]}
        each = {name: jnp.split(x, self.gates, axis=-1) for name, x in parts.items()}
        return Prepared({**params, **each})

    def inputs(self, constants: PyTree, u: TBF) -> list[TBH]:
        """What each gate reads of the input."""
        affine = [matmul(u, w) for w in constants["W"]]
        return [x + along_last(b, x) for x, b in zip(affine, constants["b"], strict=True)]

    def recurrent(self, constants: PyTree, h: BH) -> list[BH]:
        """What each gate reads of the last output, an affine map of it."""
        return [matmul(h, kernel) for kernel in constants["R"]]

    def output(self, carry: PyTree) -> BH:
        """The output, which is part of the carry after it."""
        return carry

    def advance(self, carry: PyTree, read: list[BH]) -> PyTree:
        """The next carry from what the gates read (two for each of the last `apart`)."""
        raise NotImplementedError

    def joined(self, constants: PyTree, carry: PyTree, inputs: list[BH]) -> list[BH]:
        """What `advance` reads: sums, then of the last `apart` gates first inputs, then outputs."""
        through, n = self.recurrent(constants, self.output(carry)), self.gates - self.apart
        sums = [x + r for x, r in zip(inputs[:n], through[:n], strict=True)]
        return sums + inputs[n:] + through[n:]

    def update(self, constants: PyTree, carry: PyTree, inputs: list[BH]) -> tuple[PyTree, BH]:
        carry = self.advance(carry, self.joined(constants, carry, inputs))
        return carry, self.output(carry)

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        def chunk(carry: PyTree, u: TBF, reading: Reading) -> tuple[PyTree, TBH]:
            given, inputs = reading.start is not None, self.inputs(constants, u)
            start = start_carry(self, u.shape[1:-1], reading.start) if given else None
            scan = _scan if u.shape[0] > 1 else _loop
            return scan(self, constants, carry, inputs, reading.reset, start)

        return in_chunks(chunk, carry, u, reading)


def _loop(
    cell: GatedMemory,
    constants: PyTree,
    carry: PyTree,
    inputs: list[TBH],
    reset: TB | None,
    start: PyTree | None,
) -> tuple[PyTree, TBH]:
    """The last carry and all outputs; without a start resets go back to zero."""
    update = partial(cell.update, constants)
    return cell_scan(update, carry, inputs, reset, _or_zero(start, carry))


_scan = jax.custom_vjp(_loop, nondiff_argnums=(0,))


def _or_zero(start: PyTree | None, carry: PyTree) -> PyTree:
    return jax.tree.map(jnp.zeros_like, carry) if start is None else start


def _forward(
    cell: GatedMemory,
    constants: PyTree,
    carry: PyTree,
    inputs: list[TBH],
    reset: TB | None,
    start: PyTree | None,
) -> tuple[tuple[PyTree, TBH], PyTree]:
    """`_loop` that saves of every step the carry before it and what the gates read."""

    def update(before: PyTree, inputs: list[BH]) -> tuple[PyTree, tuple[BH, PyTree, list[BH]]]:
        read = cell.joined(constants, before, inputs)
        after = cell.advance(before, read)
        return after, (cell.output(after), before, read)

    end, (y, before, read) = cell_scan(update, carry, inputs, reset, _or_zero(start, carry))
    return (end, y), (constants, before, read, reset, start)


def _backward(cell: GatedMemory, saved: PyTree, grads: tuple[PyTree, TBH]) -> PyTree:
    constants, before, read, reset, start = saved
    n = cell.gates - cell.apart

    def split(read: list[BH]) -> tuple[list[BH], list[BH]]:
        """Gradients of inputs and of recurrent maps from those of what the gates read."""
        return read[: cell.gates], read[:n] + read[cell.gates :]

    def advance(before: PyTree, read: list[BH]) -> tuple[PyTree, BH]:
        after = cell.advance(before, read)
        return after, cell.output(after)

    def step(now: PyTree, at: PyTree) -> tuple[PyTree, list[BH]]:
        (grad, grad_start), (before, read, grad_y, reset) = now, at
        _, pull = jax.vjp(advance, before, read)
        grad, grad_read = pull((grad, grad_y))
        _, pull = jax.vjp(lambda h: cell.recurrent(constants, cell.output(h)), before)
        grad = jax.tree.map(jnp.add, grad, pull(split(grad_read)[1])[0])
        zero = jax.tree.map(jnp.zeros_like, grad)
        if grad_start is not None:
            ended = where_reset(reset, grad, zero)
            grad_start = jax.tree.map(jnp.add, grad_start, ended)
        return (where_reset(reset, zero, grad), grad_start), grad_read

    grad_end, grad_y = grads
    grad_start = None if start is None else jax.tree.map(jnp.zeros_like, start)
    series = (before, read, grad_y, reset)
    (grad, grad_start), read = jax.lax.scan(step, (grad_end, grad_start), series, reverse=True)
    grad_inputs, grad_through = split(read)
    _, pull = jax.vjp(lambda c: cell.recurrent(c, cell.output(before)), constants)
    return pull(grad_through)[0], grad, grad_inputs, None, grad_start


_scan.defvjp(_forward, _backward)
