"""Everything that changes while R2I trains, as one pytree, and the rows of its replay."""

from typing import NamedTuple

from flax import nnx

from ssmrl import replay
from ssmrl.rl.imagined import Percentiles
from ssmrl.shapes import TB, Array, B, Key, PyTree, Scalar
from ssmrl.world_model import Latent


class Row(NamedTuple):
    """What is stored, `(..., *)`: see the top of `ssmrl.agents.r2i`.

    carry: what the policy carried before it saw o[t]; None unless sequences start from it.
    """

    obs: PyTree
    action: Array
    reward: TB
    reset: TB
    terminal: TB
    carry: PyTree


class Carry(NamedTuple):
    """What the policy carries from step to step, `(*B, ...)`."""

    latent: Latent
    action: Array  # the last one


class Actors(NamedTuple):
    """The environments, and what the policy carries in each of them."""

    env_state: PyTree
    obs: PyTree
    reward: B  # received on arriving at obs
    reset: B  # obs is the first of an episode
    carry: Carry


class Params(NamedTuple):
    """Of the three networks."""

    model: nnx.State
    actor: nnx.State
    critic: nnx.State


class Learner(NamedTuple):
    """What gradient steps change."""

    params: Params
    slow_critic: nnx.State
    optimizers: Params  # their states
    scale: Percentiles  # of returns


class State(NamedTuple):
    """Everything that changes in training."""

    learner: Learner
    actors: Actors
    replay: replay.Ring
    update: Scalar  # int32, train steps done
    key: Key

    @property
    def params(self) -> Params:
        """The parameters that a checkpoint must not hold unless they are finite."""
        return self.learner.params
