"""Kernels, truncation, distillation and readouts of linear time-invariant memories."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.memory import MEMORIES, S5, Memory
from ssmrl.memory.cells.ema import EMA
from ssmrl.memory.cells.gss import GSS
from ssmrl.memory.cells.liquid import Liquid
from ssmrl.memory.cells.lru import LRU
from ssmrl.memory.cells.s4d import S4D
from ssmrl.memory.tools import (
    Realisation,
    as_lru,
    balanced_truncation,
    bandlimit,
    distil,
    fft_conv,
    kernel,
    prophecy_readout,
    realisation,
    scale_by_tau,
    tau,
    tau_penalty,
)
from ssmrl.memory.tools.prophecy import window_states
from tests.envs.probes import run_once

KEY = jax.random.key(0)
H, T = 3, 40
SMALL = {"hippo_legt": {"channels": 2}}
LTI = ("dss", "ema", "hippo_legt", "lru", "lssl", "s4", "s5")


@cache
def started(cell: Memory):
    return run_once(lambda key: cell.init(key, H), KEY)


@pytest.mark.parametrize("name", LTI)
def test_the_kernel_from_the_matrices_the_impulse_response_and_the_output_agree(name):
    cell = MEMORIES[name](features=H, state=4, **SMALL.get(name, {}))
    params = started(cell)
    u = jax.random.normal(KEY, (T, 2, H))

    def both(params, u):
        k, carry = kernel(cell, params, H, T), cell.init_carry((2,))
        y = cell.apply(params, carry, u)[1] - cell.apply(params, carry, jnp.zeros_like(u))[1]
        return k, fft_conv(k, u), y

    k, convolved, y = run_once(both, params, u)
    np.testing.assert_allclose(convolved, y, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(realisation(cell, params, H).kernel(T), k, rtol=1e-4, atol=1e-5)


def test_a_depthwise_kernel_convolves_each_channel_alone():
    k, u = np.random.default_rng(0).normal(size=(2, 9, 4)).astype(np.float32)
    got = run_once(fft_conv, k[:5], u)
    want = [np.convolve(u[:, h], k[:5, h])[:9] for h in range(4)]
    np.testing.assert_allclose(got, np.stack(want, 1), atol=1e-5)


@pytest.fixture(scope="module")
def system():
    cell = S5(H, 24)
    return realisation(cell, started(cell), H)


def gap(one, other):
    """The largest singular value of the difference of the transfer functions."""

    def transfer(s, z):
        return s.c @ np.linalg.solve(np.eye(len(s.a)) - s.a / z, s.b) + s.d

    circle = np.exp(1j * np.linspace(0, np.pi, 200))
    return max(np.linalg.norm(transfer(one, z) - transfer(other, z), 2) for z in circle)


def test_balanced_truncation_keeps_its_bound_and_cannot_beat_the_next_singular_value(system):
    for order in (2, 8, 20):
        found = balanced_truncation(system, order)
        error = gap(system, found.system)
        assert found.singular_values[order] * 0.99 <= error <= found.bound * 1.01
    assert gap(system, balanced_truncation(system, 24).system) < 1e-6


def test_states_that_are_not_reached_or_not_seen_are_found(system):
    blind = Realisation(
        np.kron(np.eye(2), system.a),
        np.r_[system.b, 0 * system.b],
        np.c_[system.c, system.c],
        system.d,
    )
    sigma = balanced_truncation(blind, 2).singular_values
    assert sigma[23] > 1e-6 * sigma[0] > 1e6 * sigma[24] / 1e3
    with pytest.raises(UsageError, match="reached and seen"):
        balanced_truncation(blind, 30)


def test_a_truncated_memory_is_an_lru_again(system):
    small = balanced_truncation(system, 10).system
    cell, params = as_lru(small)
    assert isinstance(cell, LRU) and cell.state < 10  # pairs of eigenvalues share a mode
    got = run_once(lambda p: kernel(cell, p, H, 60), params)
    np.testing.assert_allclose(got, small.kernel(60), atol=1e-5)
    want = jax.tree.map(lambda x: (x.shape, x.dtype), started(cell))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == want


def test_a_sum_of_exponentials_is_distilled_exactly():
    lam = np.array([0.9 * np.exp(0.5j), 0.99 * np.exp(0.1j), 0.7, -0.5])
    c = np.array([1 + 0.3j, 0.2 - 1j, 0.5, 0.4])
    sums = np.real(lam ** np.arange(100)[:, None] @ c)
    k = np.stack([sums, 3.0 * (np.arange(100) == 0) + 0.95 ** np.arange(100)], axis=1)
    found = distil(k, 6)
    assert found.error.max() < 1e-10
    assert found.singular_values[0, 6] < 1e-12 and found.singular_values[1, 1] < 1e-12
    got = run_once(lambda p: kernel(found.memory, p, 2, 100), found.params)
    np.testing.assert_allclose(np.einsum("thh->th", got), k, atol=1e-5)


def test_distilling_to_a_higher_order_comes_closer():
    t = np.arange(64)[:, None]
    k = np.exp(-(((t - 20) / 8.0) ** 2))  # no sum of exponentials
    errors = [distil(k, order).error[0] for order in (2, 6, 12)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


@pytest.mark.parametrize("cell", [S4D(H, 4), S5(H, 8), LRU(H, 8)], ids=lambda c: type(c).__name__)
def test_scaling_by_tau_tames_outputs_whatever_the_time_dependence_of_inputs(cell):
    params = started(cell)
    white = np.random.default_rng(0).normal(size=(T, 256, H)).astype(np.float32)
    kinds = jnp.stack([white, 3 * np.broadcast_to(white[:1], white.shape), white / 10 + 30])

    def sizes(params, kinds):
        def last(params, u):
            y = cell.apply(params, cell.init_carry((256,)), u)[1][-1]
            return jnp.sqrt(jnp.mean(y**2, axis=0))

        def three(u):
            scaled = scale_by_tau(cell, params, u)
            return last(params, u), last(scaled, u), tau_penalty(cell, scaled, u)

        return jax.lax.map(three, kinds)

    before, after, penalty = run_once(sizes, params, kinds)
    assert before.max() > 10 * before.min()
    assert after.max() < 1.3 and after.min() > 0.02
    np.testing.assert_allclose(penalty, 1.0, rtol=1e-3)


def test_tau_is_the_square_of_weighted_sums_of_the_kernel():
    cell = EMA(H, 2)
    params = started(cell)
    u = jax.random.normal(KEY, (6, 32, H)) * jnp.arange(1.0, 7.0)[:, None, None] + 1
    got, k, gradient = run_once(
        lambda p, u: (
            tau(cell, p, u),
            kernel(cell, p, H, 6),
            jax.grad(lambda p: tau_penalty(cell, p, u))(p),
        ),
        params,
        u,
    )
    mean, spread = np.mean(u, 1)[::-1], np.std(u, 1)[::-1]
    k = np.einsum("thh->th", k)
    want = (np.sum(np.abs(k) * spread, 0) + np.abs(np.sum(k * mean, 0))) ** 2
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert all(np.any(np.asarray(g) != 0) for g in jax.tree.leaves(gradient))


def test_bandlimit_silences_what_is_too_fast_for_a_step():
    s5 = S5(H, 8, lam_init="lin", dt_min=1.0, dt_max=1.0)  # frequencies pi k
    c = np.asarray(bandlimit(s5, started(s5), limit=2.1)["C"])
    assert np.all(c[..., :3] != 0) and np.all(c[..., 3:] == 0)
    lru = LRU(H, 16)
    params = started(lru)
    kept = np.any(np.asarray(bandlimit(lru, params, limit=0.5)["C"]) != 0, axis=(0, 1))
    np.testing.assert_array_equal(kept, np.exp(params["log_theta"]) < np.pi / 2)


def test_a_prophecy_predicts_signals_it_was_not_fitted_to():
    t = np.arange(400)
    u = np.sin(2 * np.pi * t / 25) + 0.6 * np.cos(2 * np.pi * t / 41 + 1)
    target = u[151:]

    def error(state):
        x = window_states(u[:-1], state, 32)[150:]
        return np.std(x @ prophecy_readout(state, 32, signals=64) - target) / np.std(target)

    persistence = np.std(u[150:-1] - target) / np.std(target)
    extrapolation = np.std(2 * u[150:-1] - u[149:-2] - target) / np.std(target)
    assert error(16) < error(8) < extrapolation / 2 < persistence / 2
    assert error(16) < 2e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fft_conv(jnp.ones((4, H)), jnp.ones((9, H)), jnp.zeros(9, bool)), "resets"),
        (lambda: fft_conv(jnp.ones((4, H)), jnp.ones((9, 2))), "kernel must be"),
        (lambda: kernel(Liquid(H, 4), {}, H, 5), "'lti'"),
        (lambda: kernel(GSS(4, 4), started(GSS(4, 4)), H, 5), "not linear"),
        (lambda: realisation(Liquid(H, 4), {}, H), "'lti'"),
        (lambda: distil(np.ones((9, 2)), 4), "L >= 2"),
        (lambda: prophecy_readout(0, 8), "state"),
        (lambda: balanced_truncation(Realisation(*np.ones((4, 1, 1))), 1), "unstable"),
        (lambda: balanced_truncation(Realisation(*np.ones((4, 1, 1))), 2), "order must be"),
        (lambda: as_lru(Realisation(*np.ones((4, 2, 2)))), "d must be diagonal"),
        (lambda: as_lru(Realisation(*np.ones((4, 1, 1)))), "within the unit disc"),
        (lambda: bandlimit(EMA(H, 2), started(EMA(H, 2))), "no modes"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()
