"""What every registered memory must do; a new member is covered by being registered."""

import inspect
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory.backends import BACKENDS, Backend

T, B, F = 20, 3, 5
CUT = 10  # the one place where sequences are cut, in equal halves: few programs to compile
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


def numpy(tree):
    """Plain arrays: what is done to them needs no program of its own."""
    return jax.tree.map(np.array, tree)


class Case:
    """One memory with parameters of two seeds, a sequence with resets, first and other carries."""

    def __init__(self, mem):
        self.mem = mem
        self.apply = jit(self.mem.apply)
        self.step = jit(self.mem.step)
        self.seeds, self.ready, self.zero, self.carry = numpy(jit(self._made)())
        self.params = jax.tree.map(lambda x: x[0], self.seeds)
        rng = np.random.default_rng(7)
        self.u = rng.normal(size=(T, B, F)).astype(np.float32)
        self.reset = rng.random((T, B)) < 0.2
        self.reset[CUT] = True, False, True

    def _made(self):
        # this generator is an operation of XLA: nothing to compile for every draw
        keys = jax.random.split(jax.random.key(7, impl="unsafe_rbg"), 2)
        seeds = jax.vmap(lambda key: self.mem.init(key, F))(keys)
        zero = self.mem.init_carry((B,))
        carry = jax.tree.map(partial(shaken, keys[0]), zero)
        ready = self.mem.prepare(jax.tree.map(lambda x: x[0], seeds))
        return seeds, ready, zero, carry

    @cached_property
    def whole(self):
        """The last carry and all outputs."""
        return self.apply(self.params, self.carry, self.u, self.reset)


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


def test_reading_and_tracing_a_sequence_equal_stepping_through_it(case):
    carry, stepped = case.carry, []
    for t in range(T):
        carry, y = case.step(case.ready, carry, case.u[t], case.reset[t])
        stepped.append((carry, y))
    carries, ys = jax.tree.map(lambda *x: np.stack(x), *stepped)
    close((carry, ys), case.whole)
    traced = jit(case.mem.trace)(case.params, case.carry, case.u, case.reset)
    close(traced, (carries, ys))
    assert [x.dtype for x in jax.tree.leaves(traced)] == [
        x.dtype for x in jax.tree.leaves(stepped[0])
    ]


def test_any_split_of_a_sequence_equals_the_whole(case):
    middle, first = case.apply(case.params, case.carry, case.u[:CUT], case.reset[:CUT])
    end, then = case.apply(case.params, middle, case.u[CUT:], case.reset[CUT:])
    close((end, np.concatenate([first, then])), case.whole)
    nothing = case.mem.apply(case.params, case.carry, case.u[:0], case.reset[:0])
    close(nothing, (case.carry, case.whole[1][:0]))


def at_the_cut(case):
    """Resets at `CUT` alone, and none at all: `(T, B)` bool."""
    never = np.zeros((T, B), bool)
    reset = never.copy()
    reset[CUT] = True
    return reset, never


def test_a_reset_equals_separate_sequences(case):
    reset, never = at_the_cut(case)
    carry, y = case.apply(case.params, case.carry, case.u, reset)
    _, first = case.apply(case.params, case.carry, case.u[:CUT], never[:CUT])
    end, then = case.apply(case.params, case.zero, case.u[CUT:], never[CUT:])
    close((carry, y), (end, np.concatenate([first, then])))


def test_a_reset_hides_the_past_from_values_and_gradients(case):
    reset, _ = at_the_cut(case)

    def loss(u, carry):
        return jnp.sum(case.mem.apply(case.params, carry, u, reset)[1][CUT:] ** 2)

    bad = jax.tree.map(
        lambda x: np.full_like(x, np.nan if np.issubdtype(x.dtype, np.inexact) else 1), case.carry
    )
    u = case.u.copy()
    u[CUT - 1] = np.nan
    spoilt = case.apply(case.params, bad, u, reset)[1]
    whole = case.apply(case.params, case.carry, case.u, reset)[1]
    # SeqBoat was seen to differ by rounding, 1.2e-7, on some machines; all others by not one bit
    close(spoilt[CUT:], whole[CUT:], tolerance=1e-6 if "SeqBoat" in repr(case.mem) else 0.0)
    grad_u, grad_carry = jit(jax.grad(loss, argnums=(0, 1), allow_int=True))(case.u, case.carry)
    assert np.all(np.asarray(grad_u[:CUT]) == 0) and np.any(np.asarray(grad_u[CUT:]) != 0)
    floats = [g for g in jax.tree.leaves(grad_carry) if jnp.issubdtype(g.dtype, jnp.inexact)]
    assert all(np.all(np.asarray(g) == 0) for g in floats)


def test_without_a_reset_the_past_is_seen(recurrent):
    other = recurrent.u.copy()
    other[0] += 1
    no_reset = np.zeros((T, B), bool)
    one = recurrent.apply(recurrent.params, recurrent.carry, recurrent.u, no_reset)[1]
    two = recurrent.apply(recurrent.params, recurrent.carry, other, no_reset)[1]
    assert np.abs(np.asarray(one[5:]) - np.asarray(two[5:])).max() > 1e-4


def _startable(path, carry, zero):
    """A start may be any state; windows of past inputs and counters always start from zero."""
    is_state = "window" not in str(path) and np.issubdtype(carry.dtype, np.inexact)
    return (carry if is_state else zero)[0]


def test_a_reset_goes_back_to_a_given_start(recurrent):
    case = recurrent
    reset, never = at_the_cut(case)
    start = jax.tree_util.tree_map_with_path(_startable, case.carry, case.zero)
    carry, y = jit(partial(case.mem.apply, start=start))(case.params, case.carry, case.u, reset)
    fresh = jax.tree.map(lambda s: np.broadcast_to(s, (B, *s.shape)), start)
    end, then = case.apply(case.params, fresh, case.u[CUT:], never[CUT:])
    close((carry, y[CUT:]), (end, then))


def test_the_parallel_form_of_the_scan_gives_the_same(case, monkeypatch):
    used, backend = [], BACKENDS["associative"]

    def solve(*x):
        used.append(x)
        return backend.solve(*x)

    def again(*x):
        return case.mem.apply(*x)

    monkeypatch.setitem(BACKENDS, "auto", Backend(solve, backend.gradient))
    inputs = (case.params, case.carry, case.u, case.reset)
    jax.eval_shape(again, *inputs)
    if used:  # there is an affine scan in this memory
        close(jit(again)(*inputs), case.whole)


def test_steps_of_the_usual_length_are_the_same_as_none_given(case):
    one = np.ones((T, B), np.float32)
    told = jit(lambda *x: case.mem.apply(*x, dt=one))
    if "dt" in case.mem.capabilities:
        close(told(case.params, case.carry, case.u, case.reset), case.whole)
    else:
        with pytest.raises(UsageError, match="no step length"):
            told(case.params, case.carry, case.u, case.reset)


def test_resets_everywhere_make_it_memoryless(case):
    always = np.ones((T, B), bool)
    _, y = case.apply(case.params, case.carry, case.u, always)
    fresh = jax.tree.map(lambda x: np.zeros((T, *x.shape), x.dtype) + x, case.zero)
    _, alone = case.step(case.params, fresh, case.u)
    close(y, alone)


def test_the_carry_keeps_its_structure_shapes_and_types(case):
    for carry, y in (case.whole, case.step(case.ready, case.carry, case.u[0], case.reset[0])):
        close(jax.tree.map(np.zeros_like, carry), jax.tree.map(np.zeros_like, case.carry), 0)
        assert [x.dtype for x in jax.tree.leaves(carry)] == [
            x.dtype for x in jax.tree.leaves(case.carry)
        ]
        assert y.shape[-1] == case.mem.out_dim and y.dtype == jnp.float32


def test_without_batch_axes_and_resets_it_is_one_sequence(case):
    _, y = case.apply(case.params, case.carry, case.u, np.zeros((T, B), bool))
    take = jax.tree.map(lambda x: x[1], case.carry)
    close(case.apply(case.params, take, case.u[:, 1])[1], y[:, 1])


def test_permuting_the_batch_permutes_the_output(case):
    order = np.array([2, 0, 1])
    carry = jax.tree.map(lambda x: x[order], case.carry)
    _, y = case.apply(case.params, carry, case.u[:, order], case.reset[:, order])
    close(y, np.asarray(case.whole[1])[:, order], 1e-5)


def test_it_maps_over_parameters_of_several_seeds_and_batch_axes_may_be_several(case):
    carry = jax.tree.map(lambda x: x[None], case.carry)
    u, reset = case.u[:, None], case.reset[:, None]
    both = jit(jax.vmap(lambda p: case.mem.apply(p, carry, u, reset)[1]))(case.seeds)
    for i, y in enumerate(np.asarray(both)):
        one = jax.tree.map(lambda x, i=i: x[i], case.seeds)
        close(y[:, 0], case.apply(one, case.carry, case.u, case.reset)[1])
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_labels_cover_every_parameter(case):
    labels = case.mem.labels(case.params)
    assert jax.tree.structure(labels) == jax.tree.structure(case.params)
    assert set(jax.tree.leaves(labels)) <= {"ssm", "regular"}


def test_gradients_stay_finite_over_long_sequences(case):
    u = np.random.default_rng(3).normal(size=(4096, 1, F)).astype(np.float32)
    carry = jax.tree.map(lambda x: x[:1], case.zero)

    @jit
    def grad(params):
        return jax.grad(lambda p: jnp.sum(case.mem.apply(p, carry, u)[1] ** 2))(params)

    leaves = jax.tree.leaves(grad(case.params))
    assert all(np.isfinite(g).all() for g in leaves)
    assert any((np.asarray(g) != 0).any() for g in leaves)


def test_a_memory_is_hashable_and_equal_to_its_twin(case):
    assert hash(case.mem) == hash(case.mem) and case.mem == type(case.mem)(case.mem.members)


def test_parameters_are_real(case):
    assert {x.dtype for x in jax.tree.leaves(case.params)} == {jnp.dtype("float32")}


def test_batch_major_input_is_refused(recurrent):
    swapped, reset = recurrent.u.swapaxes(0, 1), recurrent.reset.T
    with pytest.raises(UsageError, match="batch-major"):
        recurrent.mem.apply(recurrent.params, recurrent.carry, swapped, reset)


def test_wrong_resets_and_inputs_are_refused(case):
    for u, reset, message in (
        (case.u, case.reset.T, "one flag per input"),
        (case.u, case.reset.astype(np.float32), "must be bool"),
        (np.ones((T, B, F), np.int32), None, "floating point"),
    ):
        with pytest.raises(UsageError, match=message):
            case.apply(case.params, case.carry, u, reset)
    with pytest.raises(UsageError, match="tuple with one entry for each"):
        case.mem.step(case.params, np.zeros(3), case.u[0])
