"""Cells of other semigroups, exact filters, images, attention and hybrids: closed forms."""

import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory.blocks import layer_norm
from ssmrl.memory.cells.attention import WindowAttention
from ssmrl.memory.cells.cde import LinearCDE
from ssmrl.memory.cells.conv_s5 import ConvS5
from ssmrl.memory.cells.elman import Elman
from ssmrl.memory.cells.ffm import FFM
from ssmrl.memory.cells.filters import HMM, Kalman
from ssmrl.memory.cells.hybrids import BlockState, HiSS, SeqBoat, Spade
from ssmrl.memory.cells.lstm import LSTM
from ssmrl.memory.cells.rwkv4 import RWKV4, average
from ssmrl.memory.semigroup import flagged, semigroup_scan
from ssmrl.memory.spec import CHUNK
from tests.memory.test_contract import jit


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sequence(seed, steps, batch, features, resets=0.0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(steps, batch, features)).astype(np.float32)
    return u, rng.random((steps, batch)) < resets


def read(mem, u, reset=None, seed=0, **changes):
    """Parameters, with some exchanged, and all outputs from the first carry on."""
    params = jit(mem.init, static_argnums=1)(jax.random.key(seed), u.shape[-1]) | changes
    y = jit(lambda p: mem.apply(p, mem.init_carry(u.shape[1:-1]), u, reset)[1])(params)
    return jax.tree.map(np.asarray, params), np.asarray(y)


# ------------------------------------------------------------------------------ semigroups


def affine(earlier, later):
    return earlier[0] * later[0], later[0] * earlier[1] + later[1]


def normalised_product(earlier, later):
    x = earlier @ later
    return x / jnp.sum(x, axis=(-2, -1), keepdims=True)


OPERATIONS = {
    "affine": (affine, lambda rng, shape: (rng.normal(size=shape), rng.normal(size=shape))),
    "average": (average, lambda rng, shape: tuple(3 * rng.normal(size=(4, *shape)))),
    "largest": (jnp.maximum, lambda rng, shape: rng.normal(size=shape)),
    "filter": (normalised_product, lambda rng, shape: rng.random((*shape, 3, 3))),
}


def draw(name, seed, shape):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), OPERATIONS[name][1](rng, shape))


def meaning(name, x):
    """What two equal elements have in common: averages may share out their top differently."""
    if name != "average":
        return x
    decay, top, weighted, weight = x
    return decay, weighted * jnp.exp(top), weight * jnp.exp(top)


def close(got, want, tolerance=1e-4):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operations_are_associative_whatever_the_flags(name):
    op = jit(flagged(OPERATIONS[name][0]))
    for flags in itertools.product((False, True), repeat=3):
        x, y, z = ((jnp.full((5,), flag), draw(name, i, (5,))) for i, flag in enumerate(flags))
        (f, left), (g, right) = op(op(x, y), z), op(x, op(y, z))
        np.testing.assert_array_equal(f, g)
        close(meaning(name, left), meaning(name, right), 1e-3)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_semigroup_scan_equals_the_loop_with_resets_to_any_start(name):
    op, (steps, batch) = OPERATIONS[name][0], (17, 3)
    elements = draw(name, 0, (steps, batch))
    first, start = draw(name, 1, (batch,)), draw(name, 2, (batch,))
    reset = np.random.default_rng(3).random((steps, batch)) < 0.2
    reset[0] = [True, False, False]
    x, want, step = first, [], jit(op)
    for t in range(steps):
        flags = jax.tree.map(lambda s, t=t: reset[t].reshape(-1, *(1,) * (s.ndim - 1)), start)
        x = jax.tree.map(np.where, flags, start, x)
        x = step(x, jax.tree.map(lambda e, t=t: e[t], elements))
        want.append(x)
    want = jax.tree.map(lambda *x: np.stack(x), *want)
    for backend in ("sequential", "associative", "auto"):
        got = jit(
            lambda backend=backend: semigroup_scan(
                op, elements, first, reset=jnp.asarray(reset), start=start, backend=backend
            )
        )()
        close(meaning(name, got), meaning(name, want), 2e-3)


@pytest.mark.parametrize("backend", ["sequential", "associative"])
def test_nothing_crosses_a_reset_of_a_semigroup_scan(backend):
    elements, first, start = (draw("affine", i, (12, 2)[i > 0 :]) for i in range(3))
    reset = jnp.zeros((12, 2), bool).at[7].set(True)

    def after(elements, first):
        x = semigroup_scan(affine, elements, first, reset=reset, start=start, backend=backend)
        return x[1][7:]

    bad = jax.tree.map(lambda x: x.at[3].set(jnp.nan), elements)
    np.testing.assert_array_equal(jit(after)(bad, first), jit(after)(elements, first))
    gradient = jit(jax.grad(lambda *x: jnp.sum(after(*x)), argnums=(0, 1)))(elements, first)
    assert np.all(gradient[0][1][:7] == 0) and np.all(gradient[0][1][7:] != 0)
    assert all(np.all(g == 0) for g in gradient[1])


@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("cuda", False)])
def test_auto_is_a_loop_on_a_cpu_and_parallel_on_an_accelerator(platform, loops, monkeypatch):
    monkeypatch.setattr("ssmrl.memory.backends.backends", lambda: {"cpu": None, platform: None})
    scan = jax.jit(lambda x: semigroup_scan(jnp.maximum, x, x[0]))
    program = jax.export.export(scan, platforms=[platform])(jnp.ones((64, 2)))
    assert ("stablehlo.while" in program.mlir_module()) == loops


def test_a_semigroup_scan_refuses_what_does_not_fit():
    x = jnp.ones((5, 2))
    for options, message in (
        ({"backend": "paralel"}, "unknown scan backend"),
        ({"reset": jnp.zeros((5, 2), bool)}, "needs the state that they go back to"),
        ({"reset": jnp.zeros((2, 5), bool), "start": x[0]}, "batch-major"),
        ({"reset": jnp.zeros((5, 2)), "start": x[0]}, "must be bool"),
    ):
        with pytest.raises(UsageError, match=message):
            semigroup_scan(jnp.maximum, x, x[0], **options)


# ------------------------------------------------------------------------------ recurrences


def test_lstm_and_elman_are_their_formulas():
    u, _ = sequence(0, 6, 2, 3)
    params, got = read(LSTM(4), u)
    h = c = np.zeros((2, 4))
    for t in range(6):
        x = u[t] @ params["input"]["kernel"] + params["input"]["bias"] + h @ params["R"]
        i, f, o, g = np.split(x, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(got[t], h, rtol=1e-5, atol=1e-6)
    assert np.all(params["input"]["bias"][4:8] == 1)
    params, got = read(Elman(4), u)
    h = np.zeros((2, 4))
    for t in range(6):
        h = np.tanh(u[t] @ params["input"]["kernel"] + h @ params["R"])
        np.testing.assert_allclose(got[t], h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "mem", [memory.GRU(4), LSTM(4), Elman(4), Kalman(4)], ids=lambda mem: type(mem).__name__
)
def test_over_several_chunks_values_and_gradients_are_those_of_stepping(mem):
    u, reset = sequence(1, 2 * CHUNK + 5, 2, 3, resets=0.02)
    params = jit(mem.init, static_argnums=1)(jax.random.key(0), 3)
    carry = jax.tree.map(lambda x: x + 1, mem.init_carry((2,)))

    def stepped(params):
        ready = mem.prepare(params)
        return jax.lax.scan(lambda h, at: mem.step(ready, h, *at), carry, (u, reset))

    def loss(read):
        def of(params):
            end, y = read(params)
            return jnp.sum(jnp.sin(y)), (end, y)

        return jax.value_and_grad(of, has_aux=True)

    @jit
    def both(params):
        return loss(lambda p: mem.apply(p, carry, u, reset))(params), loss(stepped)(params)

    close(*both(params), 1e-3)


@pytest.mark.parametrize("mem", [memory.GRU(4), LSTM(4), Elman(4)], ids=lambda m: type(m).__name__)
def test_the_gradients_of_gated_cells_reach_everything_they_read(mem):
    u, reset = sequence(1, 12, 2, 3, resets=0.2)
    params = jit(mem.init, static_argnums=1)(jax.random.key(0), 3)
    carry = jax.tree.map(lambda x: x + 0.5, mem.init_carry((2,)))
    start = jax.tree.map(lambda x: x - 0.3, mem.init_carry())

    def stepped(params, carry, u, start):
        def step(h, at):
            return mem.step(params, h, *at, start=start)

        return jax.lax.scan(step, carry, (u, reset))

    def whole(params, carry, u, start):
        return mem.apply(params, carry, u, reset, start=start)

    def gradients(read):
        def loss(*inputs):
            return sum(jnp.sum(jnp.sin(2 * x)) for x in jax.tree.leaves(read(*inputs)))

        return jax.grad(loss, argnums=(0, 1, 2, 3))(params, carry, u, start)

    found, wanted = jit(lambda: (gradients(whole), gradients(stepped)))()
    close(found, wanted)
    assert all(np.any(x != 0) for x in jax.tree.leaves(found[1:]))


def test_a_trace_of_ffm_decays_and_turns_at_its_own_rates():
    mem = FFM(features=4, state=3, contexts=2, slowest=10.0)
    u, _ = sequence(1, 9, 1, 4)
    params = mem.init(jax.random.key(0), 4)
    a, b = jit(lambda p: mem.elements(mem.prepare(p).constants, u))(params)
    carry = jit(lambda p: mem.apply(p, mem.init_carry((1,)), u)[0])(params)
    lag = np.arange(9)[::-1, None, None]
    rate = -np.abs(params["alpha"])[:, None] + 1j * np.asarray(params["omega"])[None]
    np.testing.assert_allclose(carry[0], np.sum(np.exp(lag * rate) * b[:, 0], 0), atol=1e-5)
    np.testing.assert_array_equal(b[..., 0], b[..., 1])
    assert a.shape == (3, 2)


def test_rwkv4_averages_the_past_with_decaying_softmax_weights():
    steps, h = 12, 4
    u, reset = sequence(2, steps, 2, h, resets=0.2)
    params, got = read(RWKV4(h), 5 * u, reset)  # keys so large that plain sums overflow
    w, mu = np.exp(params["log_w"]), params["mu"]
    for b in range(2):
        first = 0
        for t in range(steps):
            first = t if reset[t, b] else first
            last = np.concatenate([np.zeros((1, h)), 5 * u[first:t, b]])  # u[t-1] of an episode
            now = 5 * np.asarray(u[first : t + 1, b], np.float64)
            r, k, v = (
                (m * now + (1 - m) * last) @ x for m, x in zip(mu, params["input"], strict=True)
            )
            logits = k - w * np.arange(t - first, -1, -1)[:, None] + w
            logits[-1] = k[-1] + params["bonus"]
            weights = np.exp(logits - logits.max(0))
            mean = np.sum(weights * v, 0) / np.sum(weights, 0)
            want = (sigmoid(r[-1]) * mean) @ params["output"]
            np.testing.assert_allclose(got[t, b], want, rtol=1e-3, atol=1e-4)


def test_the_backends_of_rwkv4_agree():
    u, reset = sequence(3, 20, 2, 4, resets=0.2)
    results = [read(RWKV4(4, scan=scan), u, reset)[1] for scan in ("sequential", "associative")]
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------ dense


def test_a_linear_cde_is_its_formula_and_bounded_it_cannot_explode():
    u, _ = sequence(4, 10, 2, 3)
    for bounded in (False, True):
        mem = LinearCDE(features=5, state=4, channels=2, bounded=bounded)
        params, got = read(mem, u, A=jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 4))))
        x = np.zeros((2, 4))
        for t in range(10):
            w = u[t] @ params["input"]["kernel"] + params["input"]["bias"]
            w = np.concatenate([np.ones((2, 1)), w], axis=-1)
            a = np.eye(4) + np.einsum("bi,ijk->bjk", w, params["A"])
            if bounded:
                a = a / np.maximum(np.abs(a).sum(-1).max(-1), 1)[:, None, None]
                assert np.linalg.norm(a, np.inf, axis=(-2, -1)).max() < 1 + 1e-6
            x = np.einsum("bij,bj->bi", a, x) + w @ params["B"]
            y = x @ params["output"]["kernel"] + params["output"]["bias"]
            np.testing.assert_allclose(got[t], y, rtol=2e-3, atol=1e-4)


def test_one_layer_of_a_linear_cde_tracks_the_alternating_group_a5():
    three_cycle, five_cycle = np.eye(5)[[1, 2, 0, 3, 4]], np.eye(5)[[1, 2, 3, 4, 0]]
    mem = LinearCDE(features=5, state=5, channels=2)
    generators = np.stack([np.zeros((5, 5)), three_cycle - np.eye(5), five_cycle - np.eye(5)])
    params = {
        "A": jnp.asarray(generators, jnp.float32),
        "B": jnp.zeros((3, 5)),
        "input": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
        "output": {"kernel": jnp.eye(5), "bias": jnp.zeros(5)},
    }
    word = np.random.default_rng(0).integers(0, 2, 300)
    u = jax.nn.one_hot(word, 2)
    got = np.asarray(jit(lambda: mem.apply(params, jnp.arange(5.0), u)[1])())
    x = np.arange(5)
    for t, symbol in enumerate(word):
        x = (three_cycle, five_cycle)[symbol] @ x
        np.testing.assert_array_equal(got[t], x)


def test_a_random_linear_cde_knows_the_area_of_a_path_and_a_linear_system_does_not():
    rng = np.random.default_rng(0)
    steps = 0.3 * rng.normal(size=(40, 1200, 2)) / 40**0.5
    path = np.cumsum(steps, 0) - steps
    area = np.sum(path[..., 0] * steps[..., 1] - path[..., 1] * steps[..., 0], 0)
    u = jnp.asarray(steps, jnp.float32)

    def explained(mem, **changes):
        params = mem.init(jax.random.key(1), 2) | changes
        x = jit(lambda: mem.apply(params, mem.init_carry((1200,)), u)[0])()
        x = np.concatenate([np.asarray(x).real, np.asarray(x).imag, np.ones((1200, 1))], -1)
        fit = np.linalg.lstsq(x[:800], area[:800], rcond=None)[0]
        return 1 - np.var(area[800:] - x[800:] @ fit) / np.var(area[800:])

    as_is = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
    cde = LinearCDE(features=2, state=32, channels=2, bounded=False)
    no_drift = cde.init(jax.random.key(1), 2)["A"].at[0].set(0.0)
    assert explained(cde, input=as_is, A=no_drift) > 0.9
    assert explained(memory.S5(features=2, state=64)) < 0.2


# ------------------------------------------------------------------------------ filters


def hidden_markov_model(seed=0, states=4, symbols=3):
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(n), size) for n, size in ((states, states), (symbols, states))]


def test_an_hmm_memory_is_the_exact_filter_and_a_normalised_product():
    moves, sees = hidden_markov_model()
    moves[0] = np.eye(4)[1]  # some zeros
    prior, rng = np.full(4, 0.25), np.random.default_rng(1)
    seen, reset = rng.integers(0, 3, (30, 2)), rng.random((30, 2)) < 0.1
    mem, params = HMM(4), HMM.given(moves, sees, prior)
    u = jax.nn.one_hot(seen, 3)
    got = jit(lambda: mem.apply(params, mem.init_carry((2,)), u, jnp.asarray(reset))[1])()
    for b in range(2):
        now = None
        for t in range(30):
            ahead = prior if now is None or reset[t, b] else now @ moves
            now = ahead * sees[:, seen[t, b]]
            now = now / now.sum()
            np.testing.assert_allclose(got[t, b], now, rtol=1e-4, atol=1e-6)
    likely = jnp.asarray(sees.T, jnp.float32)[seen]  # (T, B, S)
    matrices = jnp.asarray(moves, jnp.float32)[None, None] * likely[..., None, :]
    start = jnp.broadcast_to(jnp.asarray(np.linalg.solve(moves.T, prior), jnp.float32), (2, 4, 4))
    products = jit(
        lambda: semigroup_scan(
            normalised_product,
            matrices,
            start,
            reset=jnp.asarray(reset),
            start=start,
            backend="associative",
        )
    )()
    rows = products.sum(-2) / products.sum((-2, -1))[..., None]
    np.testing.assert_allclose(rows, got, rtol=1e-3, atol=1e-4)


def test_a_kalman_memory_is_the_exact_filter():
    rng = np.random.default_rng(0)
    n, m = 3, 2
    f, o = 0.5 * rng.normal(size=(n, n)), rng.normal(size=(m, n))
    q, r, p0 = (np.eye(k) * 0.3 + (lambda x: x @ x.T)(rng.normal(size=(k, k))) for k in (n, m, n))
    m0 = rng.normal(size=n)
    mem, params = Kalman(2 * n), Kalman.given(f, o, q, r, m0, p0)
    u, reset = sequence(5, 25, 2, m, resets=0.1)
    got = jit(lambda: mem.apply(params, mem.init_carry((2,)), u, reset)[1])()
    for b in range(2):
        mean, p = m0, p0
        for t in range(25):
            if reset[t, b]:
                mean, p = m0, p0
            gain = p @ o.T @ np.linalg.inv(o @ p @ o.T + r)
            mean, p = mean + gain @ (u[t, b] - o @ mean), p - gain @ o @ p
            np.testing.assert_allclose(got[t, b], [*mean, *np.diag(p)], rtol=2e-3, atol=2e-4)
            mean, p = f @ mean, f @ p @ f.T + q


def test_the_covariance_of_a_kalman_memory_settles():
    u, _ = sequence(6, 60, 1, 3)
    for longest in (1, 20):
        short, long = Kalman(4, longest=longest), Kalman(4, longest=60)
        error = np.abs(read(short, u)[1] - read(long, u)[1]).max()
        assert (error < 0.01) == (longest == 20)


def test_models_that_are_none_are_refused():
    moves, sees = hidden_markov_model()
    with pytest.raises(UsageError, match="rows sum to 1"):
        HMM.given(moves.T, sees, np.full(4, 0.25))
    with pytest.raises(UsageError, match="must be even"):
        Kalman(7)


# ------------------------------------------------------------------------------ images


def test_conv_s5_with_images_of_one_pixel_is_s5():
    s5, conv = memory.S5(features=3, state=4), ConvS5(features=3, state=4)
    u, reset = sequence(6, 15, 2, 3, resets=0.2)
    params, want = read(s5, u, reset)
    as_kernel = {
        "B": jnp.moveaxis(params["B"], 1, 2)[:, None, None],
        "C": jnp.moveaxis(params["C"], 1, 2)[:, None, None],
    }
    shared = {k: jnp.asarray(params[k]) for k in ("lam_re", "lam_im", "log_dt", "D")}
    np.testing.assert_allclose(read(conv, u, reset, **shared, **as_kernel)[1], want, atol=1e-5)


def test_conv_s5_moves_with_the_image():
    mem = ConvS5(features=2 * 64, height=8, width=8, state=4)
    u, _ = sequence(7, 4, 1, 2 * 64)
    inside = np.zeros((8, 8, 1), np.float32)
    inside[3:5, 3:5] = 1
    u = u * inside.repeat(2, -1).ravel()
    moved = jnp.roll(u.reshape(4, 1, 8, 8, 2), (1, -1), (2, 3)).reshape(u.shape)
    _, y = read(mem, jnp.concatenate([u, moved], axis=1))
    one, other = np.moveaxis(y.reshape(4, 2, 8, 8, 2), 1, 0)
    np.testing.assert_allclose(np.roll(one, (1, -1), (1, 2)), other, atol=1e-5)
    assert np.abs(one).max() > 0.1


# ------------------------------------------------------------------------------ attention


def attention(params, u, heads, window, allowed):
    """Full masked softmax attention of one sequence `(T, F)`."""
    steps, h = len(u), params["output"]["kernel"].shape[0]
    qkv = u @ params["input"]["kernel"] + params["input"]["bias"]
    q, k, v = (x.reshape(steps, heads, -1) for x in np.split(qkv, 3, axis=-1))
    lag = np.arange(steps)[:, None] - np.arange(steps)[None]
    logits = np.einsum("qhd,khd->hqk", q, k) / (h / heads) ** 0.5
    logits = logits + params["bias"][:, np.clip(lag, 0, window - 1)]
    weights = np.exp(logits) * ((lag >= 0) & (lag < window) & allowed)
    y = np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v)
    return y.reshape(steps, h) @ params["output"]["kernel"] + params["output"]["bias"]


@pytest.mark.parametrize(("window", "steps"), [(4, 23), (4, 3), (30, 23)])
def test_window_attention_is_full_attention_to_the_window_of_the_episode(window, steps):
    mem = WindowAttention(features=8, heads=2, window=window)
    u, reset = sequence(8, steps, 2, 5, resets=0.1)
    bias = jax.random.normal(jax.random.key(1), (2, window))
    params, got = read(mem, u, reset, bias=bias)
    episode = np.cumsum(reset, 0)
    for b in range(2):
        same = episode[:, None, b] == episode[None, :, b]
        want = attention(params, np.asarray(u[:, b]), 2, window, same)
        np.testing.assert_allclose(got[:, b], want, rtol=1e-4, atol=1e-5)


def test_a_window_holds_the_inputs_of_this_episode_alone():
    mem = WindowAttention(features=4, heads=1, window=6)
    u, _ = sequence(9, 7, 2, 4)
    reset = jnp.zeros((7, 2), bool).at[5, 1].set(True)
    params = mem.init(jax.random.key(0), 4)
    carry, _ = jit(lambda: mem.apply(params, mem.init_carry((2,)), u, reset))()
    np.testing.assert_array_equal(carry.valid, [5, 2])
    assert np.all(carry.keys[1, :3] == 0) and np.all(carry.keys[1, 3:] != 0)
    with pytest.raises(UsageError, match="multiple of heads"):
        WindowAttention(features=6, heads=4)


# ------------------------------------------------------------------------------ hybrids


def parts(mem, params, u, reset, *indices):
    """Outputs of members, each reading u."""
    members = mem.members if hasattr(mem, "members") else mem.memory.members
    params = params["members"] if "members" in params else params["memory"]["members"]

    def outputs(params):
        return [
            members[i].apply(params[i], members[i].init_carry((2,)), u, reset)[1] for i in indices
        ]

    return [np.asarray(y) for y in jit(outputs)(params)]


@pytest.mark.parametrize("mem", [Spade(8, 4, 2, 4), BlockState(8, 4, 2, 4, 3)], ids=repr)
def test_the_mixed_hybrids_sum_normalised_halves(mem):
    u, reset = sequence(10, 12, 2, 8, resets=0.1)
    params, got = read(mem, u, reset)
    halves = [np.asarray(layer_norm(y)) for y in parts(mem, params, u, reset, 0, 1)]
    want = np.concatenate(halves, -1) @ params["mix"]["kernel"] + params["mix"]["bias"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_seqboat_with_its_gate_open_is_dense_and_with_it_shut_is_its_ssm():
    mem = SeqBoat(8, 4, 2, 4)
    u, reset = sequence(11, 12, 2, 8, resets=0.1)
    for on in (30.0, -30.0):
        gate = {"kernel": jnp.zeros((8, 2)), "bias": jnp.array([0.0, on])}
        params, got = read(mem, u, reset, gate=gate)
        ssm, attended = parts(mem, params, u, reset, 0, 1)
        h = ssm * sigmoid(ssm)
        np.testing.assert_allclose(got, h + attended * (on > 0), rtol=1e-4, atol=1e-4)


def test_seqboat_attends_to_the_last_inputs_it_chose():
    mem = SeqBoat(8, 4, 2, window=3)
    u, _ = sequence(12, 20, 2, 8)
    params, got = read(mem, u)
    (ssm,) = parts(mem, params, u, None, 0)
    h = ssm * sigmoid(ssm)
    logits = (h @ params["gate"]["kernel"] + params["gate"]["bias"]) / 0.3
    p = sigmoid(logits[..., 1] - logits[..., 0])
    assert 0.2 < np.mean(p > 0.5) < 0.8
    for b in range(2):
        chosen = np.flatnonzero(p[:, b] > 0.5)
        attended = np.zeros((20, 8))
        everywhere = np.ones((len(chosen), len(chosen)), bool)
        attended[chosen] = attention(
            params["members"][1], np.asarray(u[chosen, b]), 2, 3, everywhere
        )
        np.testing.assert_allclose(got[:, b], h[:, b] + p[:, b, None] * attended, atol=1e-4)


def test_hiss_on_whole_spans_is_two_memories_on_a_reshaped_sequence():
    k, spans = 3, 4
    mem = HiSS(8, 4, every=k)
    u, _ = sequence(13, k * spans, 2, 8)
    reset = jnp.zeros((k * spans, 2), bool).at[2 * k].set(True)
    params, got = read(mem, u, reset)
    low, high = params["memory"]["members"]
    s5 = mem.memory.low

    @jit
    def reshaped(low, high):
        pieces = jnp.moveaxis(u.reshape(spans, k, 2, 8), 0, 1)
        _, y = s5.apply(low, s5.init_carry((spans, 2)), pieces)
        _, z = s5.apply(high, s5.init_carry((2,)), y[-1], reset[::k])
        return jnp.moveaxis(y, 1, 0).reshape(u.shape), z

    y, z = (np.asarray(x) for x in reshaped(low, high))
    held = np.repeat(np.concatenate([np.zeros((1, 2, 8)), z[:-1]]), k, 0)
    held[k - 1 :: k] = z
    held[2 * k : 3 * k - 1] = 0  # nothing has ended yet in the second episode
    want = np.concatenate([y, held], -1) @ params["mix"]["kernel"] + params["mix"]["bias"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_hiss_with_spans_of_one_step_is_the_upper_memory_over_a_memoryless_one():
    mem = HiSS(8, 4, every=1)
    u, reset = sequence(14, 9, 2, 8, resets=0.2)
    params, got = read(mem, u, reset)
    low, high = params["memory"]["members"]
    s5 = mem.memory.low

    @jit
    def composed(low, high):
        y = s5.apply(low, s5.init_carry((2,)), u, jnp.ones((9, 2), bool))[1]
        return y, s5.apply(high, s5.init_carry((2,)), y, reset)[1]

    halves = np.concatenate(composed(low, high), -1)
    want = halves @ params["mix"]["kernel"] + params["mix"]["bias"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
