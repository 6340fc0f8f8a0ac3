"""What a task is: one episode, step by step; and whole batches of sequences made of it.

A task is defined once, by how an episode begins and what its next step shows. `generate` runs
many episodes in a row into the arrays that a memory is trained and tested on;
`ssmrl.envs.probe` makes an environment of the same task, for a policy.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.shapes import TB, TBF, Array, Key, PyTree, Scalar


class Shown(NamedTuple):
    """One step of an episode.

    Attributes:
        token: `(k,)` int32, one value for each entry of `Task.tokens`; or `(F,)` float32 where
            that is empty.
        target: the answer that is due at this step: () int32 or `(K,)` float32.
        scored: () bool, whether it counts.
        dt: () float32, time since the step before.
    """

    token: Array
    target: Array
    scored: Scalar
    dt: Scalar


class Sequences(NamedTuple):
    """Episodes in a row, for a memory: time-major, cut off where T ends.

    Attributes:
        u: `(T, B, F)` float32; one-hots side by side where tokens are shown.
        reset: `(T, B)` bool, the first step of each episode.
        target: `(T, B)` int32 or `(T, B, K)` float32.
        scored: `(T, B)` bool.
        dt: `(T, B)` float32, time since the step before; 1 wherever sampling is regular.
    """

    u: TBF
    reset: TB
    target: Array
    scored: TB
    dt: TB


@dataclass(frozen=True)
class Task:
    """A question that needs memory; the fields of a subclass are its options.

    Attributes:
        length: steps of the longest episode.
        kind: `class` (the target is one of `outputs` classes), `real` (`outputs` numbers) or
            `belief` (a distribution over `outputs` states).

    Raises:
        UsageError: an option out of range.
    """

    length: int = 64

    kind: ClassVar[str] = "class"

    def __post_init__(self) -> None:
        self.require("length", self.length >= self.shortest, f"at least {self.shortest}")

    @property
    def shortest(self) -> int:
        """The least length for which the question makes sense."""
        return 2

    @property
    def tokens(self) -> tuple[int, ...]:
        """Number of values of each entry of a token; empty where inputs are real."""
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        """K: number of classes, or width of a real target."""
        raise NotImplementedError

    @property
    def bound(self) -> float:
        """The largest absolute value of a real input or target."""
        return 1.0

    @property
    def in_dim(self) -> int:
        """F, the width of `Sequences.u`."""
        return sum(self.tokens) or 1

    def begin(self, key: Key) -> tuple[PyTree, Scalar]:
        """The hidden state before an episode, and the number of its steps, () int32."""
        raise NotImplementedError

    def show(self, key: Key, state: PyTree, t: Scalar) -> tuple[PyTree, Shown]:
        """Step t (() int32, from 0) of an episode, and the state after it."""
        raise NotImplementedError

    def any_length(self, key: Key) -> Scalar:
        """A number of steps between length / 2 and length."""
        shortest = max(1, self.length // 2)
        return shortest + below(key, self.length + 1 - shortest)

    def require(self, option: str, holds: bool, expected: str) -> None:
        """Refuse an option unless `holds`."""
        if not holds:
            raise UsageError(
                f"{option} of {type(self).__name__}: expected {expected}, got "
                f"{getattr(self, option)!r}"
            )


def shown(token: Array, target: Array, scored: Array | bool = True) -> Shown:
    """A step at regular times; a token of shape () becomes one of shape (1,)."""
    return Shown(jnp.atleast_1d(token), target, jnp.asarray(scored), jnp.ones(()))


def below(key: Key, bound: int, shape: tuple[int, ...] = ()) -> Array:
    """Random numbers in 0 .. bound - 1, int32; compiles to a third of `jax.random.randint`."""
    return jnp.floor(jax.random.uniform(key, shape) * bound).astype(jnp.int32)


class Progress(NamedTuple):
    """Where an episode stands: `t` steps of `duration` were shown, both () int32."""

    state: PyTree
    t: Scalar
    duration: Scalar

    @property
    def over(self) -> Scalar:
        """() bool, whether the last step was shown."""
        return self.t >= self.duration


def start(task: Task, key: Key) -> Progress:
    """A new episode of which nothing was shown yet."""
    state, duration = task.begin(key)
    return Progress(state, jnp.int32(0), duration)


def advance(task: Task, key: Key, progress: Progress) -> tuple[Progress, Shown]:
    """Show the next step."""
    state, step = task.show(key, progress.state, progress.t)
    return progress._replace(state=state, t=progress.t + 1), step


def generate(task: Task, key: Key, batch: int, steps: int | None = None) -> Sequences:
    """`batch` rows of episodes in a row, each `steps` long (by default 2 * length).

    Pure; jit it with `task`, `batch` and `steps` static.
    """
    steps = 2 * task.length if steps is None else steps

    def step(progress: Progress, key: Key) -> tuple[Progress, tuple[Shown, Scalar]]:
        key_start, key_show = jax.random.split(key)
        fresh = progress.over
        pick = partial(jnp.where, fresh)
        progress = jax.tree.map(pick, start(task, key_start), progress)
        progress, step = advance(task, key_show, progress)
        return progress, (step, fresh)

    def row(key: Key) -> tuple[Shown, TB]:
        key_start, key_steps = jax.random.split(key)
        over = start(task, key_start)._replace(duration=jnp.int32(0))
        return jax.lax.scan(step, over, jax.random.split(key_steps, steps))[1]

    rows = jax.vmap(row, out_axes=1)(jax.random.split(key, batch))
    (token, target, scored, dt), reset = rows
    return Sequences(features(task, token), reset, target, scored, dt)


def features(task: Task, token: Array) -> TBF:
    """What a memory reads of tokens `(..., k)`: one-hots side by side, float32 `(..., F)`."""
    if not task.tokens:
        return token.astype(jnp.float32)
    hot = [jax.nn.one_hot(token[..., i], n) for i, n in enumerate(task.tokens)]
    return jnp.concatenate(hot, axis=-1)


def score(task: Task, answers: Array, target: Array, scored: Array) -> Scalar:
    """How good answers `(..., K)` are where `scored` `(...)`: 1 is perfect, () float32.

    Classes: the fraction of right ones (the largest of K). Real targets: R^2. Beliefs: the
    fraction of what the belief tells beyond its mean, `1 - KL(target, softmax(answers)) /
    KL(target, mean target)`. The last two may be negative.
    """
    weight = scored.astype(jnp.float32)

    def mean(x: Array) -> Array:
        return jnp.sum(x * weight) / jnp.maximum(jnp.sum(weight), 1)

    if task.kind == "class":
        right = jnp.argmax(answers, axis=-1).astype(target.dtype) == target
        return mean(right.astype(jnp.float32))
    centre = jnp.sum(target * weight[..., None], axis=tuple(range(target.ndim - 1)), keepdims=True)
    centre = centre / jnp.maximum(jnp.sum(weight), 1)
    if task.kind == "real":
        error = jnp.sum((answers - target) ** 2, axis=-1)
        return 1 - mean(error) / mean(jnp.sum((target - centre) ** 2, axis=-1))
    log_target = jnp.log(jnp.maximum(target, 1e-12))
    missed = jnp.sum(target * (log_target - jax.nn.log_softmax(answers)), axis=-1)
    told = jnp.sum(target * (log_target - jnp.log(centre)), axis=-1)
    return 1 - mean(missed) / mean(told)
