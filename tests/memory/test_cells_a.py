"""Closed forms, equivalences and stability of the linear time-invariant memories and their kin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.memory import S5, LinearMemory, hippo
from ssmrl.memory.cells.diagonal import discretised
from ssmrl.memory.cells.ema import EMA
from ssmrl.memory.cells.gss import GSS
from ssmrl.memory.cells.hippo import HippoFouT, HippoLegS, HippoLegT
from ssmrl.memory.cells.liquid import Liquid
from ssmrl.memory.cells.lmu import LMU
from ssmrl.memory.cells.lru import LRU
from ssmrl.memory.cells.lssl import LSSL
from ssmrl.memory.cells.s4 import S4
from ssmrl.memory.cells.s4d import DSS, S4D
from ssmrl.memory.inits import legs
from ssmrl.memory.spec import CHUNK, Reading
from ssmrl.memory.tools import kernel
from tests.envs.probes import run_once

KEY = jax.random.key(0)
H, N, T = 3, 6, 40


def complexes(z):
    return np.asarray(z[0], complex) + 1j * np.asarray(z[1])


def started(cell, *, steps=T, **change):
    """Parameters, with some of them changed, and the kernel of the memory, one channel each."""

    def both(key):
        params = cell.init(key, H) | change
        return params, cell.prepare(params).constants, kernel(cell, params, H, steps)

    params, constants, k = run_once(both, KEY)
    return params, constants, np.asarray(k)


def channels(k):
    """(T, H) of a kernel that does not mix channels."""
    diagonal = np.einsum("thh->th", k)
    np.testing.assert_allclose(k - np.eye(H) * diagonal[:, None], 0, atol=1e-6)
    return diagonal


def exponentials(c, lam_bar, b, d):
    """2 Re sum C lam^k B, and D at k = 0; (T, H) for (H, N / 2)."""
    k = 2 * np.real(np.sum(c * lam_bar ** np.arange(T)[:, None, None] * b, axis=-1))
    k[0] += d
    return k


# ------------------------------------------------------------------------- diagonal memories


def test_an_s4d_kernel_is_a_sum_of_exponentials():
    params, constants, k = started(S4D(H, N))
    lam = -np.exp(np.asarray(params["lam_re"], float)) + 1j * np.asarray(params["lam_im"])
    step = np.exp(np.asarray(params["log_dt"], float))
    b = (np.exp(lam * step) - 1) / lam * complexes(params["B"])
    want = exponentials(complexes(params["C"]), np.exp(lam * step), b, params["D"])
    np.testing.assert_allclose(channels(k), want, atol=2e-5)
    assert constants["lam_bar"].shape == (H, N // 2)


def test_the_output_matrix_of_s4d_starts_as_a_proper_complex_normal():
    c = complexes(run_once(lambda key: S4D(512, 8).init(key, 512)["C"], KEY))
    np.testing.assert_allclose(c.conj().T @ c / 512, np.eye(4), atol=0.15)
    np.testing.assert_allclose(c.T @ c / 512, np.zeros((4, 4)), atol=0.15)


def test_s5_with_a_state_for_every_input_is_s4d():
    params, _, want = started(S4D(H, N, lam_init="lin"))
    flat = {k: params[k].reshape(-1) for k in ("lam_re", "lam_im")}
    spread = np.kron(np.eye(H), np.ones((1, N // 2)))  # (H, P)
    b, c = (complexes(params[k]).reshape(-1) for k in "BC")

    def pair(z):
        return jnp.asarray(np.stack([z.real, z.imag]), jnp.float32)

    change = {
        **flat,
        "log_dt": jnp.repeat(params["log_dt"][:, 0], N // 2),
        "B": pair(spread.T * b[:, None]),
        "C": pair(spread * c),
        "D": params["D"],
    }
    got = started(S5(H, H * N, reparam="exp"), **change)[2]
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_dss_is_s4d_without_b_and_its_softmax_form_is_rescaled():
    length = 50
    params, constants, k = started(DSS(H, N, length=length))
    ones = jnp.stack([jnp.ones((H, N // 2)), jnp.zeros((H, N // 2))])
    s4d = started(S4D(H, N), **params, B=ones)[2]
    np.testing.assert_allclose(k, s4d, atol=1e-5)
    softmax = channels(started(DSS(H, N, form="softmax", length=length))[2])
    lam, step = np.asarray(constants["lam"]), np.asarray(constants["delta"])
    powers = np.exp(lam * step * np.arange(length)[:, None, None])
    weights = powers / powers.sum(0)  # the definition: a softmax over time
    want = 2 * np.real(np.sum(complexes(params["C"]) / lam * weights, axis=-1))[:T]
    want[0] += params["D"]
    np.testing.assert_allclose(softmax, want, rtol=1e-4, atol=1e-4)


def test_an_ema_kernel_is_a_sum_of_real_exponentials():
    params, _, k = started(EMA(H, 4))
    p, alpha = (1 / (1 + np.exp(-np.asarray(params[n], float))) for n in ("delta", "alpha"))
    powers = (1 - p * alpha) ** np.arange(T)[:, None, None]
    want = np.sum(np.asarray(params["gamma"]) * powers * p * np.asarray(params["beta"]), -1) / 2
    want[0] += params["omega"]
    np.testing.assert_allclose(channels(k), want, atol=1e-5)


def test_the_modes_of_an_lru_have_unit_variance_for_white_inputs():
    cell = LRU(4, 32)

    def variance(key):
        u = jax.random.normal(key, (400, 64, 4))
        constants = cell.prepare(cell.init(key, 4)).constants
        x = cell.solve(*cell.elements(constants, u), cell.init_carry((64,)), Reading())[200:]
        # normalised by the input matrix that was drawn: B has unit rows only on average
        params = cell.init(key, 4)
        return jnp.mean(x.real**2 + x.imag**2, (0, 1)) / jnp.sum(params["B"] ** 2, (0, 2))

    got = np.asarray(run_once(variance, KEY))
    assert abs(got.mean() - 1) < 0.03 and np.abs(got - 1).max() < 0.25


def test_the_eigenvalues_of_an_lru_start_on_their_ring():
    cell = LRU(4, 500, r_min=0.6, r_max=0.8, max_phase=0.5)

    def spectrum(key):
        params = cell.init(key, 4)
        return cell.prepare(params).constants["lam_bar"], jnp.exp(params["log_gamma"])

    lam, gamma = run_once(spectrum, KEY)
    assert 0.6 < np.abs(lam).min() < 0.62 and 0.78 < np.abs(lam).max() < 0.8
    assert 0 < np.angle(lam).min() < np.angle(lam).max() < 0.5
    np.testing.assert_allclose(gamma**2, 1 - np.abs(lam) ** 2, rtol=1e-3)


def test_a_liquid_memory_without_input_is_s4d_and_to_second_order_its_kernel():
    cell, twin = Liquid(H, N), S4D(H, N)
    u = 1e-2 * jax.random.normal(KEY, (12, H))

    def both(key):
        params, silence = cell.init(key, H), jnp.zeros((12, H))
        carry = cell.init_carry() + 1
        return (
            cell.apply(params, carry, silence)[1],
            twin.apply(params, carry, silence)[1],
            cell.apply(params, cell.init_carry(), u)[1],
            {**cell.prepare(params).constants, "D": params["D"]},
        )

    liquid, plain, y, constants = run_once(both, KEY)
    np.testing.assert_allclose(liquid, plain, rtol=1e-5, atol=1e-5)
    a, b = np.asarray(constants["lam_bar"]), np.asarray(constants["B"])
    c, series = complexes(constants["C"]), np.asarray(u)
    first, second = np.zeros(a.shape, complex), np.zeros(a.shape, complex)
    for t in range(12):  # sums over one input, and over pairs of inputs, separately
        second = a * second + b * series[t][:, None] * first
        first = a * first + b * series[t][:, None]
    linear = np.real(np.sum(c * first, -1)) + np.asarray(constants["D"]) * series[-1]
    quadratic = np.real(np.sum(c * second, -1))
    left = np.abs(np.asarray(y[-1]) - linear)
    assert np.abs(left - np.abs(quadratic)).max() < 0.05 * np.abs(quadratic).max()


def test_a_liquid_memory_stays_bounded_whatever_it_reads():
    cell = Liquid(H, N)

    def last(key):
        u = 100 * jax.random.normal(key, (600, H))
        return cell.apply(cell.init(key, H), cell.init_carry(), u)[0]

    assert np.abs(run_once(last, KEY)).max() < 600 * 100


def test_gss_trains_no_step_length_and_its_gate_can_close():
    cell = GSS(8, 4)

    def outputs(key):
        params = cell.init(key, 5)
        closed = jax.tree.map(jnp.zeros_like, params["gate"])
        u, carry = jax.random.normal(key, (T, 5)), cell.init_carry()
        delta = cell.prepare(params).constants["ssm"].constants["delta"]
        return params, delta, cell.apply({**params, "gate": closed}, carry, u)[1]

    params, delta, y = run_once(outputs, KEY)
    assert "log_dt" not in params["ssm"] and "B" not in params["ssm"]
    np.testing.assert_array_equal(delta, np.ones((2, 1)))
    np.testing.assert_array_equal(y, np.zeros((T, 8)))
    labels = cell.labels(params)
    assert {k for k, v in labels["ssm"].items() if v == "ssm"} == {"lam_re", "lam_im"}
    assert set(jax.tree.leaves(labels["gate"])) == {"regular"}


# ------------------------------------------------------------------------- dense memories


def bilinear(a, b, step):
    left = np.eye(len(a)) - step / 2 * a
    return np.linalg.solve(left, np.eye(len(a)) + step / 2 * a), np.linalg.solve(left, step * b)


def dense_kernel(c, steps, d):
    """(T, H) for C (H, N), bilinear LegS of each step length, and D."""
    k = []
    for row, step in zip(c, steps, strict=True):
        a, b = bilinear(hippo.legs(N), hippo.legs_input(N), step)
        k.append([row @ np.linalg.matrix_power(a, t) @ b for t in range(T)])
    k = np.array(k).T
    k[0] += d
    return k


def test_lssl_and_s4_both_start_as_hippo_legs_itself():
    c = np.random.default_rng(0).normal(size=(H, N))
    params, _, k = started(LSSL(H, N), C=jnp.asarray(c, jnp.float32))
    steps = np.exp(np.asarray(params["log_dt"], float)).reshape(-1)
    want = dense_kernel(c, steps, params["D"])
    np.testing.assert_allclose(channels(k), want, atol=1e-4)
    modes = c @ legs(N).right
    change = {
        "C": jnp.asarray(np.stack([modes.real, modes.imag]), jnp.float32),
        "log_dt": params["log_dt"][..., 0],
        "D": params["D"],
    }
    np.testing.assert_allclose(channels(started(S4(H, N), **change)[2]), want, atol=1e-4)


def test_the_kernel_of_s4_has_the_generating_function_of_its_cauchy_kernel():
    length = 400
    params, _, k = started(S4(H, N, dt_min=0.02, dt_max=0.2), steps=length)
    lam = -np.exp(np.asarray(params["lam_re"], float)) + 1j * np.asarray(params["lam_im"])
    p, b, c = (complexes(params[n]) for n in "PBC")
    lam, p, b, c = (np.concatenate([z, z.conj()], -1) for z in (lam, p, b, c))  # all modes
    step = np.exp(np.asarray(params["log_dt"], float))
    for omega in np.exp(2j * np.pi * np.array([0.03, 0.2, 0.41])):
        node = 2 / step * (1 - omega) / (1 + omega)

        def cauchy(x, y, node=node):
            return np.sum(x * y / (node - lam), -1)

        low_rank = cauchy(c, p) * cauchy(p.conj(), b) / (1 + cauchy(p.conj(), p))
        want = 2 / (1 + omega) * (cauchy(c, b) - low_rank)
        got = np.sum(channels(k) * omega ** np.arange(length)[:, None], 0) - np.asarray(params["D"])
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)


def test_s4_and_lssl_are_stable_whatever_the_optimiser_does():
    def spectra(key):
        s4, lssl = S4(H, N), LSSL(H, N)
        shaken = jax.tree.map(
            lambda x: x + 3 * jax.random.normal(key, x.shape), (s4.init(key, H), lssl.init(key, H))
        )
        return s4.prepare(shaken[0]).constants, lssl.prepare(shaken[1]).constants["A"]

    constants, dense = run_once(spectra, KEY)
    assert np.abs(np.linalg.eigvals(dense)).max() < 1
    decay, inward, outward = (
        np.asarray(constants[k], complex) for k in ("decay", "inward", "outward")
    )
    for a, i, o in zip(decay, inward, outward, strict=True):  # with the conjugate modes
        a, i, o = np.r_[a, a.conj()], np.r_[i, i.conj()], np.r_[o, o.conj()] / 2
        assert np.abs(np.linalg.eigvals(np.diag(a) - np.outer(i, o))).max() < 1


def test_a_fixed_lssl_has_the_readout_and_the_step_length_for_parameters():
    params, _, k = started(LSSL(H, N, trainable=False))
    assert set(params) == {"log_dt", "C", "D"}
    np.testing.assert_allclose(k, started(LSSL(H, N), **params)[2], atol=1e-5)


@pytest.mark.parametrize(("cell", "measure"), [(HippoLegT, "legt"), (HippoFouT, "fout")])
def test_a_window_memory_holds_the_coefficients_of_what_it_was_given(cell, measure):
    mem = cell(H, 8, channels=2, window=20)
    u = jax.random.normal(KEY, (T, H))

    def run(key):
        params = mem.init(key, H)
        return params, *mem.apply(params, mem.init_carry(), u)

    params, x, y = run_once(run, KEY)
    step = hippo.windowed_steps(measure, 8, 20)
    e = np.asarray(u) @ np.asarray(params["input"]["kernel"])
    want = np.zeros((2, 8))
    for e_t in e:
        want = want @ step.a.T + e_t[:, None] * step.b
    np.testing.assert_allclose(x, want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(y[-1], want.reshape(-1) @ params["W"] + u[-1], rtol=1e-3, atol=1e-4)
    assert not {"A", "B"} & params.keys()


def test_legs_counts_the_steps_of_the_episode_and_stops_at_the_longest():
    mem, steps = HippoLegS(H, 6, channels=2, longest=10), hippo.legs_steps(6, 10)
    u = jax.random.normal(KEY, (25, H))
    reset = jnp.zeros(25, bool).at[7].set(True)

    def run(key):
        params = mem.init(key, H)
        return params, *mem.apply(params, mem.init_carry(), u, reset)

    params, (x, count), _ = run_once(run, KEY)
    want = np.zeros((2, 6))
    for i, e_t in enumerate((np.asarray(u) @ np.asarray(params["input"]["kernel"]))[7:]):
        want = want @ steps.a[min(i, 9)].T + e_t[:, None] * steps.b[min(i, 9)]
    assert int(count) == 18
    np.testing.assert_allclose(x, want, rtol=1e-4, atol=1e-5)


def test_an_lmu_writes_a_number_per_step_to_its_window():
    mem = LMU(5, 6, window=16)
    u = jax.random.normal(KEY, (T, H))

    def run(key):
        params = mem.init(key, H)
        params |= {"e_m": jax.random.normal(key, (6, 1)) / 10}
        return params, *mem.apply(params, mem.init_carry(), u)

    params, (h, m), y = run_once(run, KEY)
    p = jax.tree.map(lambda x: np.asarray(x, float), params)
    step, want_h, want_m = hippo.windowed_steps("lmu", 6, 16), np.zeros(5), np.zeros(6)
    for u_t in np.asarray(u):
        into_h, into_m = np.split(u_t @ p["input"], [5])
        written = into_m + want_h @ p["e_h"] + want_m @ p["e_m"]
        want_m = step.a @ want_m + step.b * written
        want_h = np.tanh(into_h + want_h @ p["W_h"] + want_m @ p["W_m"])
    np.testing.assert_allclose(m, want_m, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(y[-1], want_h, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(h, y[-1])


# ------------------------------------------------------------------------- chunks


@pytest.mark.parametrize("cell", [S4D(H, 4), S4(H, 4)], ids=lambda c: type(c).__name__)
def test_reading_in_chunks_changes_neither_values_nor_gradients(cell):
    steps = 2 * CHUNK + 5
    keys = jax.random.split(KEY, 3)
    u = jax.random.normal(keys[0], (steps, 2, H))
    reset = jax.random.bernoulli(keys[1], 0.05, (steps, 2)).at[CHUNK].set(True)
    zero = cell.init_carry((2,))
    carry = zero + jax.random.normal(keys[2], zero.shape, zero.dtype)

    def gradients(params, u, carry):
        def loss(params, u, carry, read):
            reading = Reading(reset, start=carry[0] / 2)
            end, y = read(cell.prepare(params).constants, carry, u, reading)
            return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.abs(end) ** 2), (y, end)

        return [
            jax.grad(loss, (0, 1, 2), has_aux=True)(params, u, carry, read)
            for read in (cell.read, lambda *x: LinearMemory.read(cell, *x))
        ]

    params = run_once(lambda k: cell.init(k, H), KEY)
    chunked, whole = run_once(gradients, params, u, carry)
    for got, want in zip(jax.tree.leaves(chunked), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


# ------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: S4D(state=7), "even state"),
        (lambda: S4D(dt_min=1.0), "0 < dt_min <= dt_max"),
        (lambda: S4D(discretization="zho"), "nearest: 'zoh'"),
        (lambda: S4D(scan="paralel"), "unknown scan backend"),
        (lambda: DSS(form="softmx"), "nearest: 'softmax'"),
        (lambda: DSS(discretization="bilinear"), "of its own"),
        (lambda: LRU(r_min=0.9, r_max=0.5), "r_min < r_max"),
        (lambda: LRU(state=0), "state >= 1"),
        (lambda: EMA(state=0), "state >= 1"),
        (lambda: GSS(features=6), "multiple of 4"),
        (lambda: HippoLegT(window=0), "window >= 1"),
        (lambda: HippoFouT(state=5), "must be even"),
        (lambda: HippoLegS(longest=0), "longest >= 1"),
        (lambda: LMU(window=0), "window >= 1"),
        (lambda: S4(features=4).init(KEY, 5), r"ssmrl\.memory\.Stack"),
        (lambda: kernel(Liquid(H, N), {}, H, 9), "'lti'"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("name", ["euler", "dirac"])
def test_the_other_discretisations_agree_on_the_decay_and_differ_in_the_gain(name):
    params = {
        "lam_re": jnp.log(jnp.asarray([0.5, 2.0])),
        "lam_im": jnp.asarray([1.0, 3.0]),
        "log_dt": jnp.log(jnp.asarray([0.1, 0.2])),
    }
    found = discretised(params, "exp", name)
    np.testing.assert_array_equal(found["lam_bar"], discretised(params, "exp", "zoh")["lam_bar"])
    want = found["delta"] if name == "euler" else np.ones(2)
    np.testing.assert_array_equal(found["gain"], want)
