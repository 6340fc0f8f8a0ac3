"""Diagnostics find what was put in: known horizons, leaks, decays and ranks."""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory import diagnostics
from tests.envs.probes import run_once

KEY = jax.random.key(5)
RATES = np.array([0.5, 0.9, 0.99, 1.0], np.float32)


@dataclass(frozen=True)
class Diagonal(memory.LinearMemory):
    """`x = rates x + B u`, `y = x C`; the rates are a parameter of the recurrence."""

    features: int = 4
    state: int = 4
    ssm_params = ("rates",)
    capabilities = frozenset({"lti"})

    def init(self, key, in_dim):
        b = jax.random.normal(key, (in_dim, self.state))
        return {"rates": jnp.array(RATES), "B": b, "C": jnp.eye(self.state)}

    def elements(self, params, u):
        return params["rates"], u @ params["B"]

    def readout(self, params, x, u):
        return x @ params["C"]


@dataclass(frozen=True)
class Register(memory.CellMemory):
    """A shift register: the last `size` inputs (F = 1) side by side."""

    size: int

    @property
    def out_dim(self):
        return self.size

    def init(self, key, in_dim):
        return {"gain": jnp.ones((in_dim, 1))}

    def init_carry(self, batch_shape=()):
        return jnp.zeros((*batch_shape, self.size))

    def inputs(self, params, u):
        return u @ params["gain"]

    def update(self, params, carry, inputs):
        carry = jnp.concatenate([inputs, carry[..., :-1]], axis=-1)
        return carry, carry


@dataclass(frozen=True)
class Leaky(Register):
    """Multiplies by the reset flag, or forgets to reset a part; F = 1."""

    how: str = "mask"

    def apply(self, params, carry, u, reset=None):
        def step(h, x):
            return self.step(params, h, *x)

        return jax.lax.scan(step, carry, (u, reset))

    def step(self, params, carry, u, reset=None):
        flag = reset[..., None].astype(jnp.float32)
        keep = {
            "mask": (1 - flag) * carry,
            "part": carry.at[..., 1:].set(jnp.where(reset[..., None], 0, carry[..., 1:])),
            "early": carry,
            "gradient": jnp.where(reset[..., None], carry - jax.lax.stop_gradient(carry), carry),
        }[self.how]
        return self.update(params, keep, self.inputs(params, u))


TWO_S5 = memory.Stack((memory.S5(3, state=8), memory.S5(3, state=8)))
BLOCK = memory.Stack((memory.Block(memory.GRU(3)),))


@cache
def initialised(mem, in_dim):
    return run_once(lambda key: mem.init(key, in_dim), KEY)


def made(mem, in_dim):
    return mem, dict(initialised(mem, in_dim))


# ------------------------------------------------------------------------------ horizon


def test_the_horizon_of_a_shift_register_is_its_length():
    mem, params = made(Register(6), 1)
    found = diagnostics.horizon(mem, params, KEY, in_dim=1, lags=12, steps=256)
    np.testing.assert_allclose(found.r2, [1] * 6 + [0] * 6, atol=0.02)
    assert found.horizon == 6 and found.state_size == 6
    assert abs(found.capacity - 6) < 0.05


def test_the_capacity_of_a_linear_memory_is_at_most_its_state():
    for mem, size in ((Diagonal(), 4), (TWO_S5, 16)):
        found = diagnostics.horizon(*made(mem, 3), KEY, in_dim=3, lags=64, steps=256)
        assert 1 <= found.capacity <= found.state_size + 0.1
        assert found.state_size == size


def test_no_memory_has_no_horizon():
    found = diagnostics.horizon(*made(memory.MLP(3), 2), KEY, in_dim=2, lags=4, steps=64)
    assert (found.horizon, found.capacity, found.state_size) == (0, 0.0, 0)


def test_the_memory_function_follows_the_slowest_rate():
    mem, params = made(Diagonal(), 2)
    params["rates"] = jnp.array([0.5, 0.7, 0.8, 0.9])
    found = diagnostics.memory_function(mem, params, KEY, in_dim=2, steps=80)
    np.testing.assert_allclose(found.rho[41:] / found.rho[40:-1], 0.9, rtol=5e-3)
    assert found.exponential < 0.2 < found.power
    flat = diagnostics.memory_function(*made(memory.MLP(3), 2), KEY, in_dim=2, steps=8)
    assert flat.rho[0] > 0 and (flat.rho[1:] == 0).all()


def test_direct_eigenvalues_near_one_blow_up_under_perturbation_and_bounded_ones_do_not():
    mem, params = made(Diagonal(), 2)
    direct = diagnostics.perturbation_growth(mem, params, KEY, in_dim=2, draws=4)
    stable = diagnostics.perturbation_growth(*made(TWO_S5, 3), KEY, in_dim=3, draws=4)
    assert direct[1e-2] > 10 and direct[1e-2] > 10 * direct[1e-3]
    assert stable[1e-2] < 0.5 and stable[1e-3] < 0.1


# ------------------------------------------------------------------------------ resets


@pytest.mark.parametrize("mem", [TWO_S5, BLOCK, memory.MLP(3)], ids=["s5", "gru", "mlp"])
def test_no_reset_leaks_from_our_memories(mem):
    leak = diagnostics.reset_leak(*made(mem, 3), KEY, in_dim=3)
    assert leak.clean, str(leak)
    assert str(leak) == "no leak"


@pytest.mark.parametrize(
    ("how", "leaks"),
    [
        ("mask", {"nan", "inf"}),
        ("part", {"noise", "nan", "inf", "gradient"}),
        ("early", {"noise", "nan", "inf", "gradient"}),
        ("gradient", {"nan", "inf", "gradient"}),
    ],
)
def test_the_fuzzer_finds_every_kind_of_leak(how, leaks):
    mem, params = made(Leaky(4, how), 1)
    leak = diagnostics.reset_leak(mem, params, KEY, in_dim=1)
    assert not leak.clean and str(leak).startswith("leaks: apply, ")
    for where in ("apply", "step"):
        found = {p for p in ("noise", "inf", "nan") if leak.values[f"{where}, {p}"]}
        found |= {"gradient"} if leak.gradients[where] else set()
        assert found == leaks


def erasing(first, then):
    """(a, b, reset) with the reset folded in: a is zero there, its state is in b."""
    return then[0] * first[0], then[0] * first[1] + then[1]


def inserting(z):
    """Starts again from z at a reset, whatever the element before it was (as R2I's code does)."""

    def operator(first, then):
        (a1, b1, r1), (a2, b2, r2) = first, then
        a = jnp.where(r2, a2, a2 * a1)
        b = jnp.where(r2, a2 * z + b2, a2 * b1 + b2)
        return a, b, r1 | r2

    return operator


def test_an_operator_that_is_not_associative_is_caught_only_with_resets_and_a_first_state():
    keys = jax.random.split(KEY, 3)

    def element(key, flags):
        a, b = jax.random.uniform(key, (2, 64))
        r = jax.random.bernoulli(key, 0.5, (64,)) & flags
        return a, b, r

    z = jnp.float32(2.0)
    triple = [element(k, True) for k in keys]
    calm = [element(k, False) for k in keys]
    folded = [(jnp.where(r, 0, a), b + jnp.where(r, a * z, 0)) for a, b, r in triple]
    assert diagnostics.associativity_gap(erasing, *folded) < 1e-6
    assert diagnostics.associativity_gap(inserting(jnp.float32(0)), *triple) < 1e-6
    assert diagnostics.associativity_gap(inserting(z), *calm) < 1e-6
    assert diagnostics.associativity_gap(inserting(z), *triple) > 0.1


# ------------------------------------------------------------------------------ attention


def test_hidden_attention_is_causal_and_block_diagonal_at_resets():
    u = jax.random.normal(KEY, (10, 3))
    reset = jnp.zeros(10, bool).at[4].set(True)
    for mem in (TWO_S5, BLOCK):
        alpha = np.asarray(diagnostics.hidden_attention(*made(mem, 3), u, reset))
        lower = np.tril(np.ones((10, 10), bool))
        inside = lower & ((np.arange(10) >= 4)[:, None] == (np.arange(10) >= 4)[None])
        assert (alpha[~inside] == 0).all() and (alpha[inside] > 0).all()


def test_the_contributions_of_a_linear_memory_add_up_to_its_output():
    mem, params = made(Diagonal(), 3)
    u = jax.random.normal(KEY, (8, 3))
    parts = diagnostics.contributions(mem, params, u)
    y = mem.apply(params, mem.init_carry(()), u)[1]
    np.testing.assert_allclose(jnp.einsum("ihjf,jf->ih", parts, u), y, rtol=1e-4, atol=1e-5)
    powers = RATES[:, None] ** 3 * np.asarray(params["B"]).T
    np.testing.assert_allclose(parts[5, :, 2], powers, rtol=1e-4)


# ------------------------------------------------------------------------------ utilisation


def test_half_lives_are_those_of_the_rates():
    mem, params = made(Diagonal(), 2)
    u = jax.random.normal(KEY, (40, 2, 2))
    lives = diagnostics.half_lives(mem, params, u)
    np.testing.assert_allclose(lives[:3], np.log(2) / -np.log(RATES[:3]), rtol=1e-3)
    assert lives[3] == np.inf
    always = diagnostics.half_lives(mem, params, u, jnp.ones((40, 2), bool))
    assert (always == 0).all()


def test_half_lives_of_s5_are_those_of_its_eigenvalues_in_every_layer():
    mem, params = made(TWO_S5, 3)
    lives = diagnostics.half_lives(mem, params, jax.random.normal(KEY, (64, 1, 3)))
    rate = np.concatenate([np.exp(np.asarray(c["log_dt"])) / 2 for c in params["members"]])
    np.testing.assert_allclose(lives, np.log(2) / rate, rtol=1e-2)


def test_the_effective_rank_counts_what_the_states_do():
    mem, params = made(Diagonal(), 4)
    u = jax.random.normal(KEY, (200, 4, 4))
    params["rates"] = jnp.zeros(4)
    params["B"] = jnp.diag(jnp.array([1.0, 1.0, 0.0, 0.0]))
    used = diagnostics.utilisation(mem, params, u)
    assert abs(used.effective_rank - 2) < 0.02
    assert (used.state_size, used.dead) == (4, 2)
    params["B"] = jnp.eye(4)
    assert abs(diagnostics.utilisation(mem, params, u).effective_rank - 4) < 0.05
    none = diagnostics.utilisation(*made(memory.MLP(3), 4), u)
    assert none[:3] == (0.0, 0, 0) and none.half_lives.size == 0


def test_hankel_singular_values_tell_the_smallest_order():
    mem, params = made(Diagonal(), 2)
    params["rates"] = jnp.array([0.5, 0.5, 0.8, 0.0])
    params["C"] = jnp.eye(4)
    params["B"] = jnp.ones((2, 4))  # the equal rates are one mode, the last forgets at once
    values = diagnostics.hankel_singular_values(mem, params, in_dim=2, steps=40)
    assert (values[:2] > 0.1).all() and (values[2:] < 1e-5).all()


def test_one_mode_has_the_hankel_singular_value_of_the_textbook():
    mem, params = made(Diagonal(), 1)  # y = sum of 0.6^k u[t - k] b
    params["rates"] = jnp.array([0.6, 0.0, 0.0, 0.0])
    params["B"] = jnp.array([[1.5, 0.0, 0.0, 0.0]])
    values = diagnostics.hankel_singular_values(mem, params, in_dim=1, steps=64)
    np.testing.assert_allclose(values[0], 0.6 * 1.5 / (1 - 0.6**2), rtol=1e-4)


def test_what_a_diagnostic_cannot_do_is_refused():
    gru = made(memory.GRU(3), 2)
    with pytest.raises(UsageError, match="GRU is not linear and time-invariant"):
        diagnostics.hankel_singular_values(*gru, in_dim=2, steps=16)
    with pytest.raises(UsageError, match="at least 3 steps"):
        diagnostics.hankel_singular_values(*gru, in_dim=2, steps=2)
    with pytest.raises(UsageError, match="batch >= 5"):
        diagnostics.horizon(*gru, KEY, in_dim=2, batch=4)
    with pytest.raises(UsageError, match="at least 8 steps"):
        diagnostics.memory_function(*gru, KEY, in_dim=2, steps=7)
