"""Everything that changes while R2I trains, as one pytree, and the rows of its replay."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ssmrl import replay
from ssmrl.agents.r2i_config import R2IConfig
from ssmrl.envs.batch import wrap
from ssmrl.envs.wrappers import EpisodeStatistics, PreviousStep
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


class Record(NamedTuple):
    """What is kept of a step, `(2, B, ...)`: its row, and the last one of an episode that ended.

    valid: whether there is such a row. Of Hieros rows and valid are tuples over levels.
    """

    rows: Any
    valid: Any
    episode: dict[str, Array]


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


def perceived(env: Any, config: R2IConfig) -> Any:
    """An environment as agents that imagine observe it."""
    if config.previous_reward:
        env = wrap(env, partial(PreviousStep, action=False, start=False))
    return wrap(env, EpisodeStatistics)


def pair(first: PyTree, second: PyTree) -> PyTree:
    """Both rows of a step, `(2, B, ...)`."""
    return jax.tree.map(lambda x, y: jnp.stack([x, y]), first, second)


def store(ring: replay.Ring, rows: PyTree, valid: Array) -> replay.Ring:
    """The replay after the pairs of rows of a rollout, `(T, 2, B, ...)`."""
    rows, valid = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (rows, valid))
    return replay.write(ring, rows, valid)


def disk_for(config: R2IConfig, row: Row) -> replay.Disk | None:
    """The files of a replay that is to lie on disk; None where it lies on the device.

    row: shapes and dtypes of one row of one environment. A step writes two rows at most.
    """
    if config.replay_place == "device":
        return None
    return replay.Disk(row, config.capacity, config.num_envs, per_update=2 * config.rollout)
