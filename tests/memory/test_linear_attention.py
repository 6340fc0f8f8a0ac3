"""Chunked outer-product memories against a loop in float64, and short convolutions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.memory.convolution import lagged, short_conv
from ssmrl.memory.linear_attention import linear_attention

T, B, HEADS, K, V = 37, 2, 2, 4, 3
KINDS = ("plain", "shared", "own", "phase", "delta", "gated_delta", "bonus")


def jit(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"})


def problem(kind, seed=0):
    """Arguments of `linear_attention` by name, float64 or complex128."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=(T, B, HEADS, *shape))

    x = {"q": draw(K), "k": draw(K), "v": draw(V)}
    x["state"], x["start"] = rng.normal(size=(B, HEADS, K, V)), rng.normal(size=(HEADS, K, V))
    if kind in ("shared", "gated_delta"):
        x["log_a"] = -2 * np.abs(draw())
    if kind in ("own", "bonus", "phase"):
        x["log_a"] = -np.minimum(np.abs(draw(K)), 5)
    if kind == "phase":
        x["phase"] = draw(K)
        x["q"], x["k"] = x["q"] + 1j * draw(K), x["k"] + 1j * draw(K)
        x["state"], x["start"] = x["state"] * (1 + 2j), x["start"] * (2 - 1j)
    if "delta" in kind:
        x["k"] /= np.linalg.norm(x["k"], axis=-1, keepdims=True)
        x["beta"] = rng.uniform(0, 2, size=(T, B, HEADS))
    if kind == "bonus":
        x["bonus"] = rng.normal(size=(HEADS, K))
    return x, rng.random((T, B)) < 0.15


def loop(reset, state, start, q, k, v, log_a=None, phase=None, beta=None, bonus=None):
    s, outputs = state, []
    log_a = np.zeros(q.shape[:-1]) if log_a is None else log_a
    log_a = log_a[..., None] if log_a.ndim < q.ndim else log_a
    a = np.exp(log_a + 1j * phase) if phase is not None else np.exp(log_a)
    for t in range(len(q)):
        before = np.where(reset[t][:, None, None, None], start, s)
        s = a[t][..., None] * before
        d = v[t]
        if beta is not None:
            d = beta[t][..., None] * (d - np.einsum("bhk,bhkv->bhv", k[t], s))
        write = k[t][..., None] * d[..., None, :]
        s = s + write
        seen = s if bonus is None else before + bonus[..., None] * write
        outputs.append(np.einsum("bhk,bhkv->bhv", q[t], seen).real)
    return s, np.stack(outputs)


def to_jax(x):
    kinds = {"c": jnp.complex64, "f": jnp.float32}
    return {name: jnp.asarray(value, kinds[value.dtype.kind]) for name, value in x.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_chunk_length_equals_the_loop(kind):
    x, reset = problem(kind)
    want = loop(reset, **x)
    for chunk in (1, 6, 16) if kind in ("own", "phase", "bonus") else (6, 16, T):
        read = partial(linear_attention, reset=jnp.asarray(reset), chunk=chunk)
        for got, expected in zip(jit(lambda x, f=read: f(**x))(to_jax(x)), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["shared", "own", "phase", "gated_delta", "bonus"])
def test_gradients_equal_those_of_stepping(kind):
    x, reset = problem(kind, seed=1)
    x, reset = to_jax(x), jnp.asarray(reset)
    sequences = {n: x[n] for n in x if n not in ("state", "start", "bonus")}
    others = {n: x[n] for n in x if n not in sequences and n != "state"}

    def by_steps(x):
        def step(s, at):
            values, reset = at
            rest = {n: x[n] for n in others}
            one = jax.tree.map(lambda z: z[None], values)
            s, o = linear_attention(**one, **rest, state=s, reset=reset[None])
            return s, o[0]

        values = {n: x[n] for n in sequences}
        return jax.lax.scan(step, x["state"], (values, reset))

    def loss(read, x):
        s, o = read(x)
        return jnp.sum(jnp.sin(o)) + jnp.sum(jnp.abs(s) ** 2)

    def whole(x):
        return linear_attention(**x, reset=reset, chunk=8)

    both = jit(lambda x: [jax.grad(partial(loss, read))(x) for read in (whole, by_steps)])(x)
    for name in x:
        np.testing.assert_allclose(both[0][name], both[1][name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["own", "gated_delta"])
def test_nothing_that_is_not_finite_crosses_a_reset(kind):
    x, _ = problem(kind)
    x, cut = to_jax(x), 9
    reset = jnp.zeros((T, B), bool).at[cut].set(True)
    read = jit(lambda x: linear_attention(**x, reset=reset)[1])
    clean = read(x)
    bad = x | {"state": jnp.full_like(x["state"], jnp.inf)}
    bad |= {n: x[n].at[cut - 3].set(jnp.nan) for n in ("k", "v", "log_a")}
    np.testing.assert_array_equal(read(bad)[cut:], clean[cut:])
    assert np.all(np.isnan(read(bad)[:cut]))  # and within its own episode it is not hidden
    late = read(x | {"v": x["v"].at[cut - 3].set(jnp.nan)})
    assert np.all(np.isfinite(late[: cut - 3])) and np.all(np.isnan(late[cut - 3 : cut]))


def test_the_fastest_decays_neither_overflow_nor_leak():
    x = to_jax(problem("own")[0]) | {"log_a": jnp.full((T, B, HEADS, K), -30.0)}
    o, grad = jit(jax.value_and_grad(lambda x: jnp.sum(linear_attention(**x)[1] ** 2)))(x)
    assert np.isfinite(o) and all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grad))
    shared = to_jax(problem("shared")[0]) | {"log_a": jnp.full((T, B, HEADS), -jnp.inf)}
    _, o = jit(lambda x: linear_attention(**x))(shared)
    own = jnp.sum(shared["q"] * shared["k"], -1, keepdims=True) * shared["v"]
    np.testing.assert_allclose(o, own, rtol=1e-4, atol=1e-5)


def test_a_key_that_is_written_again_holds_the_new_value_alone():
    keys = jnp.eye(4)[jnp.array([0, 1, 2, 0])][:, None, None]
    values = jnp.arange(12.0).reshape(4, 1, 1, 3)
    for beta, first in ((jnp.ones((4, 1, 1)), values[3]), (None, values[0] + values[3])):
        s, _ = linear_attention(keys, keys, values, beta=beta)
        np.testing.assert_allclose(s[0, 0, 0], first[0, 0], atol=1e-6)
        np.testing.assert_allclose(s[0, 0, 1], values[1, 0, 0], atol=1e-6)


def test_reflections_by_beta_2_follow_transpositions_exactly():
    # writing nothing with beta = 2 and key (e_i - e_j) / sqrt 2 swaps rows i and j of S
    n, steps = 5, 200
    rng = np.random.default_rng(0)
    swaps = np.array([rng.choice(n, 2, replace=False) for _ in range(steps)])
    keys = np.zeros((steps, 1, 1, n), np.float32)
    rows = np.arange(n)
    for key, (i, j) in zip(keys[:, 0, 0], swaps, strict=True):
        key[i], key[j] = 0.5**0.5, -(0.5**0.5)
        rows[[i, j]] = rows[[j, i]]
    zero = jnp.zeros((steps, 1, 1, n))
    start, beta = jnp.eye(n)[None, None], jnp.full((steps, 1, 1), 2.0)
    read = jit(lambda k: linear_attention(zero, k, zero, state=start, beta=beta)[0])
    s = read(jnp.asarray(keys))
    np.testing.assert_allclose(s[0, 0], np.eye(n)[rows], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 17, "log_a": jnp.zeros((3, 1, 1, 2))}, "<= 16"),
        ({"chunk": 0}, "chunk >= 1"),
        ({"beta": jnp.zeros((3, 1, 1)), "bonus": jnp.zeros((1, 2))}, "one of phase, beta"),
        ({"k": jnp.zeros((3, 1, 1, 2), jnp.complex64)}, "need a phase"),
    ],
)
def test_what_linear_attention_cannot_do_is_refused(change, message):
    x = jnp.zeros((3, 1, 1, 2))
    with pytest.raises(UsageError, match=message):
        linear_attention(**({"q": x, "k": x, "v": x} | change))


def test_a_short_convolution_equals_a_ring_buffer():
    rng = np.random.default_rng(0)
    steps, width, channels = 25, 4, 3
    x, kernel = rng.normal(size=(steps, B, channels)), rng.normal(size=(width, channels))
    window, start = rng.normal(size=(B, width - 1, channels)), rng.normal(size=(3, channels))
    reset = rng.random((steps, B)) < 0.3
    for begin in (None, start):
        ring, want = window.copy(), []
        for t in range(steps):
            ring[reset[t]] = 0 if begin is None else begin
            held = np.concatenate([ring, x[t][:, None]], axis=1)
            want.append((kernel * held).sum(1))
            ring = held[:, 1:]
        arrays = [jnp.asarray(z, jnp.float32) for z in (kernel, x, window)]
        begin = None if begin is None else jnp.asarray(begin, jnp.float32)
        got = jit(lambda *a, s=begin: short_conv(*a, jnp.asarray(reset), s))(*arrays)
        np.testing.assert_allclose(got[0], ring, rtol=1e-6)
        np.testing.assert_allclose(got[1], want, rtol=1e-5, atol=1e-5)


def test_a_lag_never_reaches_over_a_reset():
    x = jnp.arange(1.0, 6.0)[:, None]
    reset = jnp.array([False, False, True, False, False])
    window, lags = lagged(x, jnp.array([[-2.0], [-1.0]]), reset)
    np.testing.assert_array_equal(lags[0][:, 0], [-1, 1, 0, 3, 4])
    np.testing.assert_array_equal(lags[1][:, 0], [-2, -1, 0, 0, 3])
    np.testing.assert_array_equal(window[:, 0], [4, 5])


def test_windows_and_kernels_that_do_not_fit_are_refused():
    x = jnp.zeros((5, 2, 3))
    with pytest.raises(UsageError, match="must be"):
        lagged(x, jnp.zeros((3, 3, 3)))
    with pytest.raises(UsageError, match="kernel"):
        short_conv(jnp.zeros((3, 3)), x, jnp.zeros((2, 3, 3)))
