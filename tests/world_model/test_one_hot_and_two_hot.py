import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.nets.one_hot import (
    entropy,
    kl_divergence,
    mix_uniform,
    one_hot_mode,
    straight_through,
)
from ssmrl.nets.two_hot import TwoHot, symexp, symlog
from tests.envs.probes import run_once


def random_logits(seed, shape=(5, 3, 4)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_symexp_undoes_symlog():
    x = jnp.array([-1e4, -2.0, -1e-3, 0.0, 0.5, 300.0])
    np.testing.assert_allclose(symexp(symlog(x)), x, rtol=1e-5)
    np.testing.assert_allclose(symlog(x)[3:], np.log1p(x[3:]), rtol=1e-6)


def plain_two_hot(value, bins):
    """The share of each bin, by a loop."""
    place = np.sign(value) * np.log1p(np.abs(value))
    weights = np.zeros(len(bins))
    above = np.searchsorted(bins, place)
    if above in (0, len(bins)):
        weights[min(above, len(bins) - 1)] = 1.0
        return weights
    share = (place - bins[above - 1]) / (bins[above] - bins[above - 1])
    weights[above - 1 : above + 1] = 1 - share, share
    return weights


def test_two_hot_agrees_with_plain_numpy():
    values = np.array([-1e9, -7.3, -0.02, 0.0, 1.0, 24.0, 1e9], np.float32)
    logits, bins = random_logits(0, (7, 41)), np.linspace(-3, 3, 41)
    probs = np.exp(logits) / np.sum(np.exp(logits), -1, keepdims=True)
    got = run_once(lambda l, v: (TwoHot(l, 3.0).log_prob(v), TwoHot(l, 3.0).mean()), logits, values)
    shares = np.stack([plain_two_hot(v, bins) for v in values])
    np.testing.assert_allclose(got[0], np.sum(shares * np.log(probs), -1), rtol=1e-4)
    expected = np.sum(probs * bins, -1)
    np.testing.assert_allclose(got[1], np.sign(expected) * np.expm1(np.abs(expected)), rtol=1e-4)


def test_the_mean_of_a_sharp_two_hot_is_its_target():
    target = jnp.array([-12.0, 0.021, 5.0])
    shares = np.stack([plain_two_hot(v, np.linspace(-20, 20, 255)) for v in np.asarray(target)])
    got = run_once(lambda l: TwoHot(l, 20.0).mean(), jnp.log(jnp.asarray(shares) + 1e-12))
    np.testing.assert_allclose(got, target, rtol=1e-3, atol=1e-5)


def test_divergences_and_entropies_agree_with_distrax():
    p, q = random_logits(1), random_logits(2)

    def ours(p, q):
        p, q = mix_uniform(p, 0.01), mix_uniform(q, 0.01)
        return kl_divergence(p, q), entropy(p), p, q

    kl, bits, log_p, log_q = run_once(ours, p, q)
    p, q = distrax.Categorical(log_p), distrax.Categorical(log_q)
    np.testing.assert_allclose(kl, np.sum(p.kl_divergence(q), -1), rtol=1e-5)
    np.testing.assert_allclose(bits, np.sum(p.entropy(), -1), rtol=1e-5)


def test_every_class_keeps_its_share_of_the_uniform_distribution():
    log_probs = mix_uniform(jnp.array([100.0, 0.0, -100.0, 0.0]), 0.01)
    np.testing.assert_allclose(jnp.exp(log_probs), [0.9925, 0.0025, 0.0025, 0.0025], rtol=1e-5)


def test_samples_follow_their_probabilities():
    probs, draws = jnp.array([[0.1, 0.6, 0.3], [0.97, 0.02, 0.01]]), 20_000
    uniform = jax.random.uniform(jax.random.key(0), (draws, 2))
    log_probs = jnp.broadcast_to(jnp.log(probs), (draws, 2, 3))
    samples = run_once(straight_through, log_probs, uniform)
    assert set(np.unique(np.round(samples, 6))) == {0.0, 1.0}
    np.testing.assert_allclose(jnp.mean(samples, axis=0), probs, atol=0.015)


@pytest.mark.parametrize("uniform, index", [(0.0, 0), (0.25, 1), (0.9999999, 2)])
def test_the_ends_of_the_unit_interval_draw_the_first_and_the_last_class(uniform, index):
    sample = straight_through(jnp.log(jnp.array([[0.25, 0.25, 0.5]])), jnp.array([uniform]))
    np.testing.assert_array_equal(jnp.round(sample[0]), jax.nn.one_hot(index, 3))


def test_samples_have_the_gradient_of_the_probabilities():
    weight, logits = random_logits(3), random_logits(4)
    uniform = np.random.default_rng(5).uniform(size=(5, 3)).astype(np.float32)

    def both(logits):
        def value(use):
            return lambda l: jnp.sum(weight * use(mix_uniform(l, 0.01)))

        sampled = jax.grad(value(lambda l: straight_through(l, uniform)))(logits)
        return sampled, jax.grad(value(jnp.exp))(logits)

    sampled, expected = run_once(both, logits)
    np.testing.assert_allclose(sampled, expected, rtol=1e-4, atol=1e-6)
    assert jnp.any(jnp.abs(expected) > 0.01)


def test_the_mode_is_the_likeliest_class():
    logits = random_logits(6)
    np.testing.assert_array_equal(jnp.argmax(one_hot_mode(logits), -1), np.argmax(logits, -1))
