"""Where diagonal memories start from, what their parameters mean, and the HiPPO matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from ssmrl.errors import UsageError
from ssmrl.memory import MEMORIES, S5, hippo, inits
from ssmrl.memory.cells.lru import LRU
from ssmrl.memory.cells.s4d import S4D
from ssmrl.memory.inits import INITS, modes, perturbed_legs
from ssmrl.memory.reparam import MAGNITUDES, RATES, Reparam, best
from tests.envs.probes import run_once

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", sorted(INITS))
def test_every_init_is_a_stable_system_that_gives_back_its_real_state(name):
    found = modes(name, 16, KEY)
    assert found.lam.shape == found.b.shape == (8,)
    assert float(np.max(np.real(found.lam))) < 0
    identity = 2 * np.real(found.right @ found.left)
    np.testing.assert_allclose(identity, np.eye(len(identity)), atol=1e-9)


def test_the_named_spectra_are_those_of_their_formulas():
    k, n = np.arange(4), 8
    for name, want in {
        "lin": -0.5 + 1j * np.pi * k,
        "quad": -0.5 + 1j * (1 + 2 * k) ** 2 / np.pi,
        "inv": -0.5 + 1j * n / np.pi * (n / (2 * k + 1) - 1),
        "inv2": -0.5 + 1j * n / np.pi * (n / (k + 1) - 1),
        "real": -1.0 - k,
        "identity": np.full(4, -1.0),
        "fout_diag": -0.5 + 2j * np.pi * k,
    }.items():
        np.testing.assert_allclose(modes(name, n, KEY).lam, want)
    mixed = modes("hippo", 16, KEY).lam
    np.testing.assert_array_equal(mixed[:4], inits.legs(8).lam)
    np.testing.assert_array_equal(mixed[4:], inits.fout_diag(8).lam)


def test_the_fastest_mode_of_legs_is_close_to_that_of_inv():
    assert abs(inits.legs(64).lam.imag.max() - 1303.27) < 0.01
    assert abs(inits.inv(64).lam.imag.max() - 1283.43) < 0.01


def test_legs_is_the_normal_part_of_hippo_with_its_input():
    whole, half = inits.legs(12), inits.legs_half(12)
    rebuilt = 2 * np.real(whole.right @ np.diag(whole.lam) @ whole.left)
    np.testing.assert_allclose(rebuilt, hippo.legs_normal(12), atol=1e-9)
    np.testing.assert_allclose(2 * np.real(whole.right @ whole.b), hippo.legs_input(12))
    np.testing.assert_allclose(np.sort(whole.lam.imag), np.sort(-half.lam.imag))


def test_random_inits_depend_on_the_key_and_blocks_differ():
    for name in ("rand", "ring"):
        one, other = (modes(name, 16, jax.random.key(i), blocks=2).lam for i in (0, 1))
        assert float(jnp.min(jnp.abs(one - other))) > 0
        assert float(jnp.min(jnp.abs(one[:4] - one[4:]))) > 0


def test_the_ring_is_uniform_in_area_and_keeps_its_bounds():
    lam_bar = np.exp(inits.ring(4000, KEY, r_min=0.3, r_max=0.9, max_phase=1.0).lam)
    radius, phase = np.abs(lam_bar), np.angle(lam_bar)
    assert 0.3 <= radius.min() < radius.max() <= 0.9
    area = (radius**2 - 0.09) / 0.72
    assert scipy.stats.kstest(area, "uniform").pvalue > 0.01
    assert scipy.stats.kstest(phase, "uniform").pvalue > 0.01


def transfer(a, b, c, points):
    return np.array([c @ np.linalg.solve(1j * w * np.eye(len(a)) - a, b) for w in points])


def test_perturbing_before_diagonalising_keeps_the_transfer_function():
    n, points = 32, np.linspace(-60, 60, 241)
    found = modes("ptd", 2 * n, KEY)
    c = np.random.default_rng(0).normal(size=n)
    want = transfer(hippo.legs(n), hippo.legs_input(n), c, points)
    spectrum = np.diag(found.lam)
    ptd = transfer(spectrum, found.b, 2 * c @ found.right, points)
    cut = transfer(hippo.legs_normal(n), hippo.legs_input(n) / 2, c, points)
    assert np.abs(ptd - want).max() < np.abs(cut - want).max() / 10


def test_the_perturbed_matrix_is_stable_and_its_eigenvectors_usable():
    lam, v = perturbed_legs(64)
    assert lam.real.max() < -0.1 and np.linalg.cond(v) < 1e5
    moved = np.real(v @ np.diag(lam) @ np.linalg.inv(v)) - hippo.legs(64)
    assert np.linalg.norm(moved, 2) < 1.01e-4 * np.linalg.norm(hippo.legs(64), 2)


def test_a_perturbation_that_would_be_unstable_is_refused():
    with pytest.raises(UsageError, match="no perturbation"):
        perturbed_legs(64, size=0.03)


@pytest.mark.parametrize("member", ["s5", "s4d", "dss", "liquid", "gss"])
def test_every_diagonal_member_takes_every_init_with_the_same_shapes(member):
    def shapes(name):
        cell = MEMORIES[member](features=8, state=16, lam_init=name)
        params = jax.eval_shape(lambda k: cell.init(k, 8), KEY)
        return jax.tree.map(lambda x: (x.shape, x.dtype), params)

    assert all(shapes(name) == shapes("legs") for name in INITS)


def test_inits_and_reparameterisations_reach_the_discrete_system():
    options = (("ptd", "softplus"), ("legs", "exp"))

    def discrete(key):
        found = []
        for init, reparam in options:
            cell = S5(3, 8, lam_init=init, reparam=reparam, dt_min=1.0, dt_max=1.0)
            found.append(cell.prepare(cell.init(key, 3)).constants["lam_bar"])
        return found

    for (init, _), got in zip(options, run_once(discrete, KEY), strict=True):
        np.testing.assert_allclose(got, np.exp(modes(init, 8, KEY).lam), rtol=2e-3, atol=1e-5)


def test_two_half_steps_equal_one_whole_step_of_held_input():
    u = jax.random.normal(KEY, (5, 2, 4))
    held = jnp.repeat(u, 2, axis=0)
    for cell in (S5(features=4, state=8), S4D(features=4, state=6, reparam="best")):

        def outputs(u, held, cell=cell):
            params, carry = cell.init(KEY, 4), cell.init_carry((2,))
            twice = cell.apply(params, carry, held, dt=jnp.ones((10, 2)))[1]
            long = cell.apply(params, carry, u, dt=jnp.full((5, 2), 2.0))[1]
            return twice, cell.apply(params, carry, held)[1], long

        twice, plain, long = run_once(outputs, u, held)
        np.testing.assert_allclose(twice, plain, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(long, twice[1::2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: modes("legz", 8, KEY), "nearest: 'legs'"),
        (lambda: modes("lin", 10, KEY, blocks=2), "multiple of 2"),
        (lambda: modes("hippo", 6, KEY), "two halves"),
        (lambda: modes("ptd", 2, KEY), "at least 4"),
        (lambda: S5(lam_init="legz"), "nearest: 'legs'"),
        (lambda: S4D(reparam="softmax"), "nearest: 'softplus'"),
        (lambda: LRU(reparam="expexp"), "nearest: 'exp_exp'"),
        (lambda: hippo.fout(3), "must be even"),
    ],
)
def test_unknown_names_and_sizes_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


# ------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", sorted(RATES))
def test_rates_are_positive_for_any_parameter_and_invert(name):
    w = jnp.linspace(-20.0, 20.0, 81)
    assert float(jnp.min(RATES[name].value(w))) > 0
    rate = jnp.asarray([0.011, 0.2, 0.5, 0.95] + ([] if name == "sigmoid" else [1.5]))
    np.testing.assert_allclose(RATES[name].value(RATES[name].inverse(rate)), rate, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(MAGNITUDES))
def test_magnitudes_lie_in_the_unit_disc_for_any_parameter_and_invert(name):
    w = jnp.linspace(-20.0, 20.0, 81)
    assert float(jnp.max(jnp.abs(MAGNITUDES[name].value(w)))) <= 1
    r = jnp.asarray([0.05, 0.5, 0.9, 0.999])
    np.testing.assert_allclose(MAGNITUDES[name].value(MAGNITUDES[name].inverse(r)), r, rtol=1e-4)


def test_the_best_reparameterisation_has_a_linear_gradient_scale_and_exp_has_not():
    def scale(reparam: Reparam, w):
        return jnp.abs(jax.jvp(reparam.value, (w,), (jnp.ones_like(w),))[1]) / reparam.value(w) ** 2

    w = jnp.linspace(-8.0, 8.0, 9)
    np.testing.assert_allclose(scale(best(a=3.0), w), 6 * jnp.abs(w), rtol=1e-4, atol=1e-4)
    assert float(scale(RATES["exp"], -w).max()) > 100 * float(scale(RATES["best"], w).max())


# ------------------------------------------------------------------------- HiPPO


def test_the_exponential_and_the_hold_agree_with_scipy():
    a = np.random.default_rng(0).normal(size=(3, 5, 5)) * np.array([0.01, 1.0, 30.0])[:, None, None]
    np.testing.assert_allclose(hippo.expm(a), scipy.linalg.expm(a), rtol=1e-9)
    operator = hippo.legt(6)
    step = hippo.zoh(operator, 0.1)
    np.testing.assert_allclose(step.a, scipy.linalg.expm(0.1 * operator.a), rtol=1e-9)
    want = np.linalg.solve(operator.a, (step.a - np.eye(6)) @ operator.b)
    np.testing.assert_allclose(step.b, want, rtol=1e-9)


@pytest.mark.parametrize("measure", ["legt", "fout", "lmu"])
def test_a_window_operator_forgets_after_one_window(measure):
    operator = hippo.WINDOWS[measure](32)

    def size(t):
        return np.linalg.norm(scipy.linalg.expm(t * operator.a) @ operator.b)

    assert size(0.9) > 3 * size(1.15) > 0


def test_fout_holds_the_fourier_coefficients_of_its_window():
    steps, n = 400, 16
    step = hippo.windowed_steps("fout", n, steps)
    u = np.cos(2 * np.pi * 2 * np.arange(3 * steps) / steps)
    x = np.zeros(n)
    for u_t in u:
        x = step.a @ x + step.b * u_t
    assert abs(np.linalg.norm(x) - np.sqrt(0.5)) < 0.03  # of cos over a window
    assert np.argmax(np.abs(x)) in (4, 5)  # two cycles


def test_the_delay_readout_of_the_lmu_returns_the_past():
    n, window = 12, 64
    step = hippo.windowed_steps("lmu", n, window)
    t = np.arange(400)
    u = np.sin(2 * np.pi * t / 50)
    x = np.zeros(n)
    for u_t in u:
        x = step.a @ x + step.b * u_t
    for delay in (16, 32, 48):
        readout = [scipy.special.eval_legendre(i, 2 * delay / window - 1) for i in range(n)]
        between = np.sin(2 * np.pi * (t[-1] + 0.5 - delay) / 50)  # inputs are held half a step
        assert abs(x @ readout - between) < 2e-3


def project(u, n):
    steps, x = hippo.legs_steps(n, len(u)), np.zeros(n)
    for a, b, u_t in zip(*steps, u, strict=True):
        x = a @ x + b * u_t
    return x


def test_legs_reconstructs_the_whole_past_once_it_has_three_states_per_cycle():
    time = (np.arange(1000) + 0.5) / 1000
    u = np.cos(2 * np.pi * 3 * time) + np.sin(2 * np.pi * 7 * time)
    basis = np.stack(
        [np.sqrt(2 * k + 1) * scipy.special.eval_legendre(k, 2 * time - 1) for k in range(32)]
    )
    error = project(u, 32) @ basis - u
    assert np.sqrt(np.mean(error**2) / np.mean(u**2)) < 5e-4
    rough = project(u, 8) @ basis[:8] - u
    assert np.sqrt(np.mean(rough**2) / np.mean(u**2)) > 0.5


def test_legs_does_not_know_how_long_a_step_is():
    u = np.sin(np.linspace(0, 9, 250, endpoint=False))
    np.testing.assert_allclose(project(np.repeat(u, 2), 8), project(u, 8), atol=0.02)


def test_the_steps_of_legs_are_those_of_its_table():
    steps = hippo.legs_steps(6, 700)
    for t in (1, 2, 5, 40, 350, 699):  # each group of similar lengths
        want = scipy.linalg.expm(hippo.legs(6) * np.log((t + 1) / t))
        np.testing.assert_allclose(steps.a[t], want, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(steps.a[0], np.zeros((6, 6)))
    np.testing.assert_array_equal(steps.b[0], np.eye(6)[0])
