"""Trains a memory on a task, and tests it on longer episodes. Needs optax: import it by name."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.diagnostics.tasks import Sequences, Task, generate, score
from ssmrl.memory.spec import Memory
from ssmrl.shapes import Array, Key, PyTree, Scalar

FACTORS = (1, 2, 4)


class Fit(NamedTuple):
    """Attributes:
    params: `{"memory": ..., "readout": ...}`.
    losses: (steps,) float64, of each minibatch.
    scores: at each episode length, see `tasks.score`: 1 is perfect.
    """

    params: PyTree
    losses: np.ndarray
    scores: dict[int, float]


def fit(
    mem: Memory,
    task: Task,
    key: Key,
    *,
    steps: int = 500,
    batch: int = 32,
    learning_rate: float = 3e-3,
    frozen: bool = False,
    use_dt: bool = False,
    factors: Sequence[int] = FACTORS,
) -> Fit:
    """Trains memory and affine readout by Adam on fresh sequences; everything in one program.

    The learning rate falls to zero along a cosine after a short warm-up; gradients are clipped
    to norm 1. Leaves that the memory labels `frozen` stay.

    Args:
        mem: the memory.
        task: what to learn.
        key: fixes everything.
        steps: minibatches.
        batch: sequences in each, `2 * task.length` steps long.
        learning_rate: the highest.
        frozen: train the readout alone.
        use_dt: tell the memory the time between steps.
        factors: test at these multiples of `task.length`, with the count of symbols, pairs, ...
            as it is.
    """
    key_memory, key_readout, key_train, key_test = jax.random.split(key, 4)
    start = {
        "memory": jax.jit(mem.init, static_argnums=1)(key_memory, task.in_dim),
        "readout": dense_init(key_readout, mem.out_dim, task.outputs),
    }
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, max(1, steps // 20), max(2, steps)
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    update = partial(_update, mem, task, optimizer, batch, frozen, use_dt)

    @jax.jit
    def train(params: PyTree, key: Key) -> tuple[PyTree, Array]:
        keys = jax.random.split(key, steps)
        (params, _), losses = jax.lax.scan(update, (params, optimizer.init(params)), keys)
        return params, losses

    params, losses = train(start, key_train)
    scores = length_generalisation(mem, params, key_test, task, factors=factors, use_dt=use_dt)
    return Fit(params, np.asarray(losses, np.float64), scores)


def _update(
    mem: Memory,
    task: Task,
    optimizer: optax.GradientTransformation,
    batch: int,
    frozen: bool,
    use_dt: bool,
    now: tuple[PyTree, PyTree],
    key: Key,
) -> tuple[tuple[PyTree, PyTree], Scalar]:
    """One minibatch: parameters and state of the optimiser after it, and its loss."""

    def loss(params: PyTree) -> Scalar:
        memory = jax.lax.stop_gradient(params["memory"]) if frozen else params["memory"]
        sequences = generate(task, key, batch)
        answer = answers(mem, params | {"memory": memory}, sequences, use_dt)
        return mean_loss(task, answer, sequences)

    params, state = now
    value, grads = jax.value_and_grad(loss)(params)
    labels = mem.labels(params["memory"])
    grads["memory"] = jax.tree.map(
        lambda g, label: jnp.zeros_like(g) if label == "frozen" else g, grads["memory"], labels
    )
    change, state = optimizer.update(grads, state, params)
    return (optax.apply_updates(params, change), state), value


def length_generalisation(
    mem: Memory,
    params: PyTree,
    key: Key,
    task: Task,
    *,
    factors: Sequence[int] = FACTORS,
    batch: int = 64,
    use_dt: bool = False,
) -> dict[int, float]:
    """The score of trained parameters on fresh episodes of `factors` times the length.

    Args:
        mem: the memory.
        params: `{"memory", "readout"}` as `fit` returns them.
        key: fixes the episodes.
        task: what was learned.
        factors: multiples of its length.
        batch: sequences at each length.
        use_dt: tell the memory the time between steps.
    """
    longer = [replace(task, length=task.length * factor) for factor in factors]
    return {t.length: evaluate(mem, params, key, t, batch=batch, use_dt=use_dt) for t in longer}


def evaluate(
    mem: Memory,
    params: PyTree,
    key: Key,
    task: Task,
    *,
    batch: int = 64,
    use_dt: bool = False,
) -> float:
    """The score of trained parameters on a task, which may differ from that of the training.

    Trained on `delay`, a memory is tested for the rate of sampling with `delay` at another
    `rate` or with `rate_jitter`, with and without `use_dt`.

    Args:
        mem: the memory.
        params: `{"memory", "readout"}` as `fit` returns them.
        key: fixes the episodes.
        task: what is asked.
        batch: sequences.
        use_dt: tell the memory the time between steps.
    """
    return float(_score(mem, task, batch, use_dt, params, key))


def answers(mem: Memory, params: PyTree, sequences: Sequences, use_dt: bool = False) -> Array:
    """The readout of the memory's outputs, `(T, B, outputs)`."""
    carry = mem.init_carry(sequences.reset.shape[1:])
    told = {"dt": sequences.dt} if use_dt else {}
    _, y = mem.apply(params["memory"], carry, sequences.u, sequences.reset, **told)
    return dense(params["readout"], y)


def mean_loss(task: Task, answer: Array, sequences: Sequences) -> Scalar:
    """Mean over scored steps of the cross-entropy, or of the squared error of real targets."""
    if task.kind == "real":
        each = jnp.sum((answer - sequences.target) ** 2, axis=-1)
    elif task.kind == "belief":
        each = -jnp.sum(sequences.target * jax.nn.log_softmax(answer), axis=-1)
    else:
        each = optax.softmax_cross_entropy_with_integer_labels(answer, sequences.target)
    scored = sequences.scored.astype(each.dtype)
    return jnp.sum(each * scored) / jnp.maximum(jnp.sum(scored), 1)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _score(mem: Memory, task: Task, batch: int, use_dt: bool, params: PyTree, key: Key) -> Scalar:
    sequences = generate(task, key, batch)
    answer = answers(mem, params, sequences, use_dt)
    return score(task, answer, sequences.target, sequences.scored)
