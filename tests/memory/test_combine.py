"""Memories made of memories, adapters, and memories of a user's own."""

import itertools
import re
from pathlib import Path

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ssmrl.memory.linen
from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory import Bidirectional, Hierarchical, LearnedStart, Parallel, WithOffset
from ssmrl.memory.cells.elman import Elman
from tests.memory.test_contract import close, fulfil, jit

S5 = memory.S5(features=8, state=8)
T, B = 17, 2
U = jax.random.normal(jax.random.key(0), (T, B, 8))
RESET = jnp.zeros((T, B), bool).at[6].set(jnp.array([True, False])).at[11].set(True)


README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(("kind", "lines"), [("LinearMemory", 25), ("from_cell", 10)])
def test_a_memory_of_ones_own_is_short_and_fulfils_the_contract(kind, lines):
    (code,) = (code for code in EXAMPLES if f"import {kind}" in code)
    definition = code.split("params = mem.init")[0]
    assert sum(1 for line in definition.splitlines() if line.strip()) <= lines
    names = {"__name__": "readme"}
    exec(compile(definition, "README.md", "exec"), names)
    fulfil(names["mem"])


def test_a_learned_start_fulfils_the_contract():
    fulfil(LearnedStart(S5))


def prepared(mem, u=U, key=1):
    params = jit(mem.init, static_argnums=1)(jax.random.key(key), u.shape[-1])
    return params, mem.init_carry(u.shape[1:-1])


def test_members_in_parallel_read_the_same_input():
    members = (S5, memory.GRU(8))
    for merge in ("concat", "sum"):
        mem = Parallel(members, merge)
        params, carry = prepared(mem)
        both, y = jit(mem.apply)(params, carry, U, RESET)
        results = [
            jit(m.apply)(p, c, U, RESET)
            for m, p, c in zip(members, params["members"], carry, strict=True)
        ]
        ys = [y for _, y in results]
        close(
            (both, y),
            (
                tuple(h for h, _ in results),
                jnp.concatenate(ys, -1) if merge == "concat" else sum(ys),
            ),
        )
        assert mem.out_dim == y.shape[-1]


def test_a_hierarchy_steps_its_upper_memory_at_the_ends_of_spans():
    mem = Hierarchical(memory.GRU(3), Elman(5), every=3)
    params, carry = prepared(mem)
    _, y = jit(mem.apply)(params, carry, U, RESET)
    low, high = (jit(m.step) for m in mem.members)
    for b in range(B):
        at, h, g, held = 0, jnp.zeros(3), jnp.zeros(5), jnp.zeros(5)
        for t in range(T):
            if RESET[t, b]:
                at, g, held = 0, jnp.zeros(5), jnp.zeros(5)
            h = jnp.zeros(3) if at % 3 == 0 else h
            h, z = low(params["members"][0], h, U[t, b])
            if at % 3 == 2:
                g, held = high(params["members"][1], g, z)
            np.testing.assert_allclose(y[t, b], jnp.concatenate([z, held]), atol=1e-5)
            at += 1


def test_a_learned_start_begins_every_episode_and_is_learned():
    mem = LearnedStart(memory.Stack((S5, memory.GRU(8))))
    params, carry = prepared(mem)
    assert mem.labels(params)["start"] == ["ssm", "ssm"]
    assert [x.shape for x in params["start"]] == [(4, 2), (8,)]  # a complex leaf, and a real one
    close(
        mem.apply(params, carry, U, RESET)[1],
        mem.memory.apply(params["memory"], carry, U, RESET)[1],
    )
    moved = params | {"start": [x + 0.5 for x in params["start"]]}
    start = (jnp.full((B, 4), 0.5 + 0.5j, jnp.complex64), jnp.full((B, 8), 0.5))
    _, y = jit(mem.apply)(moved, carry, U, RESET)
    _, want = jit(mem.memory.apply)(params["memory"], start, U[11:])
    close(y[11:], want)

    @jit
    def gradient(params):
        return jax.grad(lambda p: jnp.sum(mem.apply(p, carry, U, RESET)[1] ** 2))(params)

    assert all(np.all(np.asarray(g) != 0) for g in gradient(params)["start"])
    close(jit(mem.step)(mem.prepare(moved), carry, U[11], RESET[11])[1], want[0])


def test_an_offset_of_zero_changes_nothing_and_any_other_does_not_fade():
    still = jnp.zeros_like(U)
    for mem in (WithOffset(S5, "state"), WithOffset(memory.GRU(8), "output")):
        params, carry = prepared(mem)
        inner = jit(mem.memory.apply)(params["memory"], carry, U, RESET)
        close(jit(mem.apply)(params, carry, U, RESET), inner)
        moved = params | {"offset": [x + 1 for x in params["offset"]]}
        (end, y), (same, base) = (
            jit(m.apply)(p, carry, still) for m, p in ((mem, moved), (mem.memory, params["memory"]))
        )
        close(end, same)
        change = np.asarray(y - base)
        np.testing.assert_allclose(change, np.broadcast_to(change[0], change.shape), rtol=1e-5)
        assert np.abs(change).min() > 1e-3
        labels = mem.labels(params)
        assert labels["offset"] == ["regular"]
        assert set(jax.tree.leaves(labels["memory"])) == {"frozen"}


def test_a_bidirectional_memory_reads_each_episode_in_both_directions():
    mem = Bidirectional(memory.GRU(8), memory.GRU(8))
    params, carry = prepared(mem)
    _, y = jit(mem.apply)(params, carry, U, RESET)
    ahead, back = params["members"]
    gru, zero = memory.GRU(8), jnp.zeros(8)
    for b, cuts in ((0, (0, 6, 11, T)), (1, (0, 11, T))):
        for first, end in itertools.pairwise(cuts):
            piece = U[first:end, b]
            forward = gru.apply(ahead, zero, piece)[1]
            backward = gru.apply(back, zero, piece[::-1])[1][::-1]
            close(y[first:end, b], jnp.concatenate([forward, backward], -1))


def test_a_bidirectional_memory_refuses_to_step_wherever_it_is():
    both = Bidirectional(memory.GRU(4), memory.GRU(4))
    for mem in (both, memory.Stack((memory.Block(both),)), Parallel((both,))):
        params, carry = prepared(mem)
        with pytest.raises(UsageError, match="cannot step"):
            mem.step(params, carry, U[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Parallel((S5, memory.GRU(4)), "sum"), "all of one width"),
        (lambda: Parallel(()), "at least one memory"),
        (lambda: Parallel((S5,), "product"), "unknown merge"),
        (lambda: Hierarchical(S5, S5, 0), "at least one step"),
        (lambda: WithOffset(memory.GRU(4), "state"), "needs a LinearMemory"),
        (lambda: WithOffset(S5, "h0"), "LearnedStart"),
    ],
)
def test_combinations_that_cannot_be_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_combination_refuses_the_carry_of_another():
    mem = Parallel((S5, memory.GRU(8)))
    params, carry = prepared(mem)
    for bad, message in ((carry[0], "one entry for each"), (carry[::-1], "does not fit")):
        with pytest.raises(UsageError, match=message):
            mem.apply(params, bad, U)


# ------------------------------------------------------------------------------ adapters


def test_the_real_view_of_a_carry_comes_back_unchanged():
    carry = {"ssm": jnp.full((B, 4), 1 + 2j, jnp.complex64), "at": jnp.ones((B,), jnp.int32)}
    view = memory.real_view(carry)
    assert view["ssm"].shape == (B, 4, 2) and view["ssm"].dtype == jnp.float32
    one = jax.tree.map(lambda x: x[0], carry)
    for like in (carry, jax.eval_shape(lambda: one)):
        back = memory.complex_view(view, like)
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, back, carry)))
    with pytest.raises(UsageError, match="real and imaginary part last"):
        memory.complex_view(carry, carry)
    with pytest.raises(UsageError, match="expected the real view of a carry"):
        memory.complex_view(view["ssm"], carry)


def test_a_complex_carry_is_refused_by_a_buffer_of_reals():
    carry = memory.Stack((S5, memory.GRU(8))).init_carry((B,))
    with pytest.raises(UsageError, match=r"carry\[0\] is complex64.*real_view"):
        memory.require_real(carry)
    view = memory.real_view(carry)
    assert memory.require_real(view) is view


def test_a_detached_carry_passes_no_gradient():
    params, carry = prepared(memory.GRU(8))

    def loss(carry, detach):
        return jnp.sum(memory.GRU(8).apply(params, detach(carry), U)[1])

    assert np.all(jit(jax.grad(lambda c: loss(c, memory.detach)))(carry) == 0)
    assert np.any(jit(jax.grad(lambda c: loss(c, lambda c: c)))(carry) != 0)


def test_a_memory_runs_as_a_cell_of_flax():
    spec = memory.Stack((S5, memory.GRU(8)))
    cell = ssmrl.memory.linen.as_rnn_cell(spec)
    rnn = flax.linen.RNN(cell, time_major=True, return_carry=True)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        variables = jit(rnn.init)(jax.random.key(0), U)
        carry, y = jit(rnn.apply)(variables, U)
    params = variables["params"]["cell"]["memory"]
    close((carry, y), jit(spec.apply)(params, spec.init_carry((B,)), U))
