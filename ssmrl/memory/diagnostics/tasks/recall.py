"""Tasks that ask for something shown before: copying, induction, associative recall.

Copying is that of Arjovsky et al. (2016), selective copying and induction those of Gu and Dao
(Mamba, 2023, section 4.1), associative recall that of Ba et al. (2016) with one key and one
value per step.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssmrl.memory.diagnostics.tasks.base import Shown, Task, below, shown
from ssmrl.shapes import Key, PyTree, Scalar


@dataclass(frozen=True)
class Copy(Task):
    """`count` symbols, blanks, then the symbols are to be named in the order they came.

    The tokens are the symbols, a blank and the sign to begin, which is shown at the first of
    the last `count` steps. A longer episode is a longer delay.
    """

    length: int = 32
    count: int = 8
    symbols: int = 4

    def __post_init__(self) -> None:
        self.require("count", self.count >= 1, "at least 1")
        self.require("symbols", self.symbols >= 2, "at least 2")
        super().__post_init__()

    @property
    def shortest(self) -> int:
        return 2 * self.count

    @property
    def tokens(self) -> tuple[int, ...]:
        return (self.symbols + 2,)

    @property
    def outputs(self) -> int:
        return self.symbols

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        symbols = below(key, self.symbols, (self.count,))
        return (symbols, jnp.int32(0)), jnp.int32(self.length)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        symbols, placed = state
        place = self.places(key, placed, t)
        recall = t - (self.length - self.count)
        blank, go = jnp.int32(self.symbols), jnp.int32(self.symbols + 1)
        token = jnp.where(recall == 0, go, blank)
        token = jnp.where(place, symbols[jnp.minimum(placed, self.count - 1)], token)
        target = symbols[jnp.clip(recall, 0, self.count - 1)]
        return (symbols, placed + place.astype(jnp.int32)), shown(token, target, recall >= 0)

    def places(self, key: Key, placed: Scalar, t: Scalar) -> Scalar:
        """Whether step t shows the next symbol, () bool."""
        return t < self.count


@dataclass(frozen=True)
class SelectiveCopy(Copy):
    """`Copy` with the symbols at random steps among the blanks: which step counts, its content
    tells."""

    def places(self, key: Key, placed: Scalar, t: Scalar) -> Scalar:
        # every choice of steps equally likely: missing symbols / steps left (Knuth's method S)
        left = jnp.maximum(self.length - self.count - t, 0).astype(jnp.float32)
        missing = (self.count - placed).astype(jnp.float32)
        return jax.random.uniform(key) * left < missing


@dataclass(frozen=True)
class Induction(Task):
    """Random symbols; what followed the trigger is to be named when it is shown again.

    The trigger comes once at a random step, then at the last one, the only one scored.
    """

    length: int = 32
    symbols: int = 8

    def __post_init__(self) -> None:
        self.require("symbols", self.symbols >= 2, "at least 2")
        super().__post_init__()

    @property
    def shortest(self) -> int:
        return 3

    @property
    def tokens(self) -> tuple[int, ...]:
        return (self.symbols + 1,)

    @property
    def outputs(self) -> int:
        return self.symbols

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        key_at, key_answer = jax.random.split(key)
        at = below(key_at, self.length - 2)
        answer = below(key_answer, self.symbols)
        return (at, answer), jnp.int32(self.length)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        at, answer = state
        last = t == self.length - 1
        token = below(key, self.symbols)
        token = jnp.where((t == at) | last, jnp.int32(self.symbols), token)
        token = jnp.where(t == at + 1, answer, token)
        return state, shown(token, answer, last)


@dataclass(frozen=True)
class AssociativeRecall(Task):
    """`pairs` pairs of a key and a value, blanks, then every key again: name its value.

    A token is a key and a value side by side, each with one more number for "none". With
    `overwrite` as many random keys of the known ones get new values after the first round, and
    the last value counts: a memory that can only add cannot tell.
    """

    length: int = 32
    pairs: int = 4
    keys: int = 8
    values: int = 8
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.require("pairs", 1 <= self.pairs <= self.keys, f"1 to keys={self.keys}")
        self.require("values", self.values >= 2, "at least 2")
        super().__post_init__()

    @property
    def writes(self) -> int:
        """Steps that show a pair."""
        return self.pairs * (2 if self.overwrite else 1)

    @property
    def shortest(self) -> int:
        return self.writes + self.pairs

    @property
    def tokens(self) -> tuple[int, ...]:
        return (self.keys + 1, self.values + 1)

    @property
    def outputs(self) -> int:
        return self.values

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        key_known, key_asked = jax.random.split(key)
        known = jnp.argsort(jax.random.uniform(key_known, (self.keys,)))[: self.pairs]
        asked = known[jnp.argsort(jax.random.uniform(key_asked, (self.pairs,)))]
        return (known, asked, jnp.zeros(self.keys, jnp.int32)), jnp.int32(self.length)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        known, asked, table = state
        key_which, key_value = jax.random.split(key)
        again = below(key_which, self.pairs)
        value = below(key_value, self.values)
        query = t - (self.length - self.pairs)
        writes, asks = t < self.writes, query >= 0
        written = known[jnp.where(t < self.pairs, jnp.minimum(t, self.pairs - 1), again)]
        question = asked[jnp.clip(query, 0, self.pairs - 1)]
        table = table.at[written].set(jnp.where(writes, value, table[written]))
        none_k, none_v = jnp.int32(self.keys), jnp.int32(self.values)
        k = jnp.where(writes, written, jnp.where(asks, question, none_k))
        v = jnp.where(writes, value, none_v)
        return (known, asked, table), shown(jnp.stack([k, v]), table[question], asks)
