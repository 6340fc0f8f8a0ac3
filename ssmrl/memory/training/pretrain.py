"""Self-pretraining: a memory learns to predict the trajectories that it will act on.

Before the task, on its own data (Amos, Berant and Gupta 2024): much of what structured
initialisations give is learned here from any start, so compare memories after equal
pre-training.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import Memory
from ssmrl.memory.training.groups import optimizer
from ssmrl.shapes import TB, TBF, Array, Key, PyTree, Scalar

OBJECTIVES = ("causal", "masked")


class Pretrained(NamedTuple):
    """What `pretrain` returns.

    Attributes:
        params: of the memory; the head that predicted is dropped.
        losses: `(steps,)` float32, mean squared errors per predicted number.
    """

    params: PyTree
    losses: Array


def pretrain(
    mem: Memory,
    params: PyTree,
    u: TBF,
    reset: TB | None = None,
    *,
    key: Key,
    objective: str = "causal",
    mask_ratio: float = 0.3,
    steps: int = 500,
    batch: int = 32,
    learning_rate: float = 3e-3,
) -> Pretrained:
    """Fits a memory, and a linear head that is dropped, to predict its own inputs.

    Args:
        mem: the memory.
        params: to start from.
        u: `(T, N, F)` inputs of N trajectories.
        reset: `(T, N)` bool, None for none.
        key: chooses minibatches and masks.
        objective: `causal`: u[t + 1] from y[t] within an episode; `masked`: hidden u[t] from
            y[t], that is from what was shown before.
        mask_ratio: share of the inputs that `masked` hides, all their numbers set to zero.
        steps: updates by `optimizer(mem.labels(params), learning_rate)`.
        batch: trajectories in an update.
        learning_rate: of the regular parameters; half of it for the recurrence.

    Raises:
        UsageError: unknown objective; not a batch of sequences of at least two steps; a mask
            ratio outside (0, 1).
    """
    if objective not in OBJECTIVES:
        raise unknown("pre-training objective", objective, OBJECTIVES)
    if u.ndim != 3 or u.shape[0] < 2:
        raise UsageError(f"pretrain needs inputs (T >= 2, N, F), time first; got {u.shape}")
    if not 0 < mask_ratio < 1:
        raise UsageError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}")
    reset = jnp.zeros(u.shape[:2], bool) if reset is None else reset
    loss = partial(_causal if objective == "causal" else _masked, mem, mask_ratio=mask_ratio)
    key_head, key_steps = jax.random.split(key)
    start = {"memory": params, "head": dense_init(key_head, mem.out_dim, u.shape[-1])}
    rule = optimizer({"memory": mem.labels(params), "head": "regular"}, learning_rate)

    def update(state: PyTree, key: Key) -> tuple[PyTree, Scalar]:
        params, memory_of_rule = state
        key_pick, key_mask = jax.random.split(key)
        pick = jax.random.randint(key_pick, (batch,), 0, u.shape[1])
        error, grads = jax.value_and_grad(loss)(params, u[:, pick], reset[:, pick], key_mask)
        updates, memory_of_rule = rule.update(grads, memory_of_rule, params)
        return (optax.apply_updates(params, updates), memory_of_rule), error

    @jax.jit
    def run(state: PyTree) -> tuple[PyTree, Array]:
        return jax.lax.scan(update, state, jax.random.split(key_steps, steps))

    (fitted, _), losses = run((start, rule.init(start)))
    return Pretrained(fitted["memory"], losses)


def _predict(mem: Memory, params: PyTree, u: TBF, reset: TB) -> TBF:
    _, y = mem.apply(params["memory"], mem.init_carry(u.shape[1:-1]), u, reset)
    return dense(params["head"], y)


def _mean_error(predicted: TBF, u: TBF, counted: TB) -> Scalar:
    error = jnp.mean((predicted - u) ** 2, axis=-1)
    number = jnp.sum(counted, dtype=error.dtype)
    return jnp.sum(jnp.where(counted, error, 0.0)) / jnp.maximum(number, 1.0)


def _causal(mem: Memory, params: PyTree, u: TBF, reset: TB, key: Key, mask_ratio: float) -> Scalar:
    predicted = _predict(mem, params, u, reset)
    return _mean_error(predicted[:-1], u[1:], ~reset[1:])


def _masked(mem: Memory, params: PyTree, u: TBF, reset: TB, key: Key, mask_ratio: float) -> Scalar:
    hidden = jax.random.bernoulli(key, mask_ratio, reset.shape)
    predicted = _predict(mem, params, jnp.where(hidden[..., None], 0.0, u), reset)
    return _mean_error(predicted, u, hidden)
