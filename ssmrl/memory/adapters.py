"""Carries as other code wants them: real numbers only, or cut off from the gradient."""

from typing import Any

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.shapes import PyTree


def real_view(carry: PyTree) -> PyTree:
    """The carry without complex numbers, for buffers and checkpoints that refuse them.

    A complex leaf `(..., P)` becomes `(..., P, 2)` of real and imaginary part; all else stays.
    """

    def real(x: Any) -> Any:
        return jnp.stack([x.real, x.imag], axis=-1) if jnp.iscomplexobj(x) else x

    return jax.tree.map(real, carry)


def complex_view(view: PyTree, like: PyTree) -> PyTree:
    """The carry whose `real_view` is `view`.

    Args:
        view: from `real_view`; the leaves may have more leading axes than those of `like`.
        like: a carry of this memory, or its `carry_spec()`: says which leaves are complex.

    Raises:
        UsageError: `view` is not the real view of a carry like `like`.
    """

    def back(x: Any, wanted: Any) -> Any:
        if not jnp.issubdtype(wanted.dtype, jnp.complexfloating):
            return x
        tail = (*wanted.shape, 2)
        if jnp.iscomplexobj(x) or x.shape[x.ndim - len(tail) :] != tail:
            raise UsageError(
                f"expected the real view (..., {', '.join(map(str, tail))}) of a complex carry, "
                f"real and imaginary part last; got {x.dtype} {x.shape}. Make it with real_view"
            )
        return jax.lax.complex(x[..., 0], x[..., 1])

    want: Any = jax.tree.structure(like)
    got: Any = jax.tree.structure(view)
    if got != want:
        raise UsageError(f"expected the real view of a carry {want}, got {got}")
    return jax.tree.map(back, view, like)


def require_real(carry: PyTree) -> PyTree:
    """The carry itself, for helpers of buffers that hold real numbers.

    Raises:
        UsageError: a leaf is complex.
    """
    for path, x in jax.tree_util.tree_leaves_with_path(carry):
        if jnp.iscomplexobj(x):
            raise UsageError(
                f"this buffer holds real numbers, but the carry{jax.tree_util.keystr(path)} is "
                f"{x.dtype} {x.shape}. Store real_view(carry), and read it with "
                "complex_view(view, memory.carry_spec())"
            )
    return carry


def detach(carry: PyTree) -> PyTree:
    """The carry as a constant: gradients stop here, as at the start of a chunk of a rollout."""
    return jax.tree.map(jax.lax.stop_gradient, carry)
