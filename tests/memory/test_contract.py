"""What every registered memory must do; a new member is covered by being registered."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory.backends import BACKENDS, Backend

T, B, F = 21, 3, 5
CUT = 9  # the one place where sequences are cut: few shapes, few programs to compile
OPTIONS = {
    "block_state": {"state": 16, "window": 6, "contexts": 3},
    "conv_s5": {"state": 8, "height": 2, "width": 2},
    "h3": {"state": 4},
    "hiss": {"state": 16, "every": 3},
    "linear_cde": {"state": 6, "channels": 3},
    "mamba": {"state": 4},
    "mamba2": {"state": 4},
    "s5": {"state": 16, "blocks": 2},
    "seqboat": {"state": 16, "window": 4},
    "spade": {"state": 16, "window": 6},
    "window_attention": {"heads": 2, "window": 6},
}


def jit(function, **options):
    """Compiled fast rather than well: everything here runs once or a few times."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"}, **options)


def shaken(key, x):
    """A carry other than the first one; counters move on."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x + jax.random.randint(key, x.shape, 0, 4)
    return x + jax.random.normal(key, x.shape, x.dtype)


class Case:
    """One memory with parameters, a sequence with resets and a carry to start from."""

    def __init__(self, mem):
        self.mem = mem
        keys = jax.random.split(jax.random.key(7), 4)
        self.init = jit(self.mem.init, static_argnums=1)
        self.params = self.init(keys[0], F)
        self.u = jax.random.normal(keys[1], (T, B, F))
        some = jax.random.bernoulli(keys[2], 0.2, (T, B))
        self.reset = some.at[9].set(jnp.array([True, False, True]))
        zero = self.mem.init_carry((B,))
        self.carry = jax.tree.map(partial(shaken, keys[3]), zero)
        self.apply = jit(self.mem.apply)
        self.step = jit(self.mem.step)


@pytest.fixture(scope="module", params=sorted(memory.MEMORIES))
def case(request):
    options = OPTIONS.get(request.param, {})
    return Case(memory.make(request.param, features=8, layers=1, **options))


def fulfil(mem):
    """All of this file for a memory that is not registered."""
    case = Case(memory.Stack((memory.Block(mem),)))
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            asks = inspect.signature(test).parameters
            if "monkeypatch" in asks:
                with pytest.MonkeyPatch.context() as patch:
                    test(case, patch)
            else:
                test(case)


@pytest.fixture(scope="module")
def recurrent(case):
    if not jax.tree.leaves(case.carry):
        pytest.skip("this memory carries nothing, by design")
    return case


def close(got, want, tolerance=1e-4):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)


def test_reading_a_sequence_equals_stepping_through_it(case):
    whole = case.apply(case.params, case.carry, case.u, case.reset)
    for constants in (case.params, case.mem.prepare(case.params)):
        carry, ys = case.carry, []
        for t in range(T):
            carry, y = case.step(constants, carry, case.u[t], case.reset[t])
            ys.append(y)
        close((carry, jnp.stack(ys)), whole)


def test_any_split_of_a_sequence_equals_the_whole(case):
    whole = case.apply(case.params, case.carry, case.u, case.reset)
    middle, first = case.apply(case.params, case.carry, case.u[:CUT], case.reset[:CUT])
    end, then = case.apply(case.params, middle, case.u[CUT:], case.reset[CUT:])
    close((end, jnp.concatenate([first, then])), whole)
    nothing = case.mem.apply(case.params, case.carry, case.u[:0], case.reset[:0])
    close(nothing, (case.carry, whole[1][:0]))


def at_the_cut(case):
    """Resets at `CUT` alone, and none at all: `(T, B)` bool."""
    never = jnp.zeros((T, B), bool)
    return never.at[CUT].set(True), never


def test_a_reset_equals_separate_sequences(case):
    reset, never = at_the_cut(case)
    carry, y = case.apply(case.params, case.carry, case.u, reset)
    _, first = case.apply(case.params, case.carry, case.u[:CUT], never[:CUT])
    fresh = case.mem.init_carry((B,))
    end, then = case.apply(case.params, fresh, case.u[CUT:], never[CUT:])
    close((carry, y), (end, jnp.concatenate([first, then])))


def test_a_reset_hides_the_past_from_values_and_gradients(case):
    reset, _ = at_the_cut(case)

    def loss(u, carry):
        return jnp.sum(case.mem.apply(case.params, carry, u, reset)[1][CUT:] ** 2)

    bad = jax.tree.map(
        lambda x: jnp.full_like(x, jnp.nan if jnp.issubdtype(x.dtype, jnp.inexact) else 1),
        case.carry,
    )
    spoilt = case.apply(case.params, bad, case.u.at[CUT - 1].set(jnp.nan), reset)[1]
    whole = case.apply(case.params, case.carry, case.u, reset)[1]
    np.testing.assert_array_equal(spoilt[CUT:], whole[CUT:])
    grad_u, grad_carry = jit(jax.grad(loss, argnums=(0, 1), allow_int=True))(case.u, case.carry)
    assert np.all(np.asarray(grad_u[:CUT]) == 0) and np.any(np.asarray(grad_u[CUT:]) != 0)
    floats = [g for g in jax.tree.leaves(grad_carry) if jnp.issubdtype(g.dtype, jnp.inexact)]
    assert all(np.all(np.asarray(g) == 0) for g in floats)


def test_without_a_reset_the_past_is_seen(recurrent):
    other = recurrent.u.at[0].add(1.0)
    no_reset = jnp.zeros((T, B), bool)
    one = recurrent.apply(recurrent.params, recurrent.carry, recurrent.u, no_reset)[1]
    two = recurrent.apply(recurrent.params, recurrent.carry, other, no_reset)[1]
    assert float(jnp.max(jnp.abs(one[5:] - two[5:]))) > 1e-4


def _startable(path, carry, zero):
    """A start may be any state; windows of past inputs and counters always start from zero."""
    is_state = "window" not in str(path) and jnp.issubdtype(carry.dtype, jnp.inexact)
    return (carry if is_state else zero)[0]


def test_a_reset_goes_back_to_a_given_start(recurrent):
    case = recurrent
    reset, never = at_the_cut(case)
    start = jax.tree_util.tree_map_with_path(_startable, case.carry, case.mem.init_carry((B,)))
    carry, y = jit(partial(case.mem.apply, start=start))(case.params, case.carry, case.u, reset)
    fresh = jax.tree.map(lambda s: jnp.broadcast_to(s, (B, *s.shape)), start)
    end, then = case.apply(case.params, fresh, case.u[CUT:], never[CUT:])
    close((carry, y[CUT:]), (end, then))


def test_every_backend_of_the_scan_gives_the_same(case, monkeypatch):
    whole = case.apply(case.params, case.carry, case.u, case.reset)
    used = []
    for name in ("associative", "chunked"):
        backend = BACKENDS[name]

        def solve(*x, backend=backend):
            used.append(backend)
            return backend.solve(*x)

        monkeypatch.setitem(BACKENDS, "auto", Backend(solve, backend.gradient))
        again = jit(lambda *x: case.mem.apply(*x))
        close(again(case.params, case.carry, case.u, case.reset), whole)
        if not used:  # no affine scan in this memory
            return


def test_steps_of_the_usual_length_are_the_same_as_none_given(case):
    one = jnp.ones((T, B))
    told = jit(lambda *x: case.mem.apply(*x, dt=one))
    if "dt" in case.mem.capabilities:
        whole = case.apply(case.params, case.carry, case.u, case.reset)
        close(told(case.params, case.carry, case.u, case.reset), whole)
    else:
        with pytest.raises(UsageError, match="no step length"):
            told(case.params, case.carry, case.u, case.reset)


def test_resets_everywhere_make_it_memoryless(case):
    always = jnp.ones((T, B), bool)
    _, y = case.apply(case.params, case.carry, case.u, always)
    fresh = case.mem.init_carry((T, B))
    _, alone = case.step(case.params, fresh, case.u)
    close(y, alone)


def test_the_carry_keeps_its_structure_shapes_and_types(case):
    for carry, y in (
        case.apply(case.params, case.carry, case.u, case.reset),
        case.step(case.params, case.carry, case.u[0], case.reset[0]),
    ):
        close(jax.tree.map(jnp.zeros_like, carry), jax.tree.map(jnp.zeros_like, case.carry), 0)
        assert [x.dtype for x in jax.tree.leaves(carry)] == [
            x.dtype for x in jax.tree.leaves(case.carry)
        ]
        assert y.shape[-1] == case.mem.out_dim and y.dtype == jnp.float32


def test_batch_axes_may_be_none_or_several(case):
    _, y = case.apply(case.params, case.carry, case.u, case.reset)
    take = jax.tree.map(lambda x: x[1], case.carry)
    close(case.apply(case.params, take, case.u[:, 1], case.reset[:, 1])[1], y[:, 1])
    grow = jax.tree.map(lambda x: x[None], case.carry)
    deep = case.apply(case.params, grow, case.u[:, None], case.reset[:, None])[1]
    close(deep[:, 0], y)


def test_permuting_the_batch_permutes_the_output(case):
    order = jnp.array([2, 0, 1])
    carry = jax.tree.map(lambda x: x[order], case.carry)
    _, y = case.apply(case.params, carry, case.u[:, order], case.reset[:, order])
    close(y, case.apply(case.params, case.carry, case.u, case.reset)[1][:, order], 1e-5)


def test_no_reset_argument_means_no_resets(case):
    none = case.apply(case.params, case.carry, case.u)
    close(none, case.apply(case.params, case.carry, case.u, jnp.zeros((T, B), bool)))


def test_it_maps_over_parameters_of_several_seeds(case):
    seeds = [case.init(jax.random.key(i), F) for i in range(2)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *seeds)
    both = jit(jax.vmap(lambda p: case.mem.apply(p, case.carry, case.u, case.reset)[1]))(params)
    for i in range(2):
        one = seeds[i]
        close(both[i], case.apply(one, case.carry, case.u, case.reset)[1])


def test_labels_cover_every_parameter(case):
    labels = case.mem.labels(case.params)
    assert jax.tree.structure(labels) == jax.tree.structure(case.params)
    assert set(jax.tree.leaves(labels)) <= {"ssm", "regular"}


def test_gradients_stay_finite_over_long_sequences(case):
    u = jax.random.normal(jax.random.key(3), (4096, 1, F))
    carry = case.mem.init_carry((1,))

    @jit
    def grad(params):
        return jax.grad(lambda p: jnp.sum(case.mem.apply(p, carry, u)[1] ** 2))(params)

    leaves = jax.tree.leaves(grad(case.params))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in leaves)
    assert any(bool(jnp.any(g != 0)) for g in leaves)


def test_a_memory_is_hashable_and_equal_to_its_twin(case):
    assert hash(case.mem) == hash(case.mem) and case.mem == type(case.mem)(case.mem.members)


def test_parameters_are_real(case):
    assert {x.dtype for x in jax.tree.leaves(case.params)} == {jnp.dtype("float32")}


def test_batch_major_input_is_refused(recurrent):
    swapped, reset = jnp.swapaxes(recurrent.u, 0, 1), jnp.swapaxes(recurrent.reset, 0, 1)
    with pytest.raises(UsageError, match="batch-major"):
        recurrent.mem.apply(recurrent.params, recurrent.carry, swapped, reset)


def test_wrong_resets_and_inputs_are_refused(case):
    for u, reset, message in (
        (case.u, case.reset.T, "one flag per input"),
        (case.u, case.reset.astype(jnp.float32), "must be bool"),
        (jnp.ones((T, B, F), jnp.int32), None, "floating point"),
    ):
        with pytest.raises(UsageError, match=message):
            case.apply(case.params, case.carry, u, reset)
    with pytest.raises(UsageError, match="tuple with one entry for each"):
        case.mem.step(case.params, jnp.zeros(3), case.u[0])
