"""Several environments in one batch, each with places of its own (Lu et al. 2023, 5.3)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.custom_batching import custom_vmap

from ssmrl.envs.contract import Environment, EnvParams, EnvState, Space, same_space
from ssmrl.envs.meta.trial import strong
from ssmrl.envs.wrappers import StepResult
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, PyTree, Scalar

WHICH = 2**31 - 1
"""Folded into the key of a reset for the draw of who is played."""


@struct.dataclass
class MixtureParams(EnvParams):
    """each: a tuple with the parameters of every environment; a lower limit here holds for all."""

    each: Any = ()


@struct.dataclass
class MixtureState(EnvState):
    """time: () int32, steps of the mixture. which: () int32, the environment played.

    each: a tuple with a state of every environment, of which only the one played moves.
    """

    which: Scalar
    each: PyTree


class Mixture(Environment):
    """Environments that look alike, e.g. through `Projected`, played side by side.

    In a batch, that is inside `jax.vmap`, places belong to environments for good: place b of B
    plays environment b·n // B of n. So every environment steps its own share of the batch and no
    more (a `lax.switch` would step all of them at every place). Alone, or in a batch of fewer
    places than environments, `reset` draws which one is played.

    A state must therefore be stepped at the place where it was reset, in a batch of the same
    size; elsewhere its reward is NaN. `info["which"]`, () int32, tells who is played; of `info`
    there is besides `final_observation`, and `episode` where all are trials of as many episodes.

    envs: at least one. Raises UsageError where there is none, or spaces differ.
    """

    def __init__(self, envs: Sequence[Environment]) -> None:
        self.envs: tuple[Any, ...] = tuple(envs)
        if not self.envs:
            raise UsageError("a mixture needs at least one environment")
        first = self.envs[0]
        for kind in ("observation_space", "action_space"):
            spaces = [getattr(env, kind)(env.default_params) for env in self.envs]
            if not all(same_space(spaces[0], space) for space in spaces):
                told = ", ".join(sorted(set(map(repr, spaces))))
                raise UsageError(
                    f"the {kind}s of a mixture differ: {told}; project all to the same size, as "
                    f"that of {first.name}"
                )

    @property
    def name(self) -> str:
        """The names of all."""
        return "+".join(env.name for env in self.envs)

    @property
    def default_params(self) -> MixtureParams:
        """The defaults of all."""
        each = tuple(env.default_params for env in self.envs)
        return MixtureParams(max(int(params.max_steps_in_episode) for params in each), each)

    @property
    def episodes(self) -> int | None:
        """Episodes of a trial, where all are trials of as many; else None."""
        counts = {getattr(env, "episodes", None) for env in self.envs}
        return counts.pop() if len(counts) == 1 else None

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: MixtureParams | None = None) -> tuple[PyTree, MixtureState]:
        """The first observation of the environment played; the states of all."""
        params = self.default_params if params is None else params
        return self._place_by_place(self._begin, self._begin_all)(key, params)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: MixtureState, action: Array, params: MixtureParams | None = None
    ) -> StepResult:
        """A step of the environment played."""
        params = self.default_params if params is None else params
        return self._place_by_place(self._turn, self._turn_all)(key, state, action, params)

    def observation_space(self, params: EnvParams) -> Space:
        """That of all."""
        return self.envs[0].observation_space(self.envs[0].default_params)

    def action_space(self, params: EnvParams | None = None) -> Space:
        """That of all."""
        return self.envs[0].action_space(self.envs[0].default_params)

    @property
    def num_actions(self) -> int:
        """That of all."""
        return int(self.envs[0].num_actions)

    def owners(self, size: int) -> Array:
        """Who is played at each place of a batch; size: no less than environments. (B,) int32."""
        return jnp.arange(size, dtype=jnp.int32) * len(self.envs) // size

    def _place_by_place(self, alone: Callable[..., Any], batch: Callable[..., Any]) -> Any:
        """`alone`, which inside `vmap` is `batch` where there is a place for every environment."""
        function = custom_vmap(alone)

        @function.def_vmap
        def rule(size: int, batched: list[Any], *given: PyTree) -> tuple[PyTree, PyTree]:
            def full(has: bool, x: Array) -> Array:
                return x if has else jnp.broadcast_to(x, (size, *jnp.shape(x)))

            play = batch if size >= len(self.envs) else jax.vmap(alone)
            out = play(*jax.tree.map(full, tuple(batched), given))
            return out, jax.tree.map(lambda _: True, out)

        return function

    def _begin(self, key: Key, params: MixtureParams) -> tuple[PyTree, MixtureState]:
        which = jax.random.randint(jax.random.fold_in(key, WHICH), (), 0, len(self.envs))
        seen, each = self._reset_each(key, params)
        obs = jax.tree.map(lambda *x: jnp.stack(x)[which], *seen)
        return obs, MixtureState(jnp.zeros((), jnp.int32), which, each)

    def _begin_all(self, key: Key, params: MixtureParams) -> tuple[PyTree, MixtureState]:
        seen, each = jax.vmap(self._reset_each)(key, params)
        start, which = jnp.zeros(key.shape[0], jnp.int32), self.owners(key.shape[0])
        shares = [rows(x, share) for x, share in zip(seen, self._shares(key.shape[0]), strict=True)]
        return joined(shares), MixtureState(start, which, each)

    def _turn(
        self, key: Key, state: MixtureState, action: Array, params: MixtureParams
    ) -> StepResult:
        def play(i: int) -> StepResult:
            obs, own, *rest = self._step(i, key, state.each[i], action, params)
            each = (*state.each[:i], own, *state.each[i + 1 :])
            return obs, state.replace(time=state.time + 1, each=each), *rest

        return jax.lax.switch(state.which, [partial(play, i) for i in range(len(self.envs))])

    def _turn_all(
        self, key: Key, state: MixtureState, action: Array, params: MixtureParams
    ) -> StepResult:
        each, told = [], []
        for i, share in enumerate(self._shares(key.shape[0])):
            own = state.each[i]
            given = (rows(x, share) for x in (key, own, action, params))
            obs, after, *rest = jax.vmap(partial(self._step, i))(*given)
            each.append(jax.tree.map(partial(put, share), own, after))
            told.append((obs, *rest))
        obs, reward, terminated, truncated, info = joined(told)
        reward = jnp.where(state.which == self.owners(key.shape[0]), reward, jnp.nan)
        after = state.replace(time=state.time + 1, each=tuple(each))
        return obs, after, reward, terminated, truncated, info

    def _reset_each(self, key: Key, params: MixtureParams) -> tuple[tuple[PyTree, ...], ...]:
        """What everybody shows first, and the states of all."""
        keys = jax.random.split(key, len(self.envs))
        begun = [
            strong(env.reset(keys[i], self._own(i, params))) for i, env in enumerate(self.envs)
        ]
        return tuple(obs for obs, _ in begun), tuple(state for _, state in begun)

    def _step(
        self, i: int, key: Key, state: PyTree, action: Array, params: MixtureParams
    ) -> StepResult:
        own = self._own(i, params)
        obs, state, reward, terminated, truncated, info = self.envs[i].step(key, state, action, own)
        kept = ["final_observation"] + ["episode"] * (self.episodes is not None)
        told = {name: info[name] for name in kept} | {"which": jnp.int32(i)}
        reward = jnp.asarray(reward, jnp.float32)
        return strong((obs, state, reward, terminated, truncated, told))

    def _own(self, i: int, params: MixtureParams) -> EnvParams:
        """Parameters of environment i, with the lower of the two time limits."""
        own: EnvParams = params.each[i]
        limit = jnp.minimum(own.max_steps_in_episode, params.max_steps_in_episode)
        return own.replace(max_steps_in_episode=limit)

    def _shares(self, size: int) -> list[slice]:
        """The places of every environment in a batch of that size."""
        n = len(self.envs)
        ends = [-(-size * i // n) for i in range(n + 1)]  # the first b with b * n // size >= i
        return [slice(*pair) for pair in pairwise(ends)]


def rows(tree: PyTree, places: slice) -> PyTree:
    """Those places of a batch."""
    return jax.tree.map(lambda x: x[places], tree)


def joined(parts: Sequence[PyTree]) -> PyTree:
    """One batch of several."""
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def put(places: slice, x: Array, new: Array) -> Array:
    """x with other entries at those places."""
    return x.at[places].set(new)
