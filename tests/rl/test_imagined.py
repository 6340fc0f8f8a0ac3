import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.rl.imagined import (
    Percentiles,
    lambda_returns,
    return_scale,
    track_percentiles,
    trajectory_weights,
)

H, B, LAM = 7, 5, 0.8


def trajectory(seed=0):
    rng = np.random.default_rng(seed)
    reward, value = rng.normal(size=(2, H, B)).astype(np.float32)
    return reward, 0.9 * (rng.random((H, B)) < 0.8).astype(np.float32), value


def test_lambda_returns_equal_the_weighted_sum_of_n_step_returns():
    reward, discount, value = trajectory()
    want = np.zeros((H, B))
    for b in range(B):
        for k in range(H):
            n_step, total, product = [], 0.0, 1.0
            for j in range(k, H):
                total += product * reward[j, b]
                product *= discount[j, b]
                n_step.append(total + product * value[j, b])
            last = len(n_step) - 1
            weights = [(1 - LAM) * LAM**n for n in range(last)] + [LAM**last]
            want[k, b] = np.dot(weights, n_step)
    got = jax.jit(lambda_returns)(*map(jnp.asarray, (reward, discount, value)), LAM)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_lambda_zero_looks_one_step_ahead_and_lambda_one_to_the_horizon():
    reward, discount, value = map(jnp.asarray, trajectory())
    np.testing.assert_allclose(
        lambda_returns(reward, discount, value, 0.0), reward + discount * value, rtol=1e-6
    )
    g = np.asarray(value[-1])
    for k in reversed(range(H)):
        g = np.asarray(reward[k]) + np.asarray(discount[k]) * g
    np.testing.assert_allclose(lambda_returns(reward, discount, value, 1.0)[0], g, rtol=1e-5)


def test_weights_vanish_at_a_terminal_state_and_after_it():
    cont = jnp.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    want = np.array([[1, 0, 1], [0.9, 0, 0], [0.81, 0, 0]])
    np.testing.assert_allclose(trajectory_weights(cont, 0.9), want, rtol=1e-6)


def test_advantages_are_scaled_down_by_a_moving_range_but_never_up():
    returns = jnp.asarray(np.random.default_rng(0).normal(scale=10, size=(20, 30)), jnp.float32)
    seen = Percentiles(jnp.zeros(()), jnp.zeros(()))
    assert float(return_scale(seen)) == 1.0
    track = jax.jit(track_percentiles)
    once = track(seen, returns)
    low, high = np.percentile(returns, [5, 95])
    np.testing.assert_allclose(once, (0.01 * low, 0.01 * high), rtol=1e-4)
    assert float(return_scale(once)) == 1.0
    for _ in range(1000):
        seen = track(seen, returns)
    np.testing.assert_allclose(return_scale(seen), high - low, rtol=1e-3)
