"""Tasks that track the state of an automaton: one bit, sums, counters, brackets, groups.

They tell apart what a recurrence can express (Merrill et al. 2024, "The illusion of state";
Sarrof et al. 2024): a flip-flop needs a gate that depends on the input, parity one that can be
negative, brackets a stack, a group that is not solvable more than any diagonal recurrence.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssmrl.memory.diagnostics.tasks import groups
from ssmrl.memory.diagnostics.tasks.base import Shown, Task, below, shown
from ssmrl.shapes import Key, PyTree, Scalar


@dataclass(frozen=True)
class FlipFlop(Task):
    """Write, ignore or read a bit; at a read the bit last written is to be named.

    A token is one of the three instructions and a bit, which is 0 at reads. The first step
    writes; `ignore` is the probability of the distracting instruction, the others share the
    rest (Liu et al. 2023, "Exposing attention glitches with flip-flop language modeling").
    """

    ignore: float = 0.8

    def __post_init__(self) -> None:
        self.require("ignore", 0 <= self.ignore < 1, "0 <= ignore < 1")
        super().__post_init__()

    @property
    def tokens(self) -> tuple[int, ...]:
        return (3, 2)

    @property
    def outputs(self) -> int:
        return 2

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        return jnp.int32(0), self.any_length(key)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        write, ignore, read = jnp.int32(0), jnp.int32(1), jnp.int32(2)
        key_do, key_bit = jax.random.split(key)
        draw, bit = jax.random.uniform(key_do), below(key_bit, 2)
        active = jnp.where(draw < (1 + self.ignore) / 2, write, read)
        do = jnp.where(draw < self.ignore, ignore, active)
        do = jnp.where(t == 0, write, do)
        state = jnp.where(do == write, bit, state)
        bit = jnp.where(do == read, 0, bit)
        return state, shown(jnp.stack([do, bit]), state, do == read)


@dataclass(frozen=True)
class ModularSum(Task):
    """The sum so far of random numbers below `modulus`, modulo `modulus`; 2 is parity."""

    modulus: int = 2

    def __post_init__(self) -> None:
        self.require("modulus", self.modulus >= 2, "at least 2")
        super().__post_init__()

    @property
    def tokens(self) -> tuple[int, ...]:
        return (self.modulus,)

    @property
    def outputs(self) -> int:
        return self.modulus

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        return jnp.int32(0), self.any_length(key)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        token = below(key, self.modulus)
        state = (state + token) % self.modulus
        return state, shown(token, state)


@dataclass(frozen=True)
class EvenLength(Task):
    """Whether the prefix is in the language (aa)*: always the same letter, so a clock."""

    @property
    def tokens(self) -> tuple[int, ...]:
        return (1,)

    @property
    def outputs(self) -> int:
        return 2

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        return (), self.any_length(key)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        return state, shown(jnp.int32(0), t % 2)


@dataclass(frozen=True)
class Counters(Task):
    """`kinds` counters go up and down at random: which of them are below, at, above zero?

    Token 2i is a step up of counter i, 2i + 1 a step down. The target writes the signs (0
    below, 1 at, 2 above zero) as digits to base 3, the first counter's the lowest. With one
    kind this compares the numbers of two letters, with more it is their shuffle.
    """

    kinds: int = 1

    def __post_init__(self) -> None:
        self.require("kinds", self.kinds >= 1, "at least 1")
        super().__post_init__()

    @property
    def tokens(self) -> tuple[int, ...]:
        return (2 * self.kinds,)

    @property
    def outputs(self) -> int:
        return 3**self.kinds

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        return jnp.zeros(self.kinds, jnp.int32), self.any_length(key)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        token = below(key, 2 * self.kinds)
        state = state.at[token // 2].add(1 - 2 * (token % 2))
        digits = 3 ** jnp.arange(self.kinds, dtype=jnp.int32)
        return state, shown(token, jnp.sum((jnp.sign(state) + 1) * digits, dtype=jnp.int32))


@dataclass(frozen=True)
class BoundedDyck(Task):
    """Brackets of `kinds` kinds, nested at most `depth` deep: which one is to be closed next?

    Token i < kinds opens a bracket, kinds + i closes it; every prefix is legal. The target is
    0 if none is open, else 1 + the kind of the innermost (Hewitt et al. 2020).
    """

    kinds: int = 2
    depth: int = 4

    def __post_init__(self) -> None:
        self.require("kinds", self.kinds >= 1, "at least 1")
        self.require("depth", self.depth >= 1, "at least 1")
        super().__post_init__()

    @property
    def tokens(self) -> tuple[int, ...]:
        return (2 * self.kinds,)

    @property
    def outputs(self) -> int:
        return self.kinds + 1

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        return (jnp.zeros(self.depth + 1, jnp.int32), jnp.int32(0)), self.any_length(key)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        stack, height = state  # stack[h] is the innermost bracket at height h, stack[0] none
        key_open, key_kind = jax.random.split(key)
        opens = (jax.random.uniform(key_open) < 0.5) & (height < self.depth) | (height == 0)
        kind = below(key_kind, self.kinds)
        token = jnp.where(opens, kind, self.kinds + stack[height] - 1)
        height = height + jnp.where(opens, 1, -1)
        stack = stack.at[height].set(jnp.where(opens, kind + 1, stack[height]))
        return (stack, height), shown(token, stack[height])


@dataclass(frozen=True)
class GroupWord(Task):
    """The product so far of random elements of a finite group.

    Attributes:
        group: a name of `groups.GROUPS`: `Z_2`, `Z_60`, `S_3`, `A_4xZ_5`, `S_4`, `A_5`, `S_5`.
        elements: which ones are shown: `all`, or `transpositions` of a symmetric group.

    The target is the number of x_1 x_2 ... x_t in `groups.elements(group)`; number 0 is the
    identity.
    """

    group: str = "S_3"
    elements: str = "all"

    def __post_init__(self) -> None:
        groups.shown_elements(self.group, self.elements)
        super().__post_init__()

    @property
    def tokens(self) -> tuple[int, ...]:
        return (len(groups.shown_elements(self.group, self.elements)),)

    @property
    def outputs(self) -> int:
        return len(groups.elements(self.group))

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        return jnp.int32(0), self.any_length(key)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        token = below(key, self.tokens[0])
        element = jnp.asarray(groups.shown_elements(self.group, self.elements))[token]
        state = jnp.asarray(groups.products(self.group))[state, element]
        return state, shown(token, state)
