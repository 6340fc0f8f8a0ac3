"""The scan over any associative operation, with resets that select.

For recurrences that are not affine maps: running maxima, normalised products, log-domain sums.
The reset flag is a wrapper around the operation, `(f, x) . (g, y) = (f | g, y if g else x . y)`:
it selects and never multiplies, so it is associative whatever the operation is, and what came
before a reset cannot leak through as `0 * nan`. The state after a reset is folded into the
elements beforehand; adding it inside the operation, as some resettable scans do, is associative
for a start of zero only.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.backends import by_platform
from ssmrl.memory.spec import cell_scan, where_reset
from ssmrl.shapes import TB, PyTree

Operation = Callable[[PyTree, PyTree], PyTree]

SCANS = ("auto", "associative", "sequential")


def semigroup_scan(
    op: Operation,
    elements: PyTree,
    first: PyTree,
    *,
    reset: TB | None = None,
    start: PyTree | None = None,
    backend: str = "auto",
) -> PyTree:
    """All states of `x[t] = op(start if reset[t] else x[t-1], elements[t])`, `x[-1] = first`.

    Args:
        op: `op(earlier, later)`, associative, pointwise over all leading axes.
        elements: pytree of arrays `(T, *B, ...)`; states are of the same kind.
        first: the state before the first step, `(*B, ...)`.
        reset: `(T, *B)` bool, True at t drops what came before step t; None for no resets.
        start: the state after a reset, shaped like `first`; needed where there are resets.
        backend: `sequential` (a loop), `associative` (logarithmic depth) or `auto`: sequential
            on CPU, associative on accelerators from 64 steps on.

    Returns:
        The states after every step, shaped like `elements`. Differentiable if op is.

    Raises:
        UsageError: unknown backend; resets without a start or of another shape.
    """
    if backend not in SCANS:
        raise unknown("scan backend", backend, SCANS)
    lead = jax.tree.leaves(elements)[0].shape
    if reset is not None:
        if start is None:
            raise UsageError("a scan with resets needs the state that they go back to: start=")
        if reset.dtype != jnp.bool_ or reset.shape != lead[: reset.ndim]:
            raise UsageError(
                f"reset must be bool of shape (T, *B), the leading axes of elements {lead}; got "
                f"{reset.dtype} {reset.shape}. Is the input batch-major? Time comes first"
            )

    def loop(first: PyTree, start: PyTree, reset: Any, elements: PyTree) -> PyTree:
        def step(x: PyTree, element: PyTree) -> tuple[PyTree, PyTree]:
            x = op(x, element)
            return x, x

        return cell_scan(step, first, elements, reset, start)[1]

    def tree(first: PyTree, start: PyTree, reset: Any, elements: PyTree) -> PyTree:
        return _associative(op, elements, first, reset, start)

    arguments = (first, start, reset, elements)
    if backend == "auto" and lead[0] > 1:
        return _by_platform(loop, tree, arguments)
    return (tree if backend == "associative" else loop)(*arguments)


def _by_platform(loop: Any, tree: Any, arguments: tuple[Any, ...]) -> PyTree:
    """`backends.by_platform` for pytrees: its arguments are arrays, the last leading with T."""
    leaves, shape = jax.tree.flatten(arguments)

    def of_leaves(solve: Any) -> Any:
        return lambda *x, **_: solve(*jax.tree.unflatten(shape, x[: len(leaves)]))

    return by_platform(of_leaves(loop), of_leaves(tree), *leaves, False)


def _associative(
    op: Operation, elements: PyTree, first: PyTree, reset: TB | None, start: PyTree
) -> PyTree:
    """All prefixes in logarithmic depth; every start is folded into its element beforehand."""
    head = jax.tree.map(lambda x: x[0], elements)
    before = first if reset is None else where_reset(reset[0], start, first)
    if reset is not None:
        fresh = jax.tree.map(lambda s, e: jnp.broadcast_to(s, e.shape), start, elements)
        elements = where_reset(reset, op(fresh, elements), elements)
    elements = jax.tree.map(lambda x, e: x.at[0].set(e), elements, op(before, head))
    if reset is None:
        return lax.associative_scan(op, elements)
    return lax.associative_scan(flagged(op), (reset, elements))[1]


def flagged(op: Operation) -> Operation:
    """The operation on pairs (flag, element) where a flagged element forgets what came before."""

    def select(earlier: PyTree, later: PyTree) -> PyTree:
        (f, x), (g, y) = earlier, later
        return f | g, where_reset(g, y, op(x, y))

    return select
