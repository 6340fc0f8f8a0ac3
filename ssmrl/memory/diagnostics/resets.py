"""Does anything cross a reset? A fuzzer for whole memories, and a check of scan operators."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.memory.spec import Memory
from ssmrl.shapes import TB, TBF, TBH, Array, Key, PyTree

POISONS: dict[str, float | None] = {"noise": None, "inf": jnp.inf, "nan": jnp.nan}


@dataclass(frozen=True)
class ResetLeak:
    """What got through, by where it was seen.

    Attributes:
        values: largest change of an output after a reset when inputs and carry before it were
            replaced, for `apply` and `step` and each of noise, inf and nan: `"apply, nan"`.
            0 is bit for bit the same; inf where an output became infinite or NaN.
        gradients: largest derivative of outputs after a reset by what came before it, for
            `apply` and `step`.
    """

    values: dict[str, float]
    gradients: dict[str, float]

    @property
    def clean(self) -> bool:
        """Whether nothing got through at all."""
        return not any((*self.values.values(), *self.gradients.values()))

    def __str__(self) -> str:
        found = {**self.values, **{f"{k}, gradient": v for k, v in self.gradients.items()}}
        leaks = [f"{name} ({size:g})" for name, size in found.items() if size]
        return "leaks: " + "; ".join(leaks) if leaks else "no leak"


class _Case(NamedTuple):
    u: TBF
    carry: PyTree
    reset: TB
    after: TB  # where outputs must not depend on the past


def reset_leak(
    mem: Memory,
    params: PyTree,
    key: Key,
    *,
    in_dim: int,
    steps: int = 24,
    batch: int = 4,
    rounds: int = 3,
) -> ResetLeak:
    """Replaces all that precedes a reset by noise, infinities and NaN, and compares bit by bit.

    Each sequence has a reset at a random step, and more of them at random elsewhere; what
    comes before that step, the first carry included, is replaced. Outputs from there on must
    not change in a single bit and their derivatives by the past must be exactly zero, in
    `apply` and in `step`, whose carry holds every state there is (convolution caches,
    counters, normalisers).

    Args:
        mem: the memory.
        params: its parameters.
        key: fixes inputs and resets.
        in_dim: width of the input.
        steps: length of the sequences.
        batch: how many at once.
        rounds: how often, with other inputs and resets.
    """
    readers = {"apply": _reading(mem), "step": _stepping(mem)}

    # A program of its own: drawn twice within another, inputs may differ in their last bit.
    draw = jax.jit(lambda key: _case(mem, key, steps, batch, in_dim))

    @jax.jit
    def search(
        params: PyTree, case: _Case, key_noise: Key
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        cases = [case, *(_poisoned(case, key_noise, value) for value in POISONS.values())]
        together = jax.tree.map(lambda *x: jnp.stack(x), *cases)
        values, slopes = {}, {}
        for name, reader in readers.items():
            # one loop body for all cases: the same instructions, so the same bits
            y = jax.lax.map(lambda c, reader=reader: reader(params, *c[:3])[1], together)
            for i, poison in enumerate(POISONS):
                gap = _gap(y[0], y[1 + i])
                values[f"{name}, {poison}"] = jnp.max(gap, initial=0, where=case.after[..., None])
            slopes[name] = _slope(reader, params, case)
        return values, slopes

    keys = jax.random.split(key, (rounds, 2))
    found = [jax.device_get(search(params, draw(k[0]), k[1])) for k in keys]
    worst = jax.tree.map(lambda *x: float(max(x)), *found)
    return ResetLeak(*worst)


def associativity_gap(operator: Callable[[Any, Any], Any], a: Any, b: Any, c: Any) -> float:
    """Largest difference of `(a b) c` and `a (b c)`: how far a scan may depend on its order.

    Draw the elements with reset flags set and states that are not zero: the operator that puts
    a learned first state in at resets (R2I, Samsami et al. 2024) fails only there.

    Args:
        operator: combines two elements, earlier one first.
        a: first element, a pytree of arrays.
        b: the next one.
        c: the last one.
    """
    left, right = operator(operator(a, b), c), operator(a, operator(b, c))
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return max(float(jnp.max(_gap(x, y))) for x, y in pairs)


def _case(mem: Memory, key: Key, steps: int, batch: int, in_dim: int) -> _Case:
    key_u, key_carry, key_reset, key_cut = jax.random.split(key, 4)
    cut = jax.random.randint(key_cut, (batch,), 1, steps, jnp.int32)
    now = jnp.arange(steps, dtype=jnp.int32)[:, None]
    reset = jax.random.bernoulli(key_reset, 0.15, (steps, batch)) | (now == cut[None])
    carry = mem.init_carry((batch,))
    keys = jax.random.split(key_carry, len(jax.tree.leaves(carry)) or 1)
    noisy = [
        x + jax.random.normal(k, x.shape, x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x
        for x, k in zip(jax.tree.leaves(carry), keys, strict=False)
    ]
    carry = jax.tree.unflatten(jax.tree.structure(carry), noisy)
    return _Case(jax.random.normal(key_u, (steps, batch, in_dim)), carry, reset, now >= cut[None])


def _poisoned(case: _Case, key: Key, value: float | None) -> _Case:
    def fill(x: Array) -> Array:
        if x.dtype == jnp.bool_:
            return ~x
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x + jnp.asarray(3, x.dtype)
        if value is None:
            return 10 * jax.random.normal(key, x.shape, x.dtype)
        return jnp.full_like(x, value)

    u = jnp.where(case.after[..., None], case.u, fill(case.u))
    return case._replace(u=u, carry=jax.tree.map(fill, case.carry))


def _slope(reader: Callable[..., Any], params: PyTree, case: _Case) -> Array:
    """Largest derivative of outputs after the reset by an input before it or by the carry."""
    leaves, tree = jax.tree.flatten(case.carry)
    smooth = [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.inexact)]

    def total(u: TBF, floats: list[Array]) -> Array:
        now = list(leaves)
        for i, x in zip(smooth, floats, strict=True):
            now[i] = x
        y: TBH = reader(params, u, jax.tree.unflatten(tree, now), case.reset)[1]
        waves = jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)  # no cancellation
        return jnp.sum(jnp.where(case.after[..., None], y * waves, 0))

    grad_u, grad_carry = jax.grad(total, argnums=(0, 1))(case.u, [leaves[i] for i in smooth])
    past = [jnp.where(case.after[..., None], 0, grad_u), *grad_carry]
    return jnp.max(jnp.stack([jnp.max(_gap(g), initial=0) for g in past]))


def _reading(mem: Memory) -> Callable[..., tuple[PyTree, TBH]]:
    return lambda params, u, carry, reset: mem.apply(params, carry, u, reset)


def _stepping(mem: Memory) -> Callable[..., tuple[PyTree, TBH]]:
    def run(params: PyTree, u: TBF, carry: PyTree, reset: TB) -> tuple[PyTree, TBH]:
        return jax.lax.scan(lambda c, x: mem.step(params, c, *x), carry, (u, reset))

    return run


def _gap(x: Array, y: Array | float = 0.0) -> Array:
    """`|x - y|`, inf where that is NaN; exactly 0 where the two are equal."""
    if x.dtype == jnp.bool_:
        return (x != y).astype(jnp.float32)
    gap = jnp.where(x == y, 0, jnp.abs(x - y))
    return jnp.where(jnp.isnan(gap), jnp.inf, gap)
