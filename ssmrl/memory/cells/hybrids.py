"""Presets made by combination: two paces, and a state-space memory with local attention."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.memory.blocks import Stack, layer_norm
from ssmrl.memory.cells.attention import WindowAttention
from ssmrl.memory.cells.s5 import S5
from ssmrl.memory.combine import Combination, Parallel
from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.hierarchy import Hierarchical
from ssmrl.memory.spec import Memory, Reading
from ssmrl.memory.wrap import Wrapped
from ssmrl.shapes import TBF, TBH, Key, PyTree


class Mixed(Wrapped):
    """A combination whose output a linear map brings back to the width `features`."""

    features: int
    halves_normed: ClassVar[bool] = False

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        key_memory, key_mix = jax.random.split(key)
        mix = dense_init(key_mix, self.memory.out_dim, self.features)
        return {**super().init(key_memory, in_dim), "mix": mix}

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        carry, y = self.memory.read(constants["memory"].constants, carry, u, reading)
        if self.halves_normed:
            one, other = jnp.split(y, 2, axis=-1)
            y = jnp.concatenate([layer_norm(one), layer_norm(other)], axis=-1)
        return carry, dense(constants["mix"], y)


@dataclass(frozen=True)
class HiSS(Mixed):
    """S5 within spans of `every` steps, below S5 that reads a span at a time (Bhirangi et al.
    2024): `y = W [lower[t], upper] + bias`, see `Hierarchical`.

    Attributes:
        features: H, width of input and output.
        state: real-equivalent state size of either level.
        every: steps in a span, counted from the last reset.
    """

    features: int = 64
    state: int = 64
    every: int = 10

    capabilities: ClassVar[frozenset[str]] = S5.capabilities & {"dt"} | {"counter"}

    @property
    def memory(self) -> Memory:  # type: ignore[override]
        level = S5(features=self.features, state=self.state)
        return Hierarchical(level, level, self.every)


@dataclass(frozen=True)
class Spade(Mixed):
    """S5 beside attention to the last inputs: `y = W [LN(attention(u)), LN(ssm(u))] + bias`
    (SPADE, Zuo et al. 2022; there the layers above have attention alone).

    Attributes:
        features: H, width of input and output; a multiple of `heads`.
        state: real-equivalent state size of S5.
        heads, window: of the attention.
    """

    features: int = 64
    state: int = 64
    heads: int = 4
    window: int = 32

    halves_normed: ClassVar[bool] = True

    @property
    def memory(self) -> Memory:  # type: ignore[override]
        local = WindowAttention(self.features, self.heads, self.window)
        return Parallel((local, S5(features=self.features, state=self.state)))


@dataclass(frozen=True)
class BlockState(Mixed):
    """Attention to the last inputs and to the last outputs of S5, which summarise all before
    them (Block-State Transformer, Fathi et al. 2023, single-head variant).

    `y = W [LN(attention(u)), LN(attention(ssm(u)))] + bias`. The windows slide instead of
    falling into blocks, and the second attention asks with S5's outputs as well.

    Attributes:
        features: H, width of input and output; a multiple of `heads`.
        state: real-equivalent state size of S5.
        heads, window: of the attention to the inputs.
        contexts: outputs of S5 attended to at a time.
    """

    features: int = 64
    state: int = 64
    heads: int = 4
    window: int = 32
    contexts: int = 8

    halves_normed: ClassVar[bool] = True

    @property
    def memory(self) -> Memory:  # type: ignore[override]
        local = WindowAttention(self.features, self.heads, self.window)
        over_states = WindowAttention(self.features, self.heads, self.contexts)
        ssm = S5(features=self.features, state=self.state)
        return Parallel((local, Stack((ssm, over_states))))


@dataclass(frozen=True)
class SeqBoat(Combination):
    """Attention only where S5 asks for it (sparse modular activation, Ren et al. 2023).

    `h = silu(ssm(u))`; `p = softmax(W_g h / 0.3)` over (off, on); where p is for on, the input
    joins the window and attends to the last `window` such inputs, `y = h + p attention(u)`;
    elsewhere `y = h`. The gate learns through p. The carry is (S5's, the attention's).

    Attributes:
        features: H, width of input and output; a multiple of `heads`.
        state: real-equivalent state size of S5.
        heads, window: of the attention.
    """

    features: int = 64
    state: int = 64
    heads: int = 4
    window: int = 32

    capabilities: ClassVar[frozenset[str]] = frozenset({"selective"})

    @property
    def members(self) -> tuple[S5, WindowAttention]:  # type: ignore[override]
        attention = WindowAttention(self.features, self.heads, self.window)
        return S5(features=self.features, state=self.state), attention

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        key_members, key_gate = jax.random.split(key)
        gate = dense_init(key_gate, self.features, 2)
        return {**super().init(key_members, in_dim), "gate": gate}

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        ssm, attention = self.members
        of_ssm, of_attention = (c.constants for c in constants["members"])
        starts = reading.start or (None, None)
        state, h = ssm.read(of_ssm, carry[0], u, reading._replace(start=starts[0]))
        h = jax.nn.silu(h)
        off, on = jnp.moveaxis(dense(constants["gate"], h) / 0.3, -1, 0)
        window, y = attention.attend(
            of_attention, carry[1], u, reading._replace(start=starts[1]), on > off
        )
        return (state, window), h + jax.nn.sigmoid(on - off)[..., None] * y
