"""Several environments in one batch, each with places of its own (Lu et al. 2023, 5.3)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Environment, EnvParams, Space, same_space
from ssmrl.envs.meta.trial import Trial, strong
from ssmrl.envs.wrappers import StepResult, inside
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, PyTree, Scalar

WHICH = 2**31 - 1
"""Folded into the key of a reset for the draw of who is played."""

TOLD = "final_observation", "episode_end", "episode_return", "episode_length"
"""What is passed on of `info`, as far as the environments tell it."""


@struct.dataclass
class MixtureParams(EnvParams):
    """each: a tuple with the parameters of every environment; a lower limit here holds for all."""

    each: Any = ()


@struct.dataclass
class MixtureState:
    """which: () int32, the environment played.

    each: a tuple with a state of every environment, of which only the one played moves.
    """

    which: Scalar
    each: PyTree


class Mixture(Environment):
    """Environments that look alike, e.g. through `Projected`, played side by side.

    In a batch, that is by `ssmrl.envs.batch`, places belong to environments for good: place b of
    B plays environment b·n // B of n, and the state is a batch for each, so that each steps its
    own share and no more. Alone, or in a batch of fewer places than environments, `reset` draws
    which one is played, and `step` is a `lax.switch`: right under `jax.vmap` too, but there it
    steps every environment at every place. What wraps a single environment belongs around those
    of the mixture, see `wrap`.

    `info["which"]`, () int32, tells who is played; of `info` there is besides what `TOLD` lists,
    and `episode` where all are trials of as many episodes.

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
        counts = {getattr(inside(env, Trial), "episodes", None) for env in self.envs}
        return counts.pop() if len(counts) == 1 else None

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: MixtureParams | None = None) -> tuple[PyTree, MixtureState]:
        """The first observation of the environment drawn; the states of all."""
        params = self.default_params if params is None else params
        which = jax.random.randint(jax.random.fold_in(key, WHICH), (), 0, len(self.envs))
        begun = [self._reset(i, key, params) for i in range(len(self.envs))]
        obs = jax.tree.map(lambda *x: jnp.stack(x)[which], *(first for first, _ in begun))
        each = tuple(state for _, state in begun)
        return obs, MixtureState(which, each)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: MixtureState, action: Array, params: MixtureParams | None = None
    ) -> StepResult:
        """A step of the environment that was drawn."""
        given = self.default_params if params is None else params

        def play(i: int) -> StepResult:
            obs, own, *rest = self._step(i, given, key, state.each[i], action)
            each = (*state.each[:i], own, *state.each[i + 1 :])
            return obs, MixtureState(state.which, each), *rest

        return jax.lax.switch(state.which, [partial(play, i) for i in range(len(self.envs))])

    def reset_all(self, keys: Key, params: MixtureParams) -> tuple[PyTree, PyTree]:
        """`ssmrl.envs.batch.reset_all`; the state is a tuple with the batch of every environment.

        Where there are fewer places than environments, it is that of `reset`, (B, …).
        """
        if len(keys) < len(self.envs):
            return jax.vmap(self.reset, (0, None))(keys, params)
        begun = [
            jax.vmap(partial(self._reset, i), (0, None))(keys[share], params)
            for i, share in enumerate(self._shares(len(keys)))
        ]
        return joined([obs for obs, _ in begun]), tuple(state for _, state in begun)

    def step_all(
        self, keys: Key, state: PyTree, action: Array, params: MixtureParams
    ) -> StepResult:
        """`ssmrl.envs.batch.step_all`; every environment steps its share of the places."""
        if isinstance(state, MixtureState):
            return jax.vmap(self.step, (0, 0, 0, None))(keys, state, action, params)
        stepped = [
            jax.vmap(partial(self._step, i, params))(keys[share], state[i], rows(action, share))
            for i, share in enumerate(self._shares(len(keys)))
        ]
        obs, *rest = joined([(obs, *rest) for obs, _, *rest in stepped])
        return obs, tuple(state for _, state, *_ in stepped), *rest

    def wrap(self, wrapper: Callable[[Any], Any]) -> "Mixture":
        """Every environment in that wrapper."""
        return Mixture([wrapper(env) for env in self.envs])

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

    def _shares(self, size: int) -> list[slice]:
        """The places of every environment in a batch of that size."""
        n = len(self.envs)
        ends = [-(-size * i // n) for i in range(n + 1)]  # the first b with b * n // size >= i
        return [slice(*pair) for pair in pairwise(ends)]

    def _reset(self, i: int, key: Key, params: MixtureParams) -> tuple[PyTree, PyTree]:
        key = jax.random.split(key, len(self.envs))[i]
        return strong(self.envs[i].reset(key, self._own(i, params)))

    def _step(
        self, i: int, params: MixtureParams, key: Key, state: PyTree, action: Array
    ) -> StepResult:
        own = self._own(i, params)
        obs, state, reward, terminated, truncated, info = self.envs[i].step(key, state, action, own)
        kept = [name for name in TOLD if name in info]
        if self.episodes is not None:
            kept.append("episode")
        told = {name: info[name] for name in kept} | {"which": jnp.int32(i)}
        reward = jnp.asarray(reward, jnp.float32)
        return strong((obs, state, reward, terminated, truncated, told))

    def _own(self, i: int, params: MixtureParams) -> EnvParams:
        """Parameters of environment i, with the lower of the two time limits."""
        own: EnvParams = params.each[i]
        limit = jnp.minimum(own.max_steps_in_episode, params.max_steps_in_episode)
        return own.replace(max_steps_in_episode=limit)


def rows(tree: PyTree, places: slice) -> PyTree:
    """Those places of a batch."""
    return jax.tree.map(lambda x: x[places], tree)


def joined(parts: Sequence[PyTree]) -> PyTree:
    """One batch of several."""
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
