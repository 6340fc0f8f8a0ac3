"""Parameter groups and pre-training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.training.pretrain import pretrain
from tests.memory.test_contract import jit

S5 = memory.S5(features=4, state=4)


@pytest.fixture(autouse=True)
def strict_promotion():
    """Optax promotes inside, unlike memory code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("raise"):
        yield


def test_the_recurrence_has_its_own_rate_and_never_decays():
    params = jit(S5.init, static_argnums=1)(jax.random.key(0), 4)
    labels = S5.labels(params)
    rule = memory.optimizer(labels, 0.1, 0.01, weight_decay=0.5)
    state = rule.init(params)
    for scale in (0.0, 1.0):
        grads = jax.tree.map(lambda x, scale=scale: jnp.full_like(x, scale), params)
        updates, _ = jit(rule.update)(grads, state, params)
        for name, label in labels.items():
            decay = 0.05 * params[name] if label == "regular" else 0.0
            rate = 0.1 if label == "regular" else 0.01
            np.testing.assert_allclose(updates[name], -scale * rate - decay, atol=1e-5)
    assert set(labels.values()) == {"ssm", "regular"}


def test_frozen_parameters_stay_and_one_label_serves_a_subtree():
    params = {"memory": {"a": jnp.ones(2)}, "head": {"kernel": jnp.ones(3), "bias": jnp.ones(1)}}
    rule = memory.optimizer({"memory": {"a": "frozen"}, "head": "regular"}, 0.1)
    updates, _ = rule.update(params, rule.init(params), params)
    assert np.all(updates["memory"]["a"] == 0)
    assert all(np.all(np.asarray(x) != 0) for x in updates["head"].values())


def test_half_of_a_schedule_is_the_default_for_the_recurrence():
    params = {"lam": jnp.ones(2), "D": jnp.ones(2)}
    labels = {"lam": "ssm", "D": "regular"}
    schedule = optax.linear_schedule(0.2, 0.0, 2)
    rule = memory.optimizer(labels, schedule)
    state = rule.init(params)
    for rate in (0.2, 0.1):
        updates, state = rule.update(params, state, params)
        np.testing.assert_allclose(updates["D"], -rate, rtol=1e-4)
        np.testing.assert_allclose(updates["lam"], -rate / 2, rtol=1e-4)
    with pytest.raises(UsageError, match="must not be negative"):
        memory.optimizer(labels, -1.0)


def periodic(key, steps=24, rows=64, width=2, period=4):
    """Random patterns, repeated: what comes next was seen `period` steps ago."""
    pattern = jax.random.rademacher(key, (period, rows, width), jnp.float32)
    return jnp.tile(pattern, (steps // period, 1, 1))


MEM = memory.make("gru", features=16, layers=1)


@pytest.fixture(scope="module")
def start():
    return jit(MEM.init, static_argnums=1)(jax.random.key(0), 2)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_pre_training_lowers_its_loss_and_speeds_up_a_later_fit(objective, start):
    u = periodic(jax.random.key(1))
    fit = partial(pretrain, key=jax.random.key(2), steps=400, batch=16, learning_rate=1e-2)
    trained, losses = fit(MEM, start, u, objective=objective)
    assert losses.shape == (400,)
    assert losses[-20:].mean() < 0.75 * losses[:20].mean()  # the first period is unforeseeable

    def later(params):
        """Recall of the input of three steps ago, after a few updates on new trajectories."""
        u = periodic(jax.random.key(3))
        both = {"memory": params, "head": dense_init(jax.random.key(4), 16, 2)}
        rule = optax.adam(3e-3)

        def loss(both):
            _, y = MEM.apply(both["memory"], MEM.init_carry((64,)), u)
            return jnp.mean((dense(both["head"], y)[8:] - u[5:-3]) ** 2)

        def update(state, _):
            error, grads = jax.value_and_grad(loss)(state[0])
            updates, rest = rule.update(grads, state[1])
            return (optax.apply_updates(state[0], updates), rest), error

        return jax.lax.scan(update, (both, rule.init(both)), None, length=60)[1]

    later = jit(later)
    assert later(trained)[-1] < 0.7 * later(start)[-1]


def test_pre_training_predicts_nothing_across_a_reset(start):
    u = jax.random.normal(jax.random.key(0), (6, 3, 2))
    always = jnp.ones((6, 3), bool)
    _, losses = pretrain(MEM, start, u, always, key=jax.random.key(1), steps=2, batch=2)
    np.testing.assert_array_equal(losses, 0)


def test_pre_training_refuses_what_it_cannot_do(start):
    u = jnp.zeros((6, 3, 2))
    for change, message in (
        ({"objective": "casual"}, "nearest: 'causal'"),
        ({"u": u[0]}, "time first"),
        ({"u": u[:1]}, "T >= 2"),
        ({"mask_ratio": 1.0}, "between 0 and 1"),
    ):
        arguments = {"u": u, "key": jax.random.key(0)} | change
        with pytest.raises(UsageError, match=message):
            pretrain(MEM, start, **arguments)
