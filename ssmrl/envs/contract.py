"""What an environment is here, and how its observations become numbers.

An environment is a `gymnax` 1.x `Environment`, so that ours run in any gymnax code and any
gymnax environment runs in ours:

    obs, state = env.reset(key, params)
    obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)

for one environment; `jax.vmap` gives many, see `ssmrl.envs.batch`. After the last step of an
episode `step` has already begun the next one: `obs` and `state` belong to the new episode,
`reward` and the two flags to the old one, and `info["final_observation"]` is the old one's last
observation. So `reset[t+1] = terminated[t] | truncated[t]` in the time-major convention of
`ssmrl.memory`, and the value of a truncated episode is bootstrapped from `final_observation`.

What an agent may rely on besides: flags are bool of shape (), the reward is a number of shape
() (gymnax has integer ones: cast), `observation_space(params)` and `action_space(params)`
tell shapes and bounds, `params` is a dataclass of numbers with `max_steps_in_episode`.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment, EnvParams, EnvState
from gymnax.environments.spaces import Box, Dict, Discrete, Space, Tuple

from ssmrl.errors import UsageError
from ssmrl.shapes import TBF, Array, Key, PyTree, Scalar

__all__ = [
    "Box",
    "Dict",
    "Discrete",
    "EnvParams",
    "EnvState",
    "Environment",
    "MultiDiscrete",
    "Space",
    "Tuple",
    "contains",
    "feature_size",
    "flatten",
    "same_space",
]


class MultiDiscrete(Space):
    """Vectors of integers, entry i in `0 .. nvec[i] - 1`; gymnax itself has no such space.

    nvec: number of values of each entry, static. dtype: an integer type that holds them.
    Raises UsageError where `nvec` is no non-empty flat sequence of positive integers.
    """

    def __init__(self, nvec: Sequence[int], dtype: Any = jnp.int32) -> None:
        sizes = np.asarray(nvec)
        if sizes.ndim != 1 or sizes.size == 0 or sizes.dtype.kind not in "iu" or sizes.min() < 1:
            raise UsageError(f"MultiDiscrete expects positive integers such as (3, 5), got {nvec}")
        self.nvec = tuple(int(n) for n in sizes)
        self.shape = (len(self.nvec),)
        self.dtype = jnp.dtype(dtype)

    def __repr__(self) -> str:
        uniform = len(set(self.nvec)) == 1 and len(self.nvec) > 4
        sizes = f"({self.nvec[0]},) * {len(self.nvec)}" if uniform else f"{self.nvec}"
        return f"MultiDiscrete({sizes}, dtype={self.dtype.name})"

    def sample(self, key: Key) -> Array:
        """One vector drawn uniformly: (A,) of `dtype`."""
        draw = jax.random.randint(key, self.shape, 0, jnp.array(self.nvec, jnp.int32), jnp.int32)
        return draw.astype(self.dtype)

    def contains(self, x: Array) -> Scalar:
        """Whether all entries of `x: (*B, A)` are in range, as a bool of shape ()."""
        return contains(self, x)


def contains(space: Space, x: PyTree) -> Scalar:
    """Whether `x`, with any leading batch axes, lies in `space`: a bool of shape ().

    Works inside `jit` and on nested Dict and Tuple spaces, where gymnax 1.0.1 reads dictionary
    keys as attributes and fails. Structure, trailing shape and integer type are compared too;
    NaN lies in no space. Raises UsageError for a space of another kind.
    """
    if isinstance(space, Dict):
        if not isinstance(x, dict) or set(x) != set(space.spaces):
            return jnp.array(False)
        return _all(contains(s, x[name]) for name, s in space.spaces.items())
    if isinstance(space, Tuple):
        if not isinstance(x, tuple) or len(x) != len(space.spaces):
            return jnp.array(False)
        return _all(map(contains, space.spaces, x))
    _check_kind(space)
    x = jnp.asarray(x)
    integer = jnp.issubdtype(x.dtype, jnp.integer)
    if not _has_entry_shape(space, x) or (not integer and not isinstance(space, Box)):
        return jnp.array(False)
    if isinstance(space, Box):
        low, high = (jnp.broadcast_to(jnp.float32(b), x.shape) for b in (space.low, space.high))
        x = x.astype(jnp.float32)
        return jnp.all((x >= low) & (x <= high))
    count = space.n if isinstance(space, Discrete) else jnp.array(space.nvec, jnp.int32)
    x = x.astype(jnp.int32)
    return jnp.all((x >= 0) & (x < jnp.broadcast_to(count, x.shape)))


def same_space(one: Space, other: Space) -> bool:
    """Whether a policy cannot tell the elements of two spaces apart.

    The integer type of a Discrete or MultiDiscrete does not matter, nor whether the bounds of a
    Box are numbers or arrays. Spaces of kinds that are not ours are never the same.
    """
    if isinstance(one, Dict) and isinstance(other, Dict):
        names = set(one.spaces)
        return names == set(other.spaces) and all(
            same_space(one.spaces[name], other.spaces[name]) for name in names
        )
    if isinstance(one, Tuple) and isinstance(other, Tuple):
        parts = zip(one.spaces, other.spaces, strict=False)
        return len(one.spaces) == len(other.spaces) and all(same_space(*pair) for pair in parts)
    if isinstance(one, Discrete) and isinstance(other, Discrete):
        return bool(one.n == other.n)
    if isinstance(one, MultiDiscrete) and isinstance(other, MultiDiscrete):
        return one.nvec == other.nvec
    if not (isinstance(one, Box) and isinstance(other, Box)):
        return False
    if tuple(one.shape) != tuple(other.shape) or one.dtype != other.dtype:
        return False
    low, high = (
        [np.broadcast_to(np.asarray(bound, np.float32), one.shape) for bound in bounds]
        for bounds in ((one.low, other.low), (one.high, other.high))
    )
    return np.array_equal(low[0], low[1]) and np.array_equal(high[0], high[1])


def feature_size(space: Space) -> int:
    """The number F of features that `flatten` makes of one element of `space`.

    Raises UsageError for a space that is no Discrete, MultiDiscrete, Box, Dict or Tuple.
    """
    if isinstance(space, Dict | Tuple):
        return sum(feature_size(s) for s in _children(space))
    _check_kind(space)
    if isinstance(space, Discrete):
        return int(space.n)
    return sum(space.nvec) if isinstance(space, MultiDiscrete) else prod(space.shape)


def flatten(space: Space, x: PyTree) -> TBF:
    """The features of `x`, an element of `space` with any leading batch axes: float32 (*B, F).

    Discrete becomes one-hot, MultiDiscrete its entries' one-hots side by side, Box its numbers
    in row-major order, Dict and Tuple their parts in order. An integer out of range becomes
    zeros. One-hots are comparisons, not gathers, which are slow on CPU.

    Raises UsageError where the space is of another kind, or the trailing axes of `x` are not
    those of the space.
    """
    if isinstance(space, Dict):
        parts = [flatten(s, x[name]) for name, s in space.spaces.items()]
        return jnp.concatenate(parts, axis=-1)
    if isinstance(space, Tuple):
        return jnp.concatenate(list(map(flatten, space.spaces, x)), axis=-1)
    _check_kind(space)
    x = jnp.asarray(x)
    if not _has_entry_shape(space, x):
        raise UsageError(
            f"expected an element of {space} behind its batch axes, got shape {x.shape}"
        )
    if isinstance(space, Discrete):
        return jax.nn.one_hot(x, space.n, dtype=jnp.float32)
    batch = x.shape[: x.ndim - len(space.shape)]
    if isinstance(space, MultiDiscrete):
        if len(set(space.nvec)) == 1:
            x = jax.nn.one_hot(x, space.nvec[0], dtype=jnp.float32)
        else:
            hot = [jax.nn.one_hot(x[..., i], n) for i, n in enumerate(space.nvec)]
            x = jnp.concatenate(hot, axis=-1)
    return x.astype(jnp.float32).reshape(*batch, feature_size(space))


def _children(space: Dict | Tuple) -> list[Space]:
    return list(space.spaces.values() if isinstance(space, Dict) else space.spaces)


def _check_kind(space: Space) -> None:
    if not isinstance(space, Discrete | MultiDiscrete | Box):
        raise UsageError(
            "expected a Discrete, MultiDiscrete, Box, Dict or Tuple space of ssmrl.envs.contract, "
            f"got {space!r} of type {type(space).__name__}"
        )


def _has_entry_shape(space: Space, x: Array) -> bool:
    """Whether the trailing axes of `x` are those of one element of `space`."""
    axes = len(space.shape)
    return x.shape[max(x.ndim - axes, 0) :] == tuple(space.shape) or axes == 0


def _all(flags: Iterable[Scalar]) -> Scalar:
    return jnp.all(jnp.stack(list(flags)))
