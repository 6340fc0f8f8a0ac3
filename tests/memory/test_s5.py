import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory import discretize, hippo
from ssmrl.memory.backends import BACKENDS
from ssmrl.memory.cells.s5 import LARGEST_REAL_PART, S5
from tests.memory.test_contract import jit


def test_legs_has_the_negative_integers_for_eigenvalues():
    eigenvalues = np.sort(np.linalg.eigvals(hippo.legs(12)).real)[::-1]
    np.testing.assert_allclose(eigenvalues, -np.arange(1.0, 13), rtol=1e-6)


def test_legs_projects_on_warped_legendre_polynomials():
    # exp(t A) B has the closed form sqrt(2n + 1) P_n(2 exp(-t) - 1) exp(-t)
    n, t = 16, 0.7
    b = np.sqrt(2 * np.arange(n) + 1.0)
    polynomials = [scipy.special.eval_legendre(k, 2 * np.exp(-t) - 1) for k in range(n)]
    np.testing.assert_allclose(
        scipy.linalg.expm(t * hippo.legs(n)) @ b, b * polynomials * np.exp(-t), atol=1e-10
    )


def test_the_normal_part_is_skew_symmetric_about_minus_one_half():
    skew = hippo.legs_normal(16) + np.eye(16) / 2
    np.testing.assert_allclose(skew, -skew.T, atol=1e-12)


def test_the_kept_half_of_the_spectrum_rebuilds_the_matrix():
    lam, v = hippo.diagonalised(16)
    assert np.all(lam.imag < 0)
    np.testing.assert_allclose(lam.real, -0.5, atol=1e-12)
    rebuilt = 2 * np.real(v @ np.diag(lam) @ v.conj().T)
    np.testing.assert_allclose(rebuilt, hippo.legs_normal(16), atol=1e-10)


def test_the_fastest_mode_of_size_64_has_the_known_frequency():
    assert abs(np.abs(hippo.diagonalised(64)[0].imag).max() - 1303.27) < 0.01


def test_blocks_repeat_the_smaller_system():
    lam, v = hippo.diagonalised(24, blocks=3)
    small, small_v = hippo.diagonalised(8)
    np.testing.assert_array_equal(lam, np.tile(small, 3))
    np.testing.assert_array_equal(v[8:16, 4:8], small_v)
    assert np.all(v[:8, 4:] == 0)


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_discretisation_agrees_with_scipy(method):
    lam, dt = np.array([-0.5 + 3j, -2.0 - 1j, -0.1 + 0j]), 0.07
    system = (np.diag(lam), np.eye(3), np.eye(3), np.zeros((3, 3)))
    if method == "zoh":
        block = scipy.linalg.expm(dt * np.block([[system[0], system[1]], [np.zeros((3, 6))]]))
        a, b = block[:3, :3], block[:3, 3:]
    else:
        a, _, _, _, _ = scipy.signal.cont2discrete(system, dt, method="bilinear")
        b = np.linalg.inv(np.eye(3) - dt / 2 * system[0]) * dt
    got = discretize.METHODS[method](jnp.asarray(lam, jnp.complex64), jnp.complex64(dt))
    np.testing.assert_allclose(got[0], np.diag(a), rtol=1e-5)
    np.testing.assert_allclose(got[1], np.diag(b), rtol=1e-5)


def test_zoh_is_finite_where_an_eigenvalue_vanishes():
    def gain(re):
        return discretize.zoh(jnp.float32(re), jnp.float32(0.1))[1]

    assert abs(float(gain(0.0)) - 0.1) < 1e-7
    assert abs(float(jax.grad(gain)(0.0)) - 0.005) < 1e-6
    np.testing.assert_allclose(gain(-0.0099), gain(-0.0101), rtol=1e-4)  # either side of the switch


@pytest.mark.parametrize("c_init", ["lecun_normal", "trunc_standard_normal", "complex_normal"])
@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_the_output_is_that_of_the_full_conjugate_system(c_init, discretization):
    cell = S5(features=3, state=8, blocks=2, c_init=c_init, discretization=discretization)
    params = cell.init(jax.random.key(0), 3)
    u = np.random.default_rng(0).normal(size=(9, 3))
    lam = np.minimum(params["lam_re"], LARGEST_REAL_PART) + 1j * np.asarray(params["lam_im"])
    lam_bar, gain = (
        np.asarray(x)
        for x in discretize.METHODS[discretization](
            jnp.asarray(lam, jnp.complex64), jnp.exp(params["log_dt"]).astype(jnp.complex64)
        )
    )
    b, c = (np.asarray(params[k][0]) + 1j * np.asarray(params[k][1]) for k in "BC")
    x, want = np.zeros(4, complex), []
    for u_t in u:
        x = lam_bar * x + gain * (b @ u_t)
        want.append((c @ x + c.conj() @ x.conj()).real + np.asarray(params["D"]) * u_t)
    _, got = jax.jit(cell.apply)(params, cell.init_carry(), jnp.asarray(u, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_c_inits_have_the_scales_of_their_definitions():
    n, h = 64, 48
    stds = {}
    for c_init in ("lecun_normal", "trunc_standard_normal", "complex_normal"):
        c = S5(features=h, state=n, c_init=c_init).init(jax.random.key(1), h)["C"]
        stds[c_init] = float(jnp.sqrt(jnp.mean(c**2)))
    # each of re, im is a sum over n of products with unit-norm columns of V
    np.testing.assert_allclose(stds["complex_normal"], 0.5**0.5, rtol=0.05)
    np.testing.assert_allclose(stds["trunc_standard_normal"], n**-0.5, rtol=0.05)
    np.testing.assert_allclose(stds["lecun_normal"], (n * h) ** -0.5, rtol=0.05)


def test_it_stays_stable_whatever_the_optimiser_does_to_the_eigenvalues():
    cell = S5(features=2, state=4)
    params = cell.init(jax.random.key(0), 2) | {"lam_re": jnp.full((2,), 5.0)}
    assert float(jnp.max(jnp.abs(cell.prepare(params).constants["lam_bar"]))) < 1
    _, y = jax.jit(cell.apply)(params, cell.init_carry(), jnp.ones((4096, 2)))
    assert bool(jnp.all(jnp.isfinite(y)))


def test_step_lengths_lie_in_their_range():
    params = S5(features=4, state=64, dt_min=1e-4, dt_max=1e-2).init(jax.random.key(0), 4)
    assert (
        np.log(1e-4)
        <= float(params["log_dt"].min())
        < float(params["log_dt"].max())
        <= np.log(1e-2)
    )


def test_every_backend_gives_the_same_layer():
    u = jax.random.normal(jax.random.key(1), (130, 2, 4))
    reset = jax.random.bernoulli(jax.random.key(2), 0.1, (130, 2))
    params = jit(lambda: S5(features=4, state=8).init(jax.random.key(0), 4))()

    @jit
    def read(params):
        cells = [S5(features=4, state=8, scan=scan) for scan in BACKENDS]
        return [cell.apply(params, cell.init_carry((2,)), u, reset)[1] for cell in cells]

    outputs = read(params)
    for y in outputs[1:]:
        np.testing.assert_allclose(y, outputs[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": 7}, "multiple of"),
        ({"state": 12, "blocks": 4}, "multiple of"),
        ({"dt_min": 0.2}, "0 < dt_min <= dt_max"),
        ({"discretization": "zho"}, "nearest: 'zoh'"),
        ({"c_init": "lecun"}, "nearest: 'lecun_normal'"),
        ({"scan": "paralel"}, "unknown scan backend"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        S5(features=4, **options)


def test_a_bare_cell_of_another_width_points_to_the_stack():
    with pytest.raises(UsageError, match=r"ssmrl\.memory\.Stack"):
        S5(features=4).init(jax.random.key(0), 5)


def test_the_recurrence_and_only_it_is_labelled_ssm():
    mem = memory.make("s5", features=4, state=4, layers=1)
    labels = mem.labels(mem.init(jax.random.key(0), 3))
    cell = labels["members"][0]["memory"]
    assert {k for k, v in cell.items() if v == "ssm"} == {"lam_re", "lam_im", "log_dt", "B"}
    assert set(jax.tree.leaves((labels["project"], labels["members"][0]["gates"]))) == {"regular"}
