"""No memory at all: the control that every claim about memory needs."""

from dataclasses import dataclass

from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import Memory, Reading
from ssmrl.shapes import TBF, TBH, Key, PyTree


@dataclass(frozen=True)
class MLP(Memory):
    """`y[t] = W u[t] + bias`. The carry is the empty tuple.

    Attributes:
        features: H, width of the output.
    """

    features: int = 64

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        return dense_init(key, in_dim, self.features)

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> tuple[()]:
        return ()

    def read(
        self, constants: PyTree, carry: tuple[()], u: TBF, reading: Reading
    ) -> tuple[tuple[()], TBH]:
        return carry, dense(constants, u)
