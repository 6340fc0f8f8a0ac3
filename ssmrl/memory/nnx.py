"""A memory as a Flax NNX module; the carry stays an explicit argument."""

from typing import Any

import jax
from flax import nnx

from ssmrl.memory.spec import Memory as Spec
from ssmrl.memory.spec import Prepared
from ssmrl.shapes import BF, BH, TB, TBF, TBH, B, PyTree


class SSMParam(nnx.Param):
    """A parameter of the recurrence itself: lower learning rate, no weight decay."""


class FrozenParam(nnx.Param):
    """A parameter that training leaves as it is."""


class Memory(nnx.Module):
    """`carry, y = module(carry, u, reset)` for a sequence, `module.step(...)` for one step.

    The parameters are `nnx.Param`, those of the recurrence `SSMParam` and those that stay as
    they are `FrozenParam`; shapes and errors are those of `ssmrl.memory.Memory`.

    Args:
        spec: the memory, e.g. from `ssmrl.memory.make`.
        in_dim: width of the input.
        rngs: its `params` stream makes the parameters.
    """

    def __init__(self, spec: Spec, in_dim: int, *, rngs: nnx.Rngs) -> None:
        params = spec.init(rngs.params(), in_dim)
        kinds = {"ssm": SSMParam, "regular": nnx.Param, "frozen": FrozenParam}
        self.spec = spec
        self.leaves = nnx.data(
            jax.tree.map(lambda p, label: kinds[label](p), params, spec.labels(params))
        )

    @property
    def params(self) -> PyTree:
        """The parameters as the plain arrays that the spec's own functions take."""
        return jax.tree.map(
            lambda v: v[...], self.leaves, is_leaf=lambda v: isinstance(v, nnx.Variable)
        )

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        """The carry before the first step."""
        return self.spec.init_carry(batch_shape)

    def __call__(self, carry: PyTree, u: TBF, reset: TB | None = None) -> tuple[PyTree, TBH]:
        """Reads a sequence: u `(T, *B, F)`, reset `(T, *B)`."""
        return self.spec.apply(self.params, carry, u, reset)

    def prepare(self) -> Prepared:
        """Constants for many calls of `step` with the parameters as they are now."""
        return self.spec.prepare(self.params)

    def step(
        self, carry: PyTree, u: BF, reset: B | None = None, prepared: Any = None
    ) -> tuple[PyTree, BH]:
        """One step: u `(*B, F)`, reset `(*B,)`; `prepared` from `prepare`, or None."""
        return self.spec.step(self.params if prepared is None else prepared, carry, u, reset)
