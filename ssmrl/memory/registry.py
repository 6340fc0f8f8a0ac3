"""Memories by name: `make("s5", features=128, layers=2)`."""

import dataclasses
from typing import Any, get_type_hints

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.blocks import Block, Stack
from ssmrl.memory.cells.attention import WindowAttention
from ssmrl.memory.cells.cde import LinearCDE
from ssmrl.memory.cells.conv_s5 import ConvS5
from ssmrl.memory.cells.deltanet import DeltaNet, GatedDeltaNet
from ssmrl.memory.cells.elman import Elman
from ssmrl.memory.cells.ema import EMA
from ssmrl.memory.cells.ffm import FFM
from ssmrl.memory.cells.filters import HMM, Kalman
from ssmrl.memory.cells.gru import GRU
from ssmrl.memory.cells.gss import GSS
from ssmrl.memory.cells.h3 import H3, SMR
from ssmrl.memory.cells.hippo import HippoFouT, HippoLegS, HippoLegT
from ssmrl.memory.cells.hybrids import BlockState, HiSS, SeqBoat, Spade
from ssmrl.memory.cells.linear_attention import GLA, GateLoop, LinearAttention, RetNet
from ssmrl.memory.cells.liquid import Liquid
from ssmrl.memory.cells.lmu import LMU
from ssmrl.memory.cells.longhorn import Longhorn
from ssmrl.memory.cells.lru import LRU
from ssmrl.memory.cells.lssl import LSSL
from ssmrl.memory.cells.lstm import LSTM
from ssmrl.memory.cells.mamba import Mamba
from ssmrl.memory.cells.mamba2 import Mamba2
from ssmrl.memory.cells.mlp import MLP
from ssmrl.memory.cells.rg_lru import RGLRU
from ssmrl.memory.cells.rwkv import RWKV5, RWKV6
from ssmrl.memory.cells.rwkv4 import RWKV4
from ssmrl.memory.cells.s4 import S4
from ssmrl.memory.cells.s4d import DSS, S4D
from ssmrl.memory.cells.s5 import S5
from ssmrl.memory.spec import Memory

MEMORIES: dict[str, type[Memory]] = {
    "block_state": BlockState,
    "conv_s5": ConvS5,
    "deltanet": DeltaNet,
    "dss": DSS,
    "elman": Elman,
    "ema": EMA,
    "ffm": FFM,
    "gated_deltanet": GatedDeltaNet,
    "gateloop": GateLoop,
    "gla": GLA,
    "gru": GRU,
    "gss": GSS,
    "h3": H3,
    "hippo_fout": HippoFouT,
    "hippo_legs": HippoLegS,
    "hippo_legt": HippoLegT,
    "hiss": HiSS,
    "hmm": HMM,
    "kalman": Kalman,
    "linear_attention": LinearAttention,
    "linear_cde": LinearCDE,
    "liquid": Liquid,
    "lmu": LMU,
    "longhorn": Longhorn,
    "lru": LRU,
    "lssl": LSSL,
    "lstm": LSTM,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "mlp": MLP,
    "retnet": RetNet,
    "rg_lru": RGLRU,
    "rwkv4": RWKV4,
    "rwkv5": RWKV5,
    "rwkv6": RWKV6,
    "s4": S4,
    "s4d": S4D,
    "s5": S5,
    "seqboat": SeqBoat,
    "smr": SMR,
    "spade": Spade,
    "window_attention": WindowAttention,
}
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
