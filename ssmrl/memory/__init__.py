"""Resettable memory behind one interface, to plug into any policy.

    mem = ssmrl.memory.make("s5", features=64, layers=2)
    params = mem.init(key, in_dim)
    carry = mem.init_carry((batch,))
    carry, y = mem.apply(params, carry, u, reset)         # (T, batch, in_dim), parallel in time
    carry, y_t = mem.step(params, carry, u_t, reset_t)    # (batch, in_dim), for acting

The core needs jax and numpy only. `ssmrl.memory.nnx` and `ssmrl.memory.linen` wrap a memory
as a Flax module; import them by name.
"""

from ssmrl.memory.adapters import complex_view, detach, real_view, require_real
from ssmrl.memory.blocks import Block, Stack
from ssmrl.memory.cells.gru import GRU
from ssmrl.memory.cells.lru import LRU
from ssmrl.memory.cells.mlp import MLP
from ssmrl.memory.cells.s5 import S5
from ssmrl.memory.combine import Bidirectional, Parallel
from ssmrl.memory.hierarchy import Hierarchical
from ssmrl.memory.registry import MEMORIES, make, options
from ssmrl.memory.scan import affine_scan
from ssmrl.memory.semigroup import semigroup_scan
from ssmrl.memory.spec import CellMemory, LinearMemory, Memory, Prepared
from ssmrl.memory.training.groups import optimizer
from ssmrl.memory.wrap import LearnedStart, WithOffset, from_cell

__all__ = [
    "GRU",
    "LRU",
    "MEMORIES",
    "MLP",
    "S5",
    "Bidirectional",
    "Block",
    "CellMemory",
    "Hierarchical",
    "LearnedStart",
    "LinearMemory",
    "Memory",
    "Parallel",
    "Prepared",
    "Stack",
    "WithOffset",
    "affine_scan",
    "complex_view",
    "detach",
    "from_cell",
    "make",
    "optimizer",
    "options",
    "real_view",
    "require_real",
    "semigroup_scan",
]
