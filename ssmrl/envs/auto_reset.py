"""Work for those environments of a batch alone that need it: the ones that begin an episode.

Inside `vmap` a condition runs both of its branches for every environment, so that a reset which
lays out ships or digs a maze would do so at every step. `renew` therefore knows the batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from ssmrl.shapes import Array, B, Key, PyTree, Scalar

GROUP = 32
"""Environments renewed at once on CPU; where fewer need it the rest of the work is wasted.

A batch no larger than a group is not gathered, which is less to compile.
"""

Draw = Callable[..., PyTree]


def renew(
    draw: Draw, key: Key, old: PyTree, when: Scalar, *given: PyTree, group: int = GROUP
) -> PyTree:
    """`draw(key, old, *given)` where `when`, else `old`; written for one environment, to `vmap`.

    The result is that of `jnp.where` under any number of nested `vmap`s; only the work differs.
    On CPU it is done in groups of those that need it, elsewhere for all as soon as one does.
    draw: a pure function that closes over no traced value; its result has the structure,
    shapes and dtypes of `old`. when: () bool. given: what it reads and does not change. group:
    size of a group, smaller where few of a batch need it at a time and the work is much.
    """

    @custom_vmap
    def batch(key: Key, old: PyTree, when: B, *given: PyTree) -> PyTree:
        if when.shape[0] <= group:
            return renew_all(draw, key, old, when, *given)
        in_groups = partial(renew_in_groups, draw, group=group)
        return jax.lax.platform_dependent(
            key, old, when, *given, cpu=in_groups, default=partial(renew_all, draw)
        )

    @batch.def_vmap
    def nested(size: int, batched: list[Any], *arguments: PyTree) -> tuple[PyTree, PyTree]:
        inner = arguments[2].shape[-1]

        def merge(is_batched: bool, x: Array) -> Array:
            full = x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
            return full.reshape(size * inner, *full.shape[2:])

        new = batch(*jax.tree.map(merge, tuple(batched), arguments))
        split = jax.tree.map(lambda x: x.reshape(size, inner, *x.shape[1:]), new)
        return split, jax.tree.map(lambda _: True, split)

    one = jax.tree.map(lambda x: x[None], (key, old, when, *given))
    return jax.tree.map(lambda x: x[0], batch(*one))


def renew_in_groups(
    draw: Draw, keys: Key, old: PyTree, when: B, *given: PyTree, group: int = GROUP
) -> PyTree:
    """`renew` for a batch of size N, a group after the other until none is left.

    keys, when: (N,). old, given: leaves (N, …).
    """
    size = when.shape[0]

    def next_group(carry: tuple[B, PyTree]) -> tuple[B, PyTree]:
        left, all_ = carry
        # beyond the last that is left `who` is N: read from somewhere, written nowhere
        who = first_true(left, min(group, size))
        those = jax.tree.map(lambda x: x.at[who].get(mode="clip"), (keys, all_, *given))
        new = jax.vmap(draw)(*those)
        put = jax.tree.map(lambda x, part: x.at[who].set(part, mode="drop"), all_, new)
        return left & (jnp.arange(size) > who[-1]), put

    return jax.lax.while_loop(lambda carry: jnp.any(carry[0]), next_group, (when, old))[1]


def first_true(x: B, count: int) -> Array:
    """Where the first `count` of x (N,) bool are true; (count,) int32, N for those that lack.

    One minimum for each: on CPU they take a fraction of what a sum along x takes.
    """
    places = jnp.arange(x.shape[0], dtype=jnp.int32)

    def following(before: Scalar, _: None) -> tuple[Scalar, Scalar]:
        place = jnp.min(jnp.where(x & (places > before), places, jnp.int32(x.shape[0])))
        return place, place

    return jax.lax.scan(following, jnp.int32(-1), length=count, unroll=True)[1]


def renew_all(draw: Draw, keys: Key, old: PyTree, when: B, *given: PyTree) -> PyTree:
    """`renew` for a batch of size N, in one go: for devices on which a loop costs more.

    keys, when: (N,). old, given: leaves (N, …).
    """

    def choose(key: Key, old: PyTree, when: Scalar, *given: PyTree) -> PyTree:
        return jax.tree.map(partial(jnp.where, when), draw(key, old, *given), old)

    def keep(key: Key, old: PyTree, when: B, *given: PyTree) -> PyTree:
        return old

    return jax.lax.cond(jnp.any(when), jax.vmap(choose), keep, keys, old, when, *given)
