"""Selective and matrix memories: closed forms, equivalences between members, what they can do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.memory.cells.deltanet import DeltaNet, GatedDeltaNet
from ssmrl.memory.cells.h3 import H3, SMR
from ssmrl.memory.cells.linear_attention import GLA, GateLoop, LinearAttention, RetNet
from ssmrl.memory.cells.longhorn import Longhorn
from ssmrl.memory.cells.mamba import Mamba
from ssmrl.memory.cells.mamba2 import Mamba2
from ssmrl.memory.cells.outer import by_head, inverse_softplus, rms_norm
from ssmrl.memory.cells.rg_lru import RGLRU
from ssmrl.memory.cells.rwkv import RWKV5, RWKV6
from ssmrl.memory.cells.s4d import S4D
from ssmrl.memory.cells.s5 import S5
from ssmrl.memory.linear_attention import linear_attention
from ssmrl.memory.scan import affine_scan

T, B, H = 20, 2, 8
RESET = jnp.zeros((T, B), bool).at[7, 0].set(True).at[12].set(True)
U = jax.random.normal(jax.random.key(5), (T, B, H))


def jit(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"})


def made(cell, seed=0):
    return jit(lambda: cell.init(jax.random.key(seed), H))()


def outputs(cell, params, u=U, reset=RESET):
    return jit(lambda p: cell.apply(p, cell.init_carry(u.shape[1:-1]), u, reset)[1])(params)


def numpy(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def silu(x):
    return x / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def convolved(kernel, x, reset):
    """Short convolution by asking of every tap whether a reset lies in between."""
    y = np.zeros_like(x)
    for t, b, j in np.ndindex(T, B, len(kernel)):
        if t >= j and not reset[t - j + 1 : t + 1, b].any():
            y[t, b] += kernel[-1 - j] * x[t - j, b]
    return y


def test_mamba_is_the_recurrence_of_its_paper():
    cell = Mamba(features=H, state=3)
    params = made(cell)
    p, reset = numpy(params), np.asarray(RESET)
    x, z = np.split(np.asarray(U, np.float64) @ p["in"]["kernel"] + p["in"]["bias"], 2, axis=-1)
    x = silu(convolved(p["conv"], x, reset))
    low, b, c = np.split(x @ p["maps"], [1, 4], axis=-1)
    d = softplus(low @ p["up"] + p["step"])
    h, want = np.zeros((B, 2 * H, 3)), []
    for t in range(T):
        h = np.where(reset[t][:, None, None], 0, h)
        h = np.exp(-d[t][..., None] * np.exp(p["log_A"])) * h
        h += (d[t] * x[t])[..., None] * b[t][:, None]
        want.append(((h * c[t][:, None]).sum(-1) + p["D"] * x[t]) * silu(z[t]))
    np.testing.assert_allclose(
        outputs(cell, params), np.stack(want) @ p["out"], rtol=1e-4, atol=1e-5
    )


def test_mamba2_is_the_recurrence_of_its_paper():
    cell = Mamba2(features=H, heads=2, state=3)
    params = made(cell)
    p, reset = numpy(params), np.asarray(RESET)
    z = np.asarray(U, np.float64) @ p["in"]["kernel"] + p["in"]["bias"]
    xbc, gate, step = np.split(z, [2 * H + 6, 4 * H + 6], axis=-1)
    x, b, c = np.split(silu(convolved(p["conv"], xbc, reset)), [2 * H, 2 * H + 3], axis=-1)
    x, d = x.reshape(T, B, 2, H), softplus(step + p["step"])
    s, want = np.zeros((B, 2, 3, H)), []
    for t in range(T):
        s = np.where(reset[t][:, None, None, None], 0, s)
        s = np.exp(-np.exp(p["log_rate"]) * d[t])[..., None, None] * s
        s += np.einsum("bh,bn,bhv->bhnv", d[t], b[t], x[t])
        want.append(np.einsum("bn,bhnv->bhv", c[t], s) + p["D"][:, None] * x[t])
    y = np.stack(want).reshape(T, B, -1) * silu(gate)
    y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(outputs(cell, params), y @ p["out"], rtol=1e-4, atol=1e-4)


def test_step_lengths_of_mamba_start_in_their_range():
    step = jax.nn.softplus(made(Mamba(features=H))["step"])
    assert 9e-4 < float(step.min()) < float(step.max()) < 0.11


@pytest.mark.parametrize("negative_eigs", [False, True])
def test_mamba_tells_parity_if_and_only_if_its_decays_may_be_negative(negative_eigs):
    cell = Mamba(features=1, state=1, expand=1, negative_eigs=negative_eigs)
    bits = np.random.default_rng(0).integers(0, 2, 300)
    # a huge step length where the bit is 1 and none where it is 0: a is -1 (or 0) and 1
    rate = jnp.asarray(80.0 * bits, jnp.float32)[:, None]
    a, b = cell.elements({"log_A": jnp.zeros((1, 1))}, rate, rate, jnp.zeros((300, 1)))
    h = affine_scan(a, b, jnp.ones((1, 1)))[:, 0, 0]
    parity = (-1.0) ** np.cumsum(bits)
    assert np.array_equal(h, parity) == negative_eigs


def test_longhorn_takes_the_implicit_step_of_online_regression():
    cell = Longhorn(features=H, state=1)
    params = made(cell)
    x = jax.random.normal(jax.random.key(1), (50, 2 * H))
    rate, k, _ = cell.maps(params, x)
    a, b = cell.elements(params, x, rate, k)
    assert float(a.min()) > 0 and float(a.max()) <= 1
    before = jax.random.normal(jax.random.key(2), a.shape)
    after = a * before + b
    k = k[..., None, :]
    # rate = beta / (1 + beta k^2), and the gradient of |S - S'|^2 + beta (S k - x)^2 vanishes
    beta = rate[..., None] / (1 - rate[..., None] * k * k)
    np.testing.assert_allclose(
        after - before + beta * (after * k - x[..., None]) * k, jnp.zeros_like(after), atol=1e-5
    )


def test_longhorn_stays_stable_with_many_keys():
    cell = Longhorn(features=H, state=16)
    params = made(cell)
    x = 10 * jax.random.normal(jax.random.key(1), (200, 2 * H))
    rate, k, _ = cell.maps(params, x)
    a, _ = cell.elements(params, x, rate, k)
    assert float(a.min()) >= 0 and float(a.max()) <= 1


def test_rg_lru_is_its_recurrence_and_starts_episodes_at_full_gain():
    cell = RGLRU(features=H, heads=2)
    params = made(cell)
    x = jax.random.normal(jax.random.key(1), (T, B, H))
    log_a, gated = cell.gated(params, x)
    p, z = numpy(params), np.asarray(x, np.float64)
    blocks = np.concatenate(
        [z[..., 4 * j : 4 * j + 4] @ p["gates"][j] for j in range(2)], axis=-1
    ).reshape(T, B, 2, 2, 4)
    r, i = (1 / (1 + np.exp(-blocks[:, :, :, j].reshape(T, B, H))) for j in range(2))
    np.testing.assert_allclose(log_a, -8 * r * softplus(p["lam"]), rtol=1e-4)
    np.testing.assert_allclose(gated, i * z, rtol=1e-4, atol=1e-6)
    decay = np.exp(-8 * softplus(p["lam"]))
    assert decay.min() > 0.899 and decay.max() < 0.9991

    carry = cell.init_carry((B,))
    one, two = (jit(cell.step)(params, carry, U[0], flag) for flag in (None, RESET[12]))
    window = (one[0][0][:, -1] * params["conv"][-1][None])[None]
    np.testing.assert_allclose(one[0][1], cell.gated(params, window)[1][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(one[0][1], two[0][1])


def test_rg_lru_has_finite_gradients_where_nothing_is_forgotten():
    cell = RGLRU(features=H, heads=2)
    params = made(cell) | {"lam": jnp.full((H,), -60.0)}
    grads = jit(jax.grad(lambda p: jnp.sum(outputs_of(cell, p) ** 2)))(params)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


def outputs_of(cell, params):
    return cell.apply(params, cell.init_carry((B,)), U, RESET)[1]


def heads_of(cell, params, names="qkv"):
    x = cell.project(params, U[:, :1])
    return [np.asarray(by_head(x[n], cell.heads), np.float64)[:, 0] for n in names]


def test_linear_attention_is_attention_without_the_exponential():
    cell = LinearAttention(features=H, heads=2)
    params = made(cell)
    q, k, v = heads_of(cell, params)
    q, k = (1 + np.where(x > 0, x, np.expm1(np.minimum(x, 0))) for x in (q, k))
    weights = np.einsum("ihk,jhk->hij", q, k) * np.tri(T)
    want = np.einsum("hij,jhv->ihv", weights / weights.sum(-1, keepdims=True), v)
    got = outputs(cell, params, reset=None)[:, 0]
    np.testing.assert_allclose(got, want.reshape(T, H), rtol=1e-4, atol=1e-5)


def test_retnet_weighs_by_powers_of_gamma_and_relative_rotation():
    cell = RetNet(features=H, heads=2)
    params = made(cell)
    q, k, v, g = heads_of(cell, params, "qkvg")
    qc, kc = (x[..., :2] + 1j * x[..., 2:] for x in (q, k))
    n = np.arange(T)[:, None] - np.arange(T)[None]
    a = (1 - 2.0 ** (-5 - np.arange(2)))[:, None] * np.exp(1j * np.array([1.0, 0.01]))
    powers = a[:, :, None, None] ** np.maximum(n, 0) * (n >= 0)
    o = np.einsum("ihk,jhk,hkij,jhv->ihv", qc, kc.conj(), powers, v).real
    y = np.asarray(rms_norm(jnp.asarray(o, jnp.float32))).reshape(T, H) * silu(g.reshape(T, H))
    got = outputs(cell, params, reset=None)[:, 0]
    np.testing.assert_allclose(got, y @ np.asarray(params["out"]), rtol=1e-3, atol=1e-4)


def test_gateloop_rotates_by_half_turns_to_tell_parity():
    bits = np.random.default_rng(0).integers(0, 2, 300)
    zero, one = jnp.zeros((300, 1, 1)), jnp.ones((300, 1, 1))
    phase = jnp.asarray(np.pi * bits, jnp.float32).reshape(300, 1, 1)
    state = jnp.ones((1, 1, 1), jnp.complex64)
    _, o = linear_attention(one, zero, one, zero, state, phase=phase)
    np.testing.assert_allclose(o[:, 0, 0], (-1.0) ** np.cumsum(bits), atol=1e-3)


def half_lives(cell):
    x = {n: jnp.zeros((1, w)) for n, w in cell.widths.items()}
    params = made(cell)
    for name, bias in cell.split(params["in"]["bias"]).items():
        x[name] = bias[None]
    log_a = cell.terms(params, x, [])[0]["log_a"]
    return np.log(0.5) / np.asarray(log_a).ravel()


@pytest.mark.parametrize("cell", [GLA(features=H, heads=2), GateLoop(features=H, heads=2)])
def test_half_lives_start_between_4_and_1000_steps_in_every_head(cell):
    lives = half_lives(cell).reshape(2, -1)
    np.testing.assert_allclose([lives.min(), lives.max()], [4, 1000], rtol=1e-3)
    assert np.all(lives.max(axis=1) > 100 * lives.min(axis=1) / 2.2)


def test_a_gated_delta_net_that_never_forgets_is_a_delta_net():
    gated, plain = GatedDeltaNet(features=H, heads=2), DeltaNet(features=H, heads=2)
    params = made(gated)
    never = params | {"log_rate": jnp.full((2,), -1e9)}
    cut = {k: v[..., :-2] for k, v in params["in"].items()}
    same = {"in": cut, "conv": params["conv"], "out": params["out"]}
    want = outputs(plain, same)
    np.testing.assert_allclose(outputs(gated, never), want, rtol=1e-5, atol=1e-6)
    assert float(jnp.max(jnp.abs(outputs(gated, params) - want))) > 1e-3


@pytest.mark.parametrize("negative_eigs", [False, True])
def test_delta_net_writes_unit_keys_with_beta_in_its_range(negative_eigs):
    cell = DeltaNet(features=H, heads=2, negative_eigs=negative_eigs)
    params = made(cell)
    x = cell.project(params, 100 * U)
    terms, _ = cell.terms(params, x, [x["qkv"]] * 3)
    lengths = jnp.linalg.norm(terms["k"], axis=-1)
    np.testing.assert_allclose(jnp.median(lengths), 1, atol=1e-3)
    assert float(lengths.max()) < 1.001
    assert 0 <= float(terms["beta"].min()) < 0.1
    np.testing.assert_allclose(terms["beta"].max(), 2.0 if negative_eigs else 1.0, rtol=1e-2)


def test_rwkv5_sees_the_first_input_of_an_episode_through_the_bonus_alone():
    cell = RWKV5(features=H, heads=2)
    params = made(cell)
    without = outputs(cell, params | {"bonus": jnp.zeros(H)})
    first = np.asarray(RESET) | (np.arange(T) == 0)[:, None]
    np.testing.assert_allclose(np.asarray(without)[first], 0, atol=1e-6)
    assert np.all(np.abs(np.asarray(without)[~first]).max(-1) > 1e-3)
    assert np.all(np.abs(np.asarray(outputs(cell, params))[first]).max(-1) > 1e-3)


def test_rwkv6_without_its_low_rank_maps_is_rwkv5():
    five, six = RWKV5(features=H, heads=2), RWKV6(features=H, heads=2)
    params = made(six)
    off = params | {k: jnp.zeros_like(params[k]) for k in ("mix_up", "decay_up")}
    same = {k: params[k] for k in ("maps", "omega", "bonus", "out")} | {"mu": params["mu"][:4]}
    want = outputs(five, same)
    np.testing.assert_allclose(outputs(six, off), want, rtol=1e-5, atol=1e-6)
    assert float(jnp.max(jnp.abs(outputs(six, params) - want))) > 1e-4


def test_the_smr_gate_multiplies_the_input_by_its_convolution():
    cell, inner = SMR(features=H, state=4), S5(features=H, state=4)
    params = made(cell)
    present = params | {"conv": jnp.zeros((4, H)).at[-1].set(1.0)}
    want = outputs(inner, params["inner"], U * U)
    np.testing.assert_allclose(outputs(cell, present), want, rtol=1e-5, atol=1e-5)


def test_h3_pairs_each_value_with_earlier_keys():
    cell, inner = H3(features=H, state=4, taps=3), S4D(features=H, state=4)
    params = made(cell)
    shift = params | {"conv": jnp.zeros((3, H)).at[-2].set(1.0)}
    q, k, v = jnp.split(U @ params["in"]["kernel"], 3, axis=-1)
    before = jnp.concatenate([jnp.zeros((1, B, H)), k[:-1]])
    before = jnp.where(RESET[..., None], 0, before)
    want = q * outputs(inner, params["inner"], before * v)
    np.testing.assert_allclose(outputs(cell, shift), want, rtol=1e-4, atol=1e-5)


def test_only_the_recurrence_is_labelled_ssm():
    for cell, names in (
        (Mamba(features=H), {"log_A", "step", "D"}),
        (Mamba2(features=H), {"log_rate", "step", "D"}),
        (GatedDeltaNet(features=H), {"log_rate", "step"}),
        (RGLRU(features=H), {"lam"}),
        (RWKV6(features=H), {"omega", "bonus"}),
        (RetNet(features=H), set()),
    ):
        shapes = jax.eval_shape(lambda c=cell: c.init(jax.random.key(0), H))
        labels = cell.labels(shapes)
        assert {k for k, v in labels.items() if v == "ssm"} == names
    labels = SMR(features=H).labels(
        jax.eval_shape(lambda: SMR(features=H).init(jax.random.key(0), H))
    )
    assert labels["inner"]["lam_re"] == "ssm" and labels["conv"] == "regular"


def test_inverse_softplus_is_one():
    y = jnp.array([1e-4, 0.1, 3.0, 30.0])
    np.testing.assert_allclose(jax.nn.softplus(inverse_softplus(y)), y, rtol=1e-4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GLA(features=12, heads=4), r"multiple of 2 \* heads"),
        (lambda: Mamba(state=0), "state, expand >= 1"),
        (lambda: Mamba2(expand=0), "state, expand >= 1"),
        (lambda: RGLRU(features=10, heads=4), "multiple of heads"),
        (lambda: SMR(taps=1), "taps >= 2"),
        (lambda: H3(state=3), "even"),
        (lambda: Longhorn(features=8).init(jax.random.key(0), 5), r"ssmrl\.memory\.Stack"),
        (lambda: RGLRU(features=8).init(jax.random.key(0), 5), r"ssmrl\.memory\.Stack"),
        (lambda: DeltaNet(features=8).init(jax.random.key(0), 5), r"ssmrl\.memory\.Stack"),
    ],
)
def test_options_out_of_range_are_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()
