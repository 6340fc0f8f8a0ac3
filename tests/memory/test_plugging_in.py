"""Registry, blocks, user-defined memories and the Flax wrappers."""

import subprocess
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssmrl.memory.linen
import ssmrl.memory.nnx
from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory.blocks import ACTIVATIONS, layer_norm
from tests.memory.test_contract import jit


@dataclass(frozen=True)
class LeakyAverage(memory.LinearMemory):
    """A user's own memory: three functions."""

    features: int
    state: int

    def init(self, key, in_dim):
        key_b, key_c = jax.random.split(key)
        return {
            "logit": jnp.linspace(0.0, 5.0, self.state),
            "B": jax.random.normal(key_b, (in_dim, self.state)) / in_dim**0.5,
            "C": jax.random.normal(key_c, (self.state, self.features)) / self.state**0.5,
        }

    def elements(self, params, u):
        return jax.nn.sigmoid(params["logit"]), u @ params["B"]

    def readout(self, params, x, u):
        return x @ params["C"]


def test_three_functions_make_a_memory_with_resets():
    mem = memory.Stack((LeakyAverage(features=4, state=6), memory.GRU(4)))
    params = jax.jit(mem.init, static_argnums=1)(jax.random.key(0), 3)
    u = jax.random.normal(jax.random.key(1), (12, 2, 3))
    reset = jnp.zeros((12, 2), bool).at[5].set(True)
    apply = jax.jit(mem.apply)
    _, y = apply(params, mem.init_carry((2,)), u, reset)
    step = jax.lax.scan(lambda c, x: mem.step(params, c, *x), mem.init_carry((2,)), (u, reset))
    np.testing.assert_allclose(step[1], y, rtol=1e-5, atol=1e-6)
    alone = apply(params, mem.init_carry((2,)), u[5:])[1]
    np.testing.assert_allclose(alone, y[5:], rtol=1e-5, atol=1e-6)
    assert set(jax.tree.leaves(mem.labels(params))) == {"regular"}


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("norm", ["pre", "post", "none"])
def test_a_block_is_the_formula_of_its_name(activation, norm):
    block = memory.Block(memory.MLP(4), norm=norm, activation=activation)
    params = block.init(jax.random.key(0), 4)
    u = jax.random.normal(jax.random.key(1), (5, 4))
    y = block.memory.apply(params["memory"], (), layer_norm(u) if norm == "pre" else u)[1]
    g = jax.nn.gelu(y)
    gates = []
    if params["gates"]:
        both = g @ params["gates"]["kernel"] + params["gates"]["bias"][None]
        gates = jnp.split(both, both.shape[-1] // 4, axis=-1)
    want = (
        u
        + {
            "none": lambda: y,
            "gelu": lambda: g,
            "half_glu1": lambda: g * jax.nn.sigmoid(gates[0]),
            "half_glu2": lambda: y * jax.nn.sigmoid(gates[0]),
            "full_glu": lambda: gates[0] * jax.nn.sigmoid(gates[1]),
        }[activation]()
    )
    want = layer_norm(want) if norm == "post" else want
    np.testing.assert_allclose(block.apply(params, (), u)[1], want, rtol=1e-5, atol=1e-6)


def test_layer_norm_standardises():
    x = layer_norm(jnp.arange(12.0).reshape(2, 6) ** 2)
    np.testing.assert_allclose(jnp.mean(x, -1), 0, atol=1e-6)
    np.testing.assert_allclose(jnp.std(x, -1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("s6", {}, "nearest: 's5'"),
        ("s5", {"fetures": 3}, "nearest: 'features'"),
        ("gru", {"state": 3}, "unknown option of memory 'gru' 'state'"),
        ("s5", {"features": "many"}, "of type int, got 'many'"),
        ("s5", {"layers": True}, "of type int, got True"),
        ("s5", {"layers": 0}, "layers >= 1"),
        ("mlp", {"norm": "batch"}, "unknown norm"),
        ("mlp", {"activation": "glu"}, "unknown activation"),
    ],
)
def test_a_wrong_name_or_option_is_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        memory.make(name, **options)


def test_options_list_what_make_takes():
    for name in memory.MEMORIES:
        defaults = {k: default for k, (_, default) in memory.options(name).items()}
        assert memory.make(name, **defaults) == memory.make(name)


@pytest.mark.parametrize("name", ["gru", "mamba", "mlp", "retnet", "s5"])  # a kind of carry each
def test_plain_nnx_and_linen_give_the_same_numbers(name):
    spec = memory.make(name, features=8, layers=1)
    u = jax.random.normal(jax.random.key(1), (6, 2, 3))
    reset = jnp.zeros((6, 2), bool).at[3].set(True)
    carry = spec.init_carry((2,))
    module = ssmrl.memory.nnx.Memory(spec, 3, rngs=nnx.Rngs(0))
    variables = {"params": {"memory": module.params}}
    prepared = module.prepare()
    linen, step = ssmrl.memory.linen.Memory(spec), ssmrl.memory.linen.Memory(spec, step=True)
    stepping = (
        lambda c, x: spec.step(module.params, c, *x),
        lambda c, x: module.step(c, *x),
        lambda c, x: module.step(c, *x, prepared),
        lambda c, x: step.apply(variables, c, *x),
    )

    @jit
    def everything():
        whole = [module(carry, u, reset), linen.apply(variables, carry, u, reset)]
        return [
            spec.apply(module.params, carry, u, reset),
            *whole,
            *(jax.lax.scan(read, carry, (u, reset)) for read in stepping),
        ]

    (_, want), *results = everything()
    for _, y in results:
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_the_nnx_module_marks_the_parameters_of_the_recurrence():
    module = ssmrl.memory.nnx.Memory(memory.make("s5", features=4, layers=1), 4, rngs=nnx.Rngs(0))
    ssm = nnx.state(module, ssmrl.memory.nnx.SSMParam)
    assert len(jax.tree.leaves(ssm)) == 4
    assert len(jax.tree.leaves(nnx.state(module, nnx.Param))) > 4


def test_linen_and_nnx_initialise_their_own_parameters():
    spec = memory.make("s5", features=4, layers=1)
    u, carry = jnp.ones((3, 2, 5)), spec.init_carry((2,))
    variables = ssmrl.memory.linen.Memory(spec).init(jax.random.key(0), carry, u)
    assert jax.tree.structure(variables["params"]["memory"]) == jax.tree.structure(
        spec.init(jax.random.key(0), 5)
    )


def test_the_core_imports_without_flax():
    code = (
        "import sys\n"
        "for name in ('flax', 'optax', 'gymnax', 'hydra'): sys.modules[name] = None\n"
        "import ssmrl.memory as m, jax\n"
        "mem = m.make('s5'); mem.init(jax.random.key(0), 3)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_stack_of_nothing_is_refused():
    with pytest.raises(UsageError, match="at least one memory"):
        memory.Stack(())
