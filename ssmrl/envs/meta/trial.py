"""Trials: several episodes of one task, played as a single episode (Duan et al. 2016, RL^2).

A *task* is a value of an environment's parameters: the payouts of a bandit, the masses of a
cart and its pole, the matrices that an observation is sent through. A *family* of tasks is an
environment that also knows how to draw its own parameters. `Trial` makes one ordinary
environment out of a family: to an agent the trial is the episode, so it keeps its memory, and
passes on credit, from one episode of the task to the next, and starts afresh with the next task.
"""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.auto_reset import renew
from ssmrl.envs.contract import Box, Dict, Environment, EnvParams, EnvState, Space
from ssmrl.envs.wrappers import StepResult, Wrapper
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, PyTree, Scalar

NEXT_TASK = 2**31 - 1
"""Folded into the key of a trial's last step for the trial that follows."""

FEW = 4
"""Tasks drawn at once: of a thousand trials hardly more end at the same step."""


class Family(Protocol):
    """An environment of the contract whose parameters can be drawn.

    It may also have `optimal_return(task) -> ()`, the mean return of an episode of the best
    policy that knows the task; `ssmrl eval RUN adaptation=true` compares with it.
    """

    @property
    def default_params(self) -> EnvParams: ...  # `max_steps_in_episode`: the longest episode

    @property
    def name(self) -> str: ...

    # a task, for `reset` and `step` to read; shapes and dtypes are always the same. What neither
    # reads is None or left out: every trial carries its task.
    def draw(self, key: Key) -> PyTree: ...


@struct.dataclass
class TrialState(EnvState):
    """time: () int32, steps of the trial. episode: () int32, episodes finished in it.

    task: parameters of the family. env: its state. first: observation and state with which every
    episode of this trial begins; None where each draws its own.
    """

    episode: Scalar
    task: PyTree
    env: PyTree
    first: PyTree


class Trial(Wrapper):
    """`episodes` episodes of one task, then another task.

    The observation is {"observation", "episode_start"}: the family's own, and 1.0 at the first
    step of every episode, else 0.0 (float32 (1,)); the previous reward comes from `PreviousStep`,
    which `agent.previous_reward` adds. The last episode's end is that of the trial and
    `terminated`: where a step pays the same in every state, as in CartPole, an episode matters
    only because their number is limited. Only a lowered time limit of the trial truncates.
    `info["final_observation"]` is what the agent would have seen next; `info["episode"]`,
    () int32, says which episode of the trial the step belonged to.

    env: a `Family`. same_start: every episode of a trial begins in the same state.
    Raises UsageError unless `episodes` is a positive whole number.
    """

    env: Any

    def __init__(self, env: Any, episodes: int, same_start: bool = False) -> None:
        super().__init__(env)
        if not isinstance(episodes, int) or episodes < 1:
            raise UsageError(f"episodes of a trial: expected 1 or more, got {episodes!r}")
        self.episodes, self.same_start = episodes, same_start

    @property
    def default_params(self) -> EnvParams:
        """`max_steps_in_episode` ends a trial early where it is lowered."""
        longest = int(self.env.default_params.max_steps_in_episode)
        return EnvParams(max_steps_in_episode=self.episodes * longest)

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: EnvParams | None = None) -> tuple[PyTree, TrialState]:
        """The first observation of a new task."""
        return self._begin(key)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: TrialState, action: Array, params: EnvParams | None = None
    ) -> StepResult:
        """One step of the family; the next task is drawn for those trials alone that ended."""
        params = self.default_params if params is None else params
        seen, env, reward, terminated, truncated, info = self.env.step(
            key, state.env, action, state.task
        )
        over = terminated | truncated
        if self.same_start:
            keep = partial(jax.tree.map, partial(jnp.where, over))
            seen, env = keep(state.first, (seen, env))
        now = state.replace(time=state.time + 1, episode=state.episode + over, env=strong(env))
        end = now.episode >= self.episodes
        late = ~end & (now.time >= params.max_steps_in_episode)
        last = strong(_told(seen, over))
        obs, now = renew(self._next, key, (last, now), end | late, group=FEW)
        told = {"terminated": end, "truncated": late, "final_observation": last}
        info = {**info, **told, "episode": state.episode}
        return obs, now, jnp.asarray(reward, jnp.float32), end, late, info

    def observation_space(self, params: EnvParams) -> Dict:
        """What the family shows, and whether an episode begins."""
        seen = self.env.observation_space(self.env.default_params)
        return Dict({"observation": seen, "episode_start": Box(0.0, 1.0, (1,))})

    def action_space(self, params: EnvParams | None = None) -> Space:
        """The family's actions."""
        return self.env.action_space(self.env.default_params)

    def _begin(self, key: Key) -> tuple[PyTree, TrialState]:
        key_task, key_env = jax.random.split(key)
        task = strong(self.env.draw(key_task))
        first = strong(self.env.reset(key_env, task))
        zero = jnp.zeros((), jnp.int32)
        state = TrialState(zero, zero, task, first[1], first if self.same_start else None)
        return strong(_told(first[0], jnp.array(True))), state

    def _next(self, key: Key, ended: PyTree) -> tuple[PyTree, TrialState]:
        return self._begin(jax.random.fold_in(key, NEXT_TASK))


class FixedTask(Wrapper):
    """A family of one task: any environment, always with the same parameters.

    They stay out of the state of a trial, where every environment would carry a copy, and are
    constants to the compiler: `reset` and `step` take no notice of those that they are given.
    """

    def __init__(self, env: Environment, params: EnvParams) -> None:
        super().__init__(env)
        self.params = params

    @property
    def default_params(self) -> EnvParams:
        """The parameters that it was given."""
        return self.params

    def draw(self, key: Key) -> None:
        """Nothing."""

    def reset(self, key: Key, params: EnvParams | None = None) -> tuple[PyTree, Any]:
        """As the environment."""
        return self.env.reset(key, self.params)

    def step(
        self, key: Key, state: Any, action: Array, params: EnvParams | None = None
    ) -> StepResult:
        """As the environment."""
        return self.env.step(key, state, action, self.params)


def strong(tree: PyTree) -> PyTree:
    """The same as arrays without weak types, which plain numbers in gymnax leave behind.

    A state carried through a scan has to keep its types.
    """

    def convert(x: Any) -> Array:
        x = jnp.asarray(x)
        return jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(convert, tree)


def _told(seen: PyTree, start: Scalar) -> dict[str, PyTree]:
    return {"observation": seen, "episode_start": start.astype(jnp.float32).reshape(1)}
