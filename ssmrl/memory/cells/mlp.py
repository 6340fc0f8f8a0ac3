"""No memory at all: the control that every claim about memory needs."""

from dataclasses import dataclass

from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import Memory, Prepared, check_input
from ssmrl.shapes import BF, BH, TB, TBF, TBH, B, Key, PyTree


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

    def apply(
        self, params: PyTree, carry: tuple[()], u: TBF, reset: TB | None = None
    ) -> tuple[tuple[()], TBH]:
        check_input(u, reset, carry, (), time=1)
        return carry, dense(params, u)

    def step(
        self, params: PyTree | Prepared, carry: tuple[()], u: BF, reset: B | None = None
    ) -> tuple[tuple[()], BH]:
        check_input(u, reset, carry, (), time=0)
        return carry, dense(self.constants(params), u)
