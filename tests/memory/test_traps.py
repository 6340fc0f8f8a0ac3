"""Mistakes of other memories that nothing else here would catch, and members that are others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl import memory
from ssmrl.memory import discretize
from ssmrl.memory.cells.mamba import Mamba
from ssmrl.memory.linear_attention import linear_attention
from tests.memory.test_contract import jit


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", ["gru", "s5"])
def test_a_gradient_through_a_trace_is_that_through_the_steps(name):
    mem = memory.make(name, features=4, layers=1)
    params = jit(mem.init, static_argnums=1)(jax.random.key(0), 3)
    u, reset, carry = drawn(7, 2, 3), np.arange(14).reshape(7, 2) % 5 == 3, mem.init_carry((2,))

    def size(traced):
        return sum(jnp.sum(jnp.abs(x) ** 2) for x in jax.tree.leaves(traced))

    def stepped(params, u):
        def step(h, at):
            h, y = mem.step(params, h, *at)
            return h, (h, y)

        return jax.lax.scan(step, carry, (u, reset))[1]

    def both(params, u):
        traced = jax.grad(lambda p, u: size(mem.trace(p, carry, u, reset)), (0, 1))(params, u)
        return traced, jax.grad(lambda p, u: size(stepped(p, u)), (0, 1))(params, u)

    got, want = jit(both)(params, u)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)


def test_a_compiled_step_reads_the_parameters_it_is_given_not_the_first_ones():
    mem = memory.make("s5", features=4, layers=1)
    u, carry = drawn(2, 4), mem.init_carry((2,))
    step, prepare, init = jit(mem.step), jit(mem.prepare), jit(mem.init, static_argnums=1)
    results = []
    for seed in range(2):
        params = init(jax.random.key(seed), 4)
        results.append(np.asarray(step(params, carry, u)[1]))
        np.testing.assert_allclose(step(prepare(params), carry, u)[1], results[-1], rtol=1e-6)
    assert np.abs(results[0] - results[1]).max() > 1e-2


@pytest.mark.parametrize("name", ["lru", "mamba", "retnet"])
def test_inputs_of_half_precision_leave_state_and_decay_in_float32(name):
    mem = memory.make(name, features=8, layers=1)
    params = jit(mem.init, static_argnums=1)(jax.random.key(0), 8)
    u, carry = jnp.asarray(drawn(30, 2, 8), jnp.bfloat16), mem.init_carry((2,))
    with jax.numpy_dtype_promotion("standard"):
        after, y = jit(mem.apply)(params, carry, u)
        want = jit(mem.apply)(params, carry, u.astype(jnp.float32))
    for x, zero in zip(jax.tree.leaves(after), jax.tree.leaves(carry), strict=True):
        assert x.dtype == zero.dtype
    np.testing.assert_allclose(y.astype(jnp.float32), want[1], rtol=0.1, atol=0.1)


def test_the_states_of_mamba_over_time_are_never_held_at_once():
    mem, steps = Mamba(features=32, state=64), 1024
    params = jax.eval_shape(lambda: mem.init(jax.random.key(0), 32))

    def loss(params, u):
        return jnp.sum(mem.apply(params, mem.init_carry(()), u)[1] ** 2)

    program = jax.jit(jax.grad(loss)).lower(params, np.zeros((steps, 32), np.float32)).compile()
    states = 4 * steps * mem.inner * mem.state
    assert program.memory_analysis().temp_size_in_bytes < states


# ------------------------------------------------------------------------------ identities


def test_mamba_of_constant_step_length_is_s4d_real_by_eulers_rule():
    cell = Mamba(features=2, state=4, expand=1)
    log_a, x, b = np.log(np.tile(np.arange(1.0, 5), (2, 1))), drawn(9, 2), drawn(9, 4)
    length = np.full((9, 2), 0.1, np.float32)
    a, got = cell.elements({"log_A": jnp.asarray(log_a, jnp.float32)}, x, length, b)
    lam = jnp.asarray(-np.exp(log_a), jnp.complex64)
    lam_bar, gain = discretize.METHODS["euler"](lam, jnp.full((2, 1), 0.1, jnp.complex64))
    np.testing.assert_allclose(a, np.broadcast_to(lam_bar.real, a.shape), rtol=1e-5)
    want = np.broadcast_to(gain.real, a.shape) * b[:, None] * x[..., None]
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_matrix_memories_of_constant_decay_are_each_other():
    q, k, v = (drawn(23, 2, 2, 3, seed=seed) for seed in range(3))
    reset = np.zeros((23, 2), bool)
    reset[9] = True
    theta = np.broadcast_to(np.float32([0.3, 1.0, 2.0]), q.shape)
    gamma = np.broadcast_to(np.float32([-0.1, -0.02]), (23, 2, 2))
    bonus = drawn(2, 3, seed=3)
    own = np.broadcast_to(gamma[..., None], q.shape)

    def read(q, log_a=None, **options):
        if "phase" in options:
            return linear_attention(
                *(jnp.asarray(x, jnp.complex64) for x in (q, k)), v, log_a, reset=reset, **options
            )[1]
        return linear_attention(q, k, v, log_a, reset=reset, **options)[1]

    @jit
    def pairs():
        now = jnp.sum(q * k * (bonus[None, None] - jnp.exp(-own)), axis=-1, keepdims=True) * v
        return {
            "GateLoop is RetNet": (read(q, own, phase=theta), read(q, gamma, phase=theta)),
            "RetNet without decay is linear attention": (
                read(q, 0 * gamma, phase=0 * theta),
                read(q),
            ),
            "RWKV-5 is RetNet with a bonus": (
                read(q, own, bonus=bonus),
                read(q * jnp.exp(-own), gamma) + now,
            ),
        }

    for name, (one, other) in pairs().items():
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4, err_msg=name)
