import distrax
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from ssmrl.nets.distributions import Categorical
from tests.envs.probes import run_once


def test_a_categorical_agrees_with_distrax():
    logits = 3 * jax.random.normal(jax.random.key(0), (5, 2, 7))
    actions = jnp.arange(10, dtype=jnp.int32).reshape(5, 2) % 7

    def ours_and_theirs(logits):
        def measures(kind, logits):
            pi = kind(logits)
            return pi.log_prob(actions), pi.entropy(), pi.mode()

        def gradient(kind):
            return jax.grad(lambda x: sum(jnp.sum(m) for m in measures(kind, x)[:2]))(logits)

        kinds = (lambda x: Categorical(jax.nn.log_softmax(x)), distrax.Categorical)
        return [(measures(kind, logits), gradient(kind)) for kind in kinds]

    got, expected = run_once(ours_and_theirs, logits)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected)


def test_samples_come_as_often_as_their_probability_and_impossible_ones_never():
    probabilities = np.array([0.0, 0.5, 0.2, 0.0, 0.3, 0.0])
    logs = jnp.log(jnp.broadcast_to(jnp.asarray(probabilities, jnp.float32), (100_000, 6)))
    draws = run_once(lambda key: Categorical(logs).sample(seed=key), jax.random.key(1))
    counts = np.bincount(draws, minlength=6)
    possible = probabilities > 0
    assert len(counts) == 6 and counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible], 100_000 * probabilities[possible]).pvalue > 1e-3
