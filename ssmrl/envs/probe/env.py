"""Any task of `ssmrl.memory.diagnostics.tasks` as an environment: the answer is the action."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import (
    Box,
    Discrete,
    Environment,
    EnvParams,
    EnvState,
    MultiDiscrete,
    Space,
)
from ssmrl.memory.diagnostics.tasks.base import Progress, Shown, Task, advance, start
from ssmrl.shapes import Array, Key, Scalar

Step = tuple[Array, "ProbeState", Scalar, Scalar, dict[str, Any]]


@struct.dataclass
class ProbeState(EnvState):
    """time: () int32, answers given. progress: the episode. shown: the step to be answered."""

    progress: Progress
    shown: Shown


class Probe(Environment):
    """One step of the task is shown, one answer given; an episode ends after its last step.

    Observations are the task's tokens: Discrete, MultiDiscrete, or a Box for real inputs. At a
    step that is scored the right class, or the most likely state of a belief, pays 1, anything
    else 0. A real target is answered with a Box action and pays `1 - 2 e` with e the mean squared
    error: the mean over many steps is R^2. Unscored steps pay 0.

    task: what is asked.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def name(self) -> str:
        """The kind of task."""
        return type(self.task).__name__

    @property
    def default_params(self) -> EnvParams:
        """`max_steps_in_episode` truncates where it is less than the task's length."""
        return EnvParams(max_steps_in_episode=self.task.length)

    def reset_env(self, key: Key, params: EnvParams) -> tuple[Array, ProbeState]:
        """The first step of a new episode."""
        key_start, key_show = jax.random.split(key)
        progress, shown = advance(self.task, key_show, start(self.task, key_start))
        return self._observation(shown), ProbeState(jnp.int32(0), progress, shown)

    def step_env(self, key: Key, state: ProbeState, action: Array, params: EnvParams) -> Step:
        """Pay the answer to the step shown, show the next; the last one stays in sight."""
        over = state.progress.over
        following = advance(self.task, key, state.progress)
        progress, shown = jax.tree.map(
            lambda new, old: jnp.where(over, old, new), following, (state.progress, state.shown)
        )
        reward = jnp.where(state.shown.scored, self._worth(action, state.shown.target), 0.0)
        state = ProbeState(state.time + 1, progress, shown)
        return self._observation(shown), state, reward, over, {}

    def is_truncated(self, state: ProbeState, params: EnvParams) -> Scalar:
        """Whether a lowered limit, not the task, ended the episode."""
        return (state.time >= params.max_steps_in_episode) & (state.time < state.progress.duration)

    def observation_space(self, params: EnvParams) -> Space:
        """The tokens of the task."""
        tokens = self.task.tokens
        if not tokens:
            return Box(-self.task.bound, self.task.bound, (self.task.in_dim,))
        return Discrete(tokens[0]) if len(tokens) == 1 else MultiDiscrete(tokens)

    def action_space(self, params: EnvParams | None = None) -> Space:
        """The possible answers."""
        if self.task.kind == "real":
            return Box(-self.task.bound, self.task.bound, (self.task.outputs,))
        return Discrete(self.task.outputs)

    @property
    def num_actions(self) -> int:
        """Number of answers, or width of a real one."""
        return self.task.outputs

    def _observation(self, shown: Shown) -> Array:
        return shown.token[0] if len(self.task.tokens) == 1 else shown.token

    def _worth(self, action: Array, target: Array) -> Scalar:
        if self.task.kind == "real":
            return 1 - 2 * jnp.mean((action - target) ** 2)
        right = target if self.task.kind == "class" else jnp.argmax(target).astype(jnp.int32)
        return (action == right).astype(jnp.float32)
