"""Memories by name: `make("s5", features=128, layers=2)`."""

import dataclasses
from typing import Any, get_type_hints

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.blocks import Block, Stack
from ssmrl.memory.cells.gru import GRU
from ssmrl.memory.cells.mlp import MLP
from ssmrl.memory.cells.s5 import S5
from ssmrl.memory.spec import Memory

MEMORIES: dict[str, type[Memory]] = {"s5": S5, "gru": GRU, "mlp": MLP}
"""The cells that `make` knows; each a frozen dataclass whose fields are its options."""


def options(name: str) -> dict[str, tuple[type, Any]]:
    """Every option of `make(name, ...)`: its type and its default.

    Raises:
        UsageError: unknown name.
    """
    if name not in MEMORIES:
        raise unknown("memory", name, MEMORIES)
    block = {k: (t, MEMORIES[name].block.get(k, v)) for k, (t, v) in _fields(Block).items()}
    return {"layers": (int, 2)} | _fields(MEMORIES[name]) | block


def make(name: str, **given: Any) -> Stack:
    """`layers` residual blocks around the cell `name`, behind a projection to its width.

    Args:
        name: a key of `MEMORIES`.
        **given: `layers`, the options of the cell (`features` for all of them, for S5 also
            `state`, `dt_min`, ...) and those of `Block` (`norm`, `activation`).

    Raises:
        UsageError: unknown name or option, or a value out of range.
    """
    known = options(name)
    for option, value in given.items():
        if option not in known:
            raise unknown(f"option of memory {name!r}", option, known)
        kind = known[option][0]
        if not isinstance(value, (int, float) if kind is float else kind) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise UsageError(
                f"memory {name!r} expects {option} of type {kind.__name__}, got {value!r}"
            )
    values = {option: default for option, (_, default) in known.items()} | given
    if values["layers"] < 1 or values["features"] < 1:
        raise UsageError(
            f"memory {name!r} needs layers >= 1 and features >= 1, got {values['layers']} and "
            f"{values['features']}"
        )
    cell = MEMORIES[name](**{k: values[k] for k in _fields(MEMORIES[name])})
    block = Block(cell, **{k: values[k] for k in _fields(Block)})
    return Stack((block,) * values["layers"])


def _fields(cls: type) -> dict[str, tuple[type, Any]]:
    """The fields of a dataclass that have a default, hence may be left out."""
    hints = get_type_hints(cls)
    return {
        f.name: (hints[f.name], f.default)
        for f in dataclasses.fields(cls)
        if f.default is not dataclasses.MISSING
    }
