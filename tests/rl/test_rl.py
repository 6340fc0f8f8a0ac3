import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.rl import ppo, statistics
from ssmrl.rl.returns import discounted_sums, gae
from tests.envs.probes import run_once

T, B, GAMMA, LAM = 13, 4, 0.9, 0.7


def rollout(seed=0):
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, T, B)).astype(np.float32)
    terminated = rng.random((T, B)) < 0.2
    truncated = (rng.random((T, B)) < 0.2) & ~terminated
    return reward, value, next_value, terminated, truncated


def test_gae_equals_the_double_loop():
    reward, value, next_value, terminated, truncated = rollout()
    want = np.zeros((T, B))
    for b in range(B):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                bootstrap = 0.0 if terminated[k, b] else next_value[k, b]
                want[t, b] += weight * (reward[k, b] + GAMMA * bootstrap - value[k, b])
                if terminated[k, b] or truncated[k, b]:
                    break
                weight *= GAMMA * LAM
    advantage, target = gae(*map(jnp.asarray, rollout()), GAMMA, LAM)
    np.testing.assert_allclose(advantage, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(target, want + value, rtol=1e-5, atol=1e-5)


def test_with_lambda_one_the_target_is_the_discounted_return():
    reward = jnp.asarray(rollout()[0])
    value = jnp.full((T, B), 3.0)
    never = jnp.zeros((T, B), bool)
    following = jnp.concatenate([value[1:], jnp.full((1, B), 7.0)])
    _, target = gae(reward, value, following, never, never, GAMMA, 1.0)
    g = np.full(B, 7.0)
    for t in reversed(range(T)):
        g = np.asarray(reward[t]) + GAMMA * g
        np.testing.assert_allclose(target[t], g, rtol=1e-5, atol=1e-5)


def test_discounted_sums_start_over_with_every_episode():
    reward, *_, terminated, _ = rollout()
    g, want = np.full(B, 2.0), []
    for t in range(T):
        g = reward[t] + GAMMA * np.where(terminated[t], 0.0, g)
        want.append(g)
    got = discounted_sums(jnp.asarray(reward), jnp.asarray(terminated), jnp.full(B, 2.0), GAMMA)
    np.testing.assert_allclose(got, np.stack(want), rtol=1e-5)


def test_the_policy_loss_is_the_smaller_of_two_surrogates():
    log_prob, old, advantage = jax.random.normal(jax.random.key(2), (3, 50, 4)) * 0.3
    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

    def surrogates(log_prob):
        ratio = jnp.exp(log_prob - old)
        return -jnp.mean(jnp.minimum(ratio * scaled, jnp.clip(ratio, 0.8, 1.2) * scaled))

    def both(log_prob):
        ours = jax.value_and_grad(lambda x: ppo.policy_loss(x, old, advantage, 0.2))(log_prob)
        return ours, jax.value_and_grad(surrogates)(log_prob)

    got, expected = run_once(both, log_prob)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, expected)


def test_the_policy_gradient_stops_where_the_ratio_is_clipped():
    old = jnp.zeros((4, 1))
    advantage = jnp.array([[1.0], [1.0], [-1.0], [-1.0]])  # already standardised

    def loss(log_prob):
        return ppo.policy_loss(log_prob, old, advantage, 0.2)

    moved = jnp.log(jnp.array([[1.5], [1.1], [1.5], [0.5]]))
    grad = jax.grad(loss)(moved)
    # beyond the clip a good action gets no further push, nor does a bad one that is already rarer
    np.testing.assert_allclose(grad[jnp.array([0, 3])], 0.0, atol=1e-7)
    np.testing.assert_allclose(grad[jnp.array([1, 2]), 0], [-1.1 / 4, 1.5 / 4], rtol=1e-4)
    assert abs(float(ppo.clip_fraction(moved, old, 0.2)) - 0.75) < 1e-6


def test_the_value_loss_is_pessimistic_about_large_moves():
    value, old, target = jnp.array([2.0]), jnp.array([0.0]), jnp.array([2.0])
    assert float(ppo.value_loss(value, old, target, None)) == 0
    assert abs(float(ppo.value_loss(value, old, target, 0.5)) - 0.5 * 1.5**2) < 1e-6


def test_the_kl_estimate_is_exact_in_expectation():
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.4, 0.4, 0.2])
    samples = np.repeat(np.arange(3), (p * 1000).astype(int))
    got = ppo.approximate_kl(jnp.log(q)[samples], jnp.log(p)[samples])
    np.testing.assert_allclose(got, np.sum(p * np.log(p / q)), rtol=1e-4)


def test_running_statistics_equal_those_of_all_samples_at_once():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(5, 7, 2, 3)).astype(np.float32)
    seen = statistics.start((3,))
    for batch in x:
        seen = statistics.update(seen, jnp.asarray(batch))
    flat = x.reshape(-1, 3)
    np.testing.assert_allclose(seen.mean, flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(seen.variance, flat.var(0), rtol=1e-4)
    z = statistics.normalise(seen, jnp.asarray(flat))
    np.testing.assert_allclose(np.std(z, 0), 1.0, rtol=1e-3)
    np.testing.assert_allclose(np.mean(z, 0), 0.0, atol=1e-4)
    scaled = statistics.rescale(seen, jnp.asarray(flat))
    np.testing.assert_allclose(np.mean(scaled, 0), flat.mean(0) / flat.std(0), rtol=1e-3)
