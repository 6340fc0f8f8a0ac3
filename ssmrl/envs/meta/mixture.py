"""Several environments in one batch: which one it is belongs to the task (Lu et al. 2023, 5.3)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.auto_reset import renew
from ssmrl.envs.contract import Environment, EnvParams, Space
from ssmrl.envs.meta.trial import Family, strong
from ssmrl.envs.wrappers import StepResult
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, PyTree


@struct.dataclass
class MixtureParams(EnvParams):
    """which: () int32, the family played. tasks: a tuple with a task of every family."""

    which: Any = 0
    tasks: Any = ()


class Mixture(Environment):
    """A family made of several that look alike, e.g. through `Projected`; each equally likely.

    The state holds one of each family, of which only the one played moves. A step costs about
    what it costs in those that are played: inside `vmap` every family steps, in groups, the
    environments of the batch that play it (a `lax.switch` would step all families in all of
    them). On accelerators, where loops cost more than idle work, all families do step.

    families: at least one. Raises UsageError where there is none, or spaces differ.
    """

    def __init__(self, families: Sequence[Family]) -> None:
        self.families: tuple[Any, ...] = tuple(families)
        if not self.families:
            raise UsageError("a mixture needs at least one family of tasks")
        first = self.families[0]
        for kind in ("observation_space", "action_space"):
            spaces = [repr(getattr(f, kind)(f.default_params)) for f in self.families]
            if len(set(spaces)) > 1:
                raise UsageError(
                    f"the {kind}s of a mixture differ: {', '.join(sorted(set(spaces)))}; project "
                    f"all to the same size, as that of {first.name}"
                )
        self._steps = tuple(partial(_step, family) for family in self.families)

    @property
    def name(self) -> str:
        """The names of all."""
        return "+".join(family.name for family in self.families)

    @property
    def default_params(self) -> MixtureParams:
        """The first family."""
        tasks = tuple(family.default_params for family in self.families)
        longest = max(int(task.max_steps_in_episode) for task in tasks)
        return MixtureParams(longest, 0, tasks)

    def draw(self, key: Key) -> MixtureParams:
        """A task: a family, and a task of each."""
        key, *keys = jax.random.split(key, 1 + len(self.families))
        tasks = tuple(f.draw(k) for f, k in zip(self.families, keys, strict=True))
        which = jax.random.randint(key, (), 0, len(tasks))
        limits = jnp.stack([jnp.asarray(t.max_steps_in_episode, jnp.int32) for t in tasks])
        return MixtureParams(limits[which], which, tasks)

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: MixtureParams | None = None) -> tuple[PyTree, PyTree]:
        """The first observation of the family played; the states of all."""
        params = self.default_params if params is None else params
        keys = jax.random.split(key, len(self.families))
        both = [
            strong(family.reset(k, task))
            for family, k, task in zip(self.families, keys, params.tasks, strict=True)
        ]
        seen = jax.tree.map(lambda *x: jnp.stack(x)[params.which], *(obs for obs, _ in both))
        return seen, tuple(state for _, state in both)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: PyTree, action: Array, params: MixtureParams | None = None
    ) -> StepResult:
        """A step of the family played."""
        params = strong(self.default_params if params is None else params)
        seen = jax.eval_shape(self.families[0].reset, key, params.tasks[0])[0]
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), seen)
        no = jnp.zeros((), bool)
        out = (blank, jnp.zeros((), jnp.float32), no, no, blank)
        states = []
        for i, (step, own, task) in enumerate(zip(self._steps, state, params.tasks, strict=True)):
            own, out = renew(step, key, (own, out), params.which == i, action, task)
            states.append(own)
        obs, reward, terminated, truncated, last = out
        info = {"terminated": terminated, "truncated": truncated, "final_observation": last}
        return obs, tuple(states), reward, terminated, truncated, info

    def observation_space(self, params: EnvParams) -> Space:
        """That of all."""
        return self.families[0].observation_space(self.families[0].default_params)

    def action_space(self, params: EnvParams | None = None) -> Space:
        """That of all."""
        return self.families[0].action_space(self.families[0].default_params)

    @property
    def num_actions(self) -> int:
        """That of all."""
        return int(self.families[0].num_actions)


def _step(family: Any, key: Key, now: PyTree, action: Array, task: EnvParams) -> PyTree:
    """`now` = (state, what the step returned) after a step of `family`."""
    obs, state, reward, terminated, truncated, info = family.step(key, now[0], action, task)
    out = (obs, jnp.asarray(reward, jnp.float32), terminated, truncated, info["final_observation"])
    return strong((state, out))
