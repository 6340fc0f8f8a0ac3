"""A memory as a Flax Linen module; the carry stays an explicit argument."""

from flax import linen as nn

from ssmrl.memory.spec import Memory as Spec
from ssmrl.shapes import BF, BH, TB, TBF, TBH, B, Key, PyTree


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


class RNNCell(nn.RNNCellBase):
    """A memory as a cell of Flax: `carry, y = cell(carry, u)`, one step, no resets.

    For code that takes any Flax cell, as `flax.linen.RNN(cell, time_major=True)` does. That
    loops over time; `Memory` reads a sequence in parallel.

    Attributes:
        spec: the memory.
    """

    spec: Spec

    @nn.compact
    def __call__(self, carry: PyTree, inputs: BF) -> tuple[PyTree, BH]:
        """inputs `(*B, F)`."""
        params = self.param("memory", lambda key: self.spec.init(key, inputs.shape[-1]))
        return self.spec.step(params, carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> PyTree:
        """The carry before the first step, for inputs of shape `(*B, F)`."""
        return self.spec.init_carry(input_shape[:-1])

    @property
    def num_feature_axes(self) -> int:
        return 1


def as_rnn_cell(mem: Spec) -> RNNCell:
    """A memory by the protocol of Flax's recurrent cells."""
    return RNNCell(mem)
