"""Everything that changes while Hieros trains, as one pytree, and the rows of its replays."""

from typing import NamedTuple

from flax import nnx

from ssmrl import replay
from ssmrl.rl.imagined import Percentiles
from ssmrl.shapes import TB, Array, B, Key, PyTree, Scalar
from ssmrl.world_model import Latent


class Row(NamedTuple):
    """What is stored of a step of a level, `(..., *)`; as in R2I, and the subgoal.

    Attributes:
        goal: `(..., code_groups)` the code that the policy was given; None at the top.
        carry: latent and action before obs; None unless sequences start from them.
    """

    obs: PyTree
    action: Array
    reward: TB
    reset: TB
    terminal: TB
    goal: Array | None
    carry: PyTree = None


class LevelCarry(NamedTuple):
    """What a level carries from one of its steps to the next, `(*B, ...)`.

    Attributes:
        latent: of its world model.
        action: the last one.
        window: its last k latents, what a level above with a model of its own observes; empty
            if there is none.
    """

    latent: Latent
    action: Array
    window: dict[str, Array]

    @property
    def shown(self) -> PyTree:
        """What the level above observes: the window, or the latest latent where there is none."""
        return self.window or self.latent


class Params(NamedTuple):
    """Of the networks of a level."""

    model: nnx.State
    actor: nnx.State
    critics: nnx.State
    codes: nnx.State


class Learner(NamedTuple):
    """What the gradient steps of a level change."""

    params: Params
    slow_critics: nnx.State
    optimizers: Params  # their states
    scales: dict[str, Percentiles]  # of the returns of each reward


class Source(NamedTuple):
    """What a level learns from.

    Attributes:
        ring: rows of its own, or those of level 0 if it shares that level's model.
        lowest: the parameters of level 0.
    """

    ring: replay.Ring
    lowest: Params


class Carry(NamedTuple):
    """What the policy carries from step to step, `(*B, ...)`.

    clock: int32, environment steps since the episode began.
    """

    levels: tuple[LevelCarry, ...]
    clock: B


class Thought(NamedTuple):
    """What the levels did at one step, bottom to top.

    Attributes:
        carry: after the step.
        due: `(*B,)` bool of each level, whether it looked and acted.
        seen: what each level was shown.
        goal: `(*B, code_groups)` the subgoal of each level, None at the top.
    """

    carry: Carry
    due: tuple[B, ...]
    seen: tuple[PyTree, ...]
    goal: tuple[Array | None, ...]


class Choice(NamedTuple):
    """What the policy did at a step, and the key with which it looks at what may be the end."""

    thought: Thought
    key: Key


class Actors(NamedTuple):
    """The environments, and what is going on in each of them.

    Attributes:
        env_state, obs: of the step to come.
        reset: `obs` is the first of an episode.
        earned: reward since the last action of each level with a replay, that for arriving at
            `obs` included.
        carry: of the policy.
    """

    env_state: PyTree
    obs: PyTree
    reset: B
    earned: tuple[B, ...]
    carry: Carry


class State(NamedTuple):
    """Everything that changes in training."""

    learners: tuple[Learner, ...]
    actors: Actors
    replays: tuple[replay.Ring, ...]  # of the levels with a world model
    update: Scalar  # int32, train steps done
    key: Key

    @property
    def params(self) -> tuple[Params, ...]:
        """The parameters that a checkpoint must not hold unless they are finite."""
        return tuple(learner.params for learner in self.learners)
