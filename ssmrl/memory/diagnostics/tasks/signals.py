"""Tasks on signals: a delay line, sampled regularly or not, and belief tracking."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.memory.diagnostics.tasks.base import Shown, Task, below, shown
from ssmrl.shapes import Array, Key, PyTree, Scalar


@dataclass(frozen=True)
class Delay(Task):
    """What a band-limited signal was `lag` units of time ago (Voelker et al. 2019).

    The signal is a sum of `tones` sines of variance 1/2, with random phases and frequencies up
    to `highest` cycles per unit of time. Steps are `rate` units apart; each sample is lost
    with probability `drop`, so the time to the next one shown, `dt`, is a geometric number of
    them. A memory that is told dt can keep time, another one cannot.
    """

    lag: float = 8.0
    tones: int = 3
    highest: float = 0.05
    rate: float = 1.0
    drop: float = 0.0

    kind: ClassVar[str] = "real"

    def __post_init__(self) -> None:
        self.require("lag", self.lag >= 0, "lag >= 0")
        self.require("tones", self.tones >= 1, "at least 1")
        self.require("highest", 0 < self.highest <= 0.5, "0 < highest <= 0.5")
        self.require("rate", self.rate > 0, "rate > 0")
        self.require("drop", 0 <= self.drop < 1, "0 <= drop < 1")
        super().__post_init__()

    @property
    def shortest(self) -> int:
        return int(np.ceil(self.lag / self.rate)) + 2

    @property
    def tokens(self) -> tuple[int, ...]:
        return ()

    @property
    def outputs(self) -> int:
        return 1

    @property
    def bound(self) -> float:
        return float(self.tones**0.5)

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        key_frequency, key_phase = jax.random.split(key)
        frequency = jax.random.uniform(key_frequency, (self.tones,)) * self.highest
        phase = jax.random.uniform(key_phase, (self.tones,))
        return (frequency, phase, jnp.zeros(())), jnp.int32(self.length)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        frequency, phase, now = state
        lost = jnp.zeros(())
        if self.drop:
            lost = jnp.floor(jnp.log1p(-jax.random.uniform(key)) / np.log(self.drop))
        dt = jnp.where(t == 0, 1.0, self.rate * (1 + lost))
        now = jnp.where(t == 0, 0.0, now + dt)

        def signal(time: Scalar) -> Array:
            turns = frequency * time + phase
            return jnp.sum(jnp.sin(2 * np.pi * turns), keepdims=True) / self.tones**0.5

        step = shown(signal(now), signal(now - self.lag), now >= self.lag)
        return (frequency, phase, now), step._replace(dt=dt)


@dataclass(frozen=True)
class Belief(Task):
    """The exact belief about the state of a hidden Markov chain, given what was seen so far.

    `model` numbers the random chain of `states` states and `observations` observations, which
    is the same in all episodes. The target is the forward filter's distribution (Rabiner
    1989), uniform before the first observation.
    """

    states: int = 4
    observations: int = 3
    model: int = 0

    kind: ClassVar[str] = "belief"

    def __post_init__(self) -> None:
        self.require("states", self.states >= 2, "at least 2")
        self.require("observations", self.observations >= 2, "at least 2")
        super().__post_init__()

    @property
    def tokens(self) -> tuple[int, ...]:
        return (self.observations,)

    @property
    def outputs(self) -> int:
        return self.states

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        key_state, key_length = jax.random.split(key)
        state = below(key_state, self.states)
        return (state, jnp.full(self.states, 1 / self.states)), self.any_length(key_length)

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        hidden, belief = state
        moves, sees = (jnp.asarray(x) for x in hidden_markov_model(self))
        key_move, key_see = jax.random.split(key)
        moved = jax.random.categorical(key_move, jnp.log(moves[hidden])).astype(jnp.int32)
        hidden = jnp.where(t == 0, hidden, moved)
        seen = jax.random.categorical(key_see, jnp.log(sees[hidden])).astype(jnp.int32)
        belief = jnp.where(t == 0, belief, belief @ moves) * sees[:, seen]
        belief = belief / jnp.sum(belief)
        return (hidden, belief), shown(seen, belief)


@cache
def hidden_markov_model(task: Belief) -> tuple[np.ndarray, np.ndarray]:
    """Transition `(states, states)` and observation `(states, observations)` probabilities.

    float32, every row sums to 1; the states are sticky, so that the past helps.
    """
    rng = np.random.default_rng(task.model)
    stay = 3.0 * np.eye(task.states)
    moves = np.exp(rng.normal(size=(task.states, task.states)) + stay)
    sees = np.exp(rng.normal(size=(task.states, task.observations)))
    rows = [x / x.sum(axis=1, keepdims=True) for x in (moves, sees)]
    return rows[0].astype(np.float32), rows[1].astype(np.float32)
