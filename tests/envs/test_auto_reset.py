"""Work is done where it is asked for, in any batch, and its result is that of a choice."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs.auto_reset import GROUP, renew, renew_all, renew_in_groups
from tests.envs.probes import run_once


def draw(key, old):
    return {"board": jax.random.bits(key, (3,)) + old["board"], "start": jax.random.uniform(key)}


def choose(key, old, when):
    return jax.tree.map(partial(jnp.where, when), draw(key, old), old)


def some_old(key):
    return draw(key, {"board": jnp.zeros(3, jnp.uint32)})


@pytest.mark.parametrize("shape", [(), (1,), (3 * GROUP + 1,), (4, 20)], ids=str)
def test_it_is_a_choice_whatever_the_batch(shape):
    ours, plain, many = partial(renew, draw), choose, some_old
    for _ in shape:
        ours, plain, many = jax.vmap(ours), jax.vmap(plain), jax.vmap(many)
    many_groups = partial(renew_in_groups, group=3)
    one_axis = (renew_in_groups, many_groups, renew_all)
    in_one_batch = [partial(f, draw) for f in one_axis if len(shape) == 1]

    def every_way(key):
        keys, others, coins = jax.random.split(key, (3, *shape))
        old = many(others)
        some = jax.random.key_data(coins)[..., 0] % 3 == 0
        cases = (some, jnp.zeros(shape, bool), jnp.ones(shape, bool))
        return [[f(keys, old, when) for f in (plain, ours, *in_one_batch)] for when in cases]

    for expected, *results in run_once(every_way, jax.random.key(1)):
        for got in results:
            jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_part_of_the_arguments_may_be_the_same_for_all():
    keys = jax.random.split(jax.random.key(1), 6)
    old = some_old(jax.random.key(2))
    when = jnp.arange(6) % 2 == 0
    got = run_once(jax.vmap(partial(renew, draw), (0, None, 0)), keys, old, when)
    expected = run_once(jax.vmap(choose, (0, None, 0)), keys, old, when)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("size", [6, 3 * GROUP])
def test_what_is_given_is_read_by_each_environment_from_its_own(size):
    old, given = jnp.arange(size), {"plus": 10 * jnp.arange(size)}
    keys = jax.random.split(jax.random.key(1), size)
    when = old % 2 == 0

    def add(key, old, given):
        return old + given["plus"]

    got = run_once(jax.vmap(partial(renew, add)), keys, old, when, given)
    np.testing.assert_array_equal(got, np.where(when, 11 * np.arange(size), np.arange(size)))


@pytest.mark.parametrize("group", [GROUP, 4])
def test_work_is_done_in_groups_for_those_who_need_it(group):
    calls = []

    def counted(key, old):
        jax.debug.callback(lambda k: calls.append(int(k[0])), jax.random.key_data(key))
        return draw(key, old)

    keys = jax.random.split(jax.random.key(1), 4 * GROUP)
    old = jax.vmap(some_old)(keys)
    renewed = jax.jit(jax.vmap(partial(renew, counted, group=group)))
    for needed, groups in ((0, 0), (1, 1), (group, 1), (group + 1, 2)):
        calls.clear()
        jax.block_until_ready(renewed(keys, old, jnp.arange(4 * GROUP) < needed))
        jax.effects_barrier()
        assert len(calls) == groups * group
