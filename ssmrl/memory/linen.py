"""A memory as a Flax Linen module; the carry stays an explicit argument."""

from flax import linen as nn

from ssmrl.memory.spec import Memory as Spec
from ssmrl.shapes import BF, BH, TB, TBF, TBH, B, PyTree


class Memory(nn.Module):
    """`carry, y = Memory(spec)(carry, u, reset)`; with `step=True` for one step.

    Both forms share the parameter subtree `memory`. Shapes and errors are those of
    `ssmrl.memory.Memory`.

    Attributes:
        spec: the memory, e.g. from `ssmrl.memory.make`.
        step: read `(*B, F)` instead of `(T, *B, F)`.
    """

    spec: Spec
    step: bool = False

    @nn.compact
    def __call__(
        self, carry: PyTree, u: TBF | BF, reset: TB | B | None = None
    ) -> tuple[PyTree, TBH | BH]:
        """u `(T, *B, F)` and reset `(T, *B)`, or without T when `step`."""
        params = self.param("memory", lambda key: self.spec.init(key, u.shape[-1]))
        read = self.spec.step if self.step else self.spec.apply
        return read(params, carry, u, reset)

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        """The carry before the first step."""
        return self.spec.init_carry(batch_shape)
