"""A short training tells memories apart: what a task needs is learned, what lacks it is not."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl import memory
from ssmrl.memory.diagnostics import tasks
from ssmrl.memory.diagnostics.fit import evaluate, fit, length_generalisation

KEY = jax.random.key(2)


@pytest.fixture(autouse=True)
def as_optax_is_written():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_a_gru_learns_to_hold_a_bit_and_does_so_for_longer_too():
    task = tasks.make("flip_flop", length=16, ignore=0.5)
    found = fit(memory.GRU(16), task, KEY, steps=250, batch=16, learning_rate=2e-2)
    assert list(found.scores) == [16, 32, 64]
    assert min(found.scores.values()) > 0.99
    assert found.losses.shape == (250,) and found.losses[-50:].mean() < 0.05
    again = length_generalisation(memory.GRU(16), found.params, KEY, task, factors=(1,))
    assert again[16] > 0.99
    fresh = dict(found.params, memory=jax.tree.map(lambda x: 0 * x, found.params["memory"]))
    assert length_generalisation(memory.GRU(16), fresh, KEY, task, factors=(1,))[16] < 0.7


def test_without_memory_a_bit_is_not_held():
    task = tasks.make("flip_flop", length=16, ignore=0.5)
    found = fit(memory.MLP(16), task, KEY, steps=200, batch=16, learning_rate=2e-2, factors=(1,))
    assert found.scores[16] < 0.65


def test_a_frozen_memory_keeps_its_parameters_and_its_readout_learns():
    task = tasks.make("delay", length=32, lag=4.0)
    mem = memory.Stack((memory.S5(16, state=32, dt_min=0.05, dt_max=0.5),))
    found = fit(
        mem, task, KEY, steps=200, batch=16, learning_rate=3e-2, frozen=True, factors=(1, 2)
    )
    start = jax.jit(mem.init, static_argnums=1)(jax.random.split(KEY, 4)[0], task.in_dim)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        found.params["memory"],
        start,
    )
    assert min(found.scores.values()) > 0.9


@dataclass(frozen=True)
class Oscillators(memory.LinearMemory):
    """Damped oscillators in continuous time, held inputs; told dt they keep their pace."""

    features: int = 16
    state: int = 8
    state_dtype = jnp.complex64
    capabilities = frozenset({"dt"})

    def init(self, key, in_dim):
        return {"C": jax.random.normal(key, (2 * self.state, self.features))}

    def elements(self, params, u, dt=None):
        step = jnp.ones(u.shape[:-1]) if dt is None else dt
        rate = -0.05 + 1j * jnp.linspace(0.0, 0.4, self.state)
        a = jnp.exp(rate * step[..., None])
        return a, (a - 1) / rate * u

    def readout(self, params, x, u):
        return jnp.concatenate([x.real, x.imag], axis=-1) @ params["C"]


def test_a_memory_that_is_told_dt_reads_at_another_rate():
    task = tasks.make("delay", length=64, lag=6.0)
    mem = Oscillators()
    found = fit(mem, task, KEY, steps=300, batch=16, learning_rate=3e-2, frozen=True, factors=(1,))
    assert found.scores[64] > 0.95
    finer = tasks.make("delay", length=64, lag=6.0, rate=0.25)
    told, untold = (
        evaluate(mem, found.params, KEY, finer, use_dt=use_dt) for use_dt in (True, False)
    )
    assert told > 0.85 and untold < 0.6
