import itertools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.memory.backends import BACKENDS, CHUNK, compose
from ssmrl.memory.scan import affine_scan

scan = jax.jit(affine_scan, static_argnames=("reverse", "backend"))


def reference(a, b, h0, reset, reset_to, reverse):
    """The recurrence as a Python loop in complex128."""
    steps = range(len(b))
    x, h = np.zeros_like(b), h0
    for t in reversed(steps) if reverse else steps:
        a_t = a if a.ndim < b.ndim else a[t]
        if reset is not None:
            h = np.where(reset[t][..., None], reset_to, h)
        x[t] = h = a_t * h + b[t]
    return x


def problem(steps, *, complex_, varying, resets, seed=0, batch=(3,), state=4):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        z = rng.normal(size=shape)
        return z + 1j * rng.normal(size=shape) if complex_ else z

    a = draw(*((steps, *batch) if varying else ()), state)
    a = 0.95 * a / np.maximum(np.abs(a), 1)
    reset = None
    if resets is not None:
        reset = rng.random((steps, *batch)) < (0.2 if resets == "some" else 2.0)
    return a, draw(steps, *batch, state), draw(*batch, state), reset, draw(state)


def to_jax(*arrays):
    kinds = {"c": jnp.complex64, "f": jnp.float32, "b": jnp.bool_}
    return [None if x is None else jnp.asarray(x, kinds[x.dtype.kind]) for x in arrays]


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("reverse", [False, True])
def test_every_backend_equals_the_loop(backend, reverse):
    for steps, complex_, varying, resets in (
        (1, True, False, "some"),
        (2, False, True, None),
        (CHUNK + 9, True, True, "some"),
        (CHUNK + 9, False, False, "some"),
        (CHUNK + 9, True, False, None),
        (CHUNK + 9, False, True, "all"),
    ):
        a, b, h0, reset, z = problem(steps, complex_=complex_, varying=varying, resets=resets)
        want = reference(a, b, h0, reset, z, reverse)
        ja, jb, jh0, jreset, jz = to_jax(a, b, h0, reset, z)
        got = scan(ja, jb, jh0, reset=jreset, reset_to=jz, reverse=reverse, backend=backend)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("backend", ["sequential", "associative", "chunked"])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_equal_those_of_a_differentiated_loop(backend, reverse):
    for varying in (False, True):
        a, b, h0, reset, z = to_jax(
            *problem(CHUNK + 3, complex_=True, varying=varying, resets="some", seed=3)
        )

        def loop(a, b, h0, z, varying=varying, reset=reset):
            def step(h, inputs):
                a_t, b_t, reset_t = inputs
                h = jnp.where(reset_t[:, None], z[None], h)
                h = a_t * h + b_t
                return h, h

            a = a if varying else jnp.broadcast_to(a[None, None], b.shape)
            return jax.lax.scan(step, h0, (a, b, reset), reverse=reverse)[1]

        def ours(a, b, h0, z, reset=reset):
            return affine_scan(a, b, h0, reset=reset, reset_to=z, reverse=reverse, backend=backend)

        args = (a, b, h0, z)

        def gradients(f, args):
            x, vjp = jax.vjp(f, *args)
            return vjp(jax.lax.complex(jnp.cos(x.real), jnp.sin(3 * x.imag)))

        pair = jax.jit(lambda *args: (gradients(ours, args), gradients(loop, args)))(*args)
        for got, want in zip(*pair, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["sequential", "associative", "chunked"])
def test_nothing_before_a_reset_reaches_beyond_it(backend):
    a, b, h0, _, _ = to_jax(*problem(CHUNK + 7, complex_=True, varying=False, resets=None))
    cut = 40
    reset = jnp.zeros(b.shape[:2], bool).at[cut].set(True)

    def after(b, h0):
        return affine_scan(a, b, h0, reset=reset, backend=backend)[cut:]

    after = jax.jit(after)
    poisoned = after(b.at[cut - 3].set(jnp.nan), jnp.full_like(h0, jnp.inf))
    np.testing.assert_array_equal(poisoned, after(b, h0))
    x, vjp = jax.vjp(after, b, h0)
    grad_b, grad_h0 = vjp(jnp.ones_like(x))
    assert np.all(np.asarray(grad_b[:cut]) == 0) and np.all(np.asarray(grad_h0) == 0)
    assert np.all(np.abs(np.asarray(grad_b[cut:])) > 0)


def test_the_operator_is_associative_whatever_the_flags():
    rng = np.random.default_rng(1)
    for flags in itertools.product((False, True), repeat=3):
        x, y, z = (
            (
                *to_jax(rng.normal(size=5) + 1j * rng.normal(size=5), rng.normal(size=5) + 0j),
                jnp.full(5, flag),
            )
            for flag in flags
        )
        left, right = compose(compose(x, y), z), compose(x, compose(y, z))
        for one, other in zip(left[1:], right[1:], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_any_split_of_a_sequence_equals_the_whole():
    a, b, h0, reset, z = to_jax(*problem(24, complex_=True, varying=True, resets="some"))
    whole = scan(a, b, h0, reset=reset, reset_to=z)
    for cut in (0, 11):
        first = scan(a[:cut], b[:cut], h0, reset=reset[:cut], reset_to=z)
        middle = first[-1] if cut else h0
        then = scan(a[cut:], b[cut:], middle, reset=reset[cut:], reset_to=z)
        np.testing.assert_allclose(jnp.concatenate([first, then]), whole, rtol=1e-5, atol=1e-6)


def test_matrix_and_image_states_share_one_decay():
    rng = np.random.default_rng(2)
    b, reset = to_jax(rng.normal(size=(9, 2, 3, 5, 4)), rng.random((9, 2)) < 0.3)
    a = jnp.asarray([0.1, 0.5, 0.9, 0.99])
    got = scan(a, b, reset=reset)
    pixels = scan(
        a, b.reshape(9, 30, 4), reset=jnp.repeat(reset, 15, axis=1), backend="associative"
    )
    np.testing.assert_allclose(got.reshape(9, 30, 4), pixels, rtol=1e-5, atol=1e-6)
    key_decay = jnp.asarray(rng.uniform(size=(9, 2, 3, 1, 1)), jnp.float32)
    assert affine_scan(key_decay, b, reset=reset).shape == b.shape


def test_real_decay_of_a_complex_state_gets_a_real_gradient():
    b = to_jax(problem(12, complex_=True, varying=False, resets=None)[1])[0]

    @jax.jit
    def energy(a):
        return jnp.sum(jnp.abs(affine_scan(a, b)) ** 2)

    with jax.numpy_dtype_promotion("standard"):
        a = jnp.full((4,), 0.7)
        grad = jax.grad(energy)(a)
        assert grad.dtype == jnp.float32
        nudge = 1e-2 * jnp.eye(4)[1]
        numeric = (energy(a + nudge) - energy(a - nudge)) / 2e-2
    np.testing.assert_allclose(grad[1], numeric, rtol=1e-2)


def test_it_maps_over_seeds_with_and_without_gradient():
    a, b, h0, reset, _ = to_jax(*problem(10, complex_=True, varying=False, resets="some"))
    seeds = jnp.stack([b, 2 * b])

    def loss(b):
        return jnp.sum(jnp.abs(affine_scan(a, b, h0, reset=reset)))

    grad = jax.jit(jax.grad(loss))
    one_by_one = jnp.stack([grad(b) for b in seeds])
    np.testing.assert_allclose(jax.jit(jax.vmap(grad))(seeds), one_by_one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "asociative"}, "nearest: 'associative'"),
        ({"reset": jnp.zeros((3, 8), bool)}, "batch-major"),
        ({"reset": jnp.zeros((8, 3))}, "must be bool"),
        ({"a": jnp.zeros(5)}, "does not broadcast"),
        ({"a": jnp.zeros((2, 8, 3, 4))}, "at most the axes of b"),
        ({"b": jnp.zeros((8, 3, 4), jnp.int32), "a": jnp.ones(4, jnp.int32)}, "floating point"),
        ({"h0": jnp.zeros((3, 4), jnp.complex64)}, "h0 is complex"),
        ({"h0": jnp.zeros((2, 4))}, r"must broadcast to \(3, 4\)"),
        ({"reset_to": jnp.zeros(5)}, "reset_to must broadcast"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(change, message):
    arguments = {"a": jnp.zeros(4), "b": jnp.zeros((8, 3, 4))} | change
    with pytest.raises(UsageError, match=message):
        affine_scan(arguments.pop("a"), arguments.pop("b"), **arguments)


def test_an_empty_sequence_gives_no_states():
    assert affine_scan(jnp.ones(4), jnp.zeros((0, 3, 4))).shape == (0, 3, 4)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_loops_copy_no_sequence_at_any_step(reverse):
    # a loop that reads its state back from the array it writes makes XLA copy all of it, every step
    steps = 203
    a, b, h0, reset, _ = to_jax(*problem(steps, complex_=True, varying=False, resets="some"))

    def loss(b):
        x = affine_scan(a, 2 * b, h0, reset=reset, reverse=reverse, backend="sequential")
        return jnp.sum(jnp.abs(x))

    text = jax.jit(jax.grad(loss)).lower(b).compile().as_text()
    bodies = set(re.findall(r"body=%([\w.-]+)", text))
    assert bodies
    computations = {name: text.split(f"\n%{name} ")[1].split("\n}")[0] for name in bodies}
    for name, computation in computations.items():
        assert not re.findall(rf".*\[{steps},\S* copy\(.*", computation), name


@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("cuda", False)])
def test_auto_is_a_loop_on_a_cpu_and_parallel_on_an_accelerator(platform, loops, monkeypatch):
    monkeypatch.setattr("ssmrl.memory.backends.backends", lambda: {"cpu": None, platform: None})
    a, b = jnp.full((2,), 0.5), jnp.ones((CHUNK, 2))
    program = jax.export.export(jax.jit(lambda *x: affine_scan(*x)), platforms=[platform])(a, b)
    assert ("stablehlo.while" in program.mlir_module()) == loops
