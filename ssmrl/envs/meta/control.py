"""Control tasks of different kinds that look alike (Lu et al. 2023, section 5.3).

The published experiment has eleven tasks of the DeepMind Control Suite, behind random matrices
to 12 observed numbers and from 2 actions. These are small enough for a CPU;
the splits with brax in their names need brax.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.envs.contract import Box, EnvParams, flatten
from ssmrl.envs.meta.cart_pole import fallen
from ssmrl.envs.meta.projection import Projected
from ssmrl.envs.meta.trial import FixedTask
from ssmrl.envs.wrappers import StepResult, Wrapper
from ssmrl.errors import unknown
from ssmrl.shapes import Array, Key, PyTree

ONCE = 10.0
"""What is paid once in an episode, in units of the most that a step pays: enough to be sought, and
little enough not to drown the rest."""


class Member(NamedTuple):
    """A control task, and what brings its numbers to a common scale.

    Attributes:
        id: of the environment.
        spread: typical size of each observed number under random actions.
        reward: (shift, scale): `(r + shift) * scale` is about 0 … 1 at every step; what is paid
            once in an episode, for reaching a goal, is `ONCE`. None where all that counts is not
            to fall: then the return is -`ONCE` … 0, see `fallen`.
        steps: of an episode, at most.
    """

    id: str
    spread: tuple[float, ...]
    reward: tuple[float, float] | None
    steps: int


MEMBERS = {
    "Pendulum": Member("gymnax/Pendulum-v1", (0.7, 0.7, 3.5), (16.2736, 1 / 16.2736), 200),
    "PointRobot": Member(
        "gymnax/PointRobot-misc", (0.6, 0.6, 0.3, 0.06, 0.06, 0.6), (0.0, 1.0), 100
    ),
    "Reacher": Member(
        "gymnax/Reacher-misc", (0.7, 0.7, 0.7, 0.7, 0.6, 0.6, 1.2, 1.2), (0.0, 1.0), 100
    ),
    "Acrobot": Member("gymnax/Acrobot-v1", (0.5, 0.5, 0.5, 0.5, 1.0, 2.0), (1.0, ONCE), 200),
    "CartPole": Member("gymnax/CartPole-v1", (0.5, 0.5, 0.1, 0.8), None, 200),
    "MountainCar": Member("gymnax/MountainCarContinuous-v0", (0.3, 0.02), (0.0, ONCE / 100), 200),
    "brax_reacher": Member(
        "brax/reacher",
        (0.7, 0.7, 0.7, 0.7, 0.1, 0.1, 1.0, 1.5, 0.15, 0.15, 0.15),
        (1.0, 1.0),
        100,
    ),
    "brax_inverted_pendulum": Member("brax/inverted_pendulum", (0.3, 0.1, 0.6, 1.4), None, 200),
    "brax_double_pendulum": Member(
        "brax/inverted_double_pendulum",
        (0.3, 0.3, 0.4, 1.0, 1.0, 1.2, 2.7, 3.6),
        None,
        200,
    ),
}
"""Spreads: deviations under random actions, rounded, larger where a skilled policy goes further."""

SPLITS = {
    "train": ("Pendulum", "PointRobot", "Reacher", "Acrobot"),
    "held_out": ("CartPole", "MountainCar"),
    "brax_train": ("brax_reacher", "brax_inverted_pendulum", "Pendulum", "Reacher"),
    "brax_held_out": ("brax_double_pendulum", "MountainCar", "PointRobot"),
}


class Scaled(Wrapper):
    """The family of a `Member`: its observations divided by `spread`, its rewards scaled."""

    env: Any

    def __init__(self, env: Any, member: Member) -> None:
        super().__init__(env)
        self.member, self.spread = member, np.asarray(member.spread, np.float32)

    def draw(self, key: Key) -> PyTree:
        """A task of the family."""
        return self.env.draw(key)

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: EnvParams | None = None) -> tuple[Array, Any]:
        """The family's, scaled."""
        obs, state = self.env.reset(key, params)
        return self._seen(obs), state

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: Any, action: Array, params: EnvParams | None = None
    ) -> StepResult:
        """The family's, scaled."""
        obs, after, reward, terminated, truncated, info = self.env.step(key, state, action, params)
        info = {**info, "final_observation": self._seen(info["final_observation"])}
        if self.member.reward is None:
            reward = ONCE * fallen(terminated, state.time, self.member.steps)
        else:
            shift, scale = self.member.reward
            reward = (jnp.asarray(reward, jnp.float32) + shift) * scale
        return self._seen(obs), after, reward, terminated, truncated, info

    def observation_space(self, params: EnvParams) -> Box:
        """Numbers."""
        return Box(-jnp.inf, jnp.inf, self.spread.shape)

    def _seen(self, obs: PyTree) -> Array:
        space = self.env.observation_space(self.env.default_params)
        return flatten(space, obs) / self.spread


def control(
    split: str = "train", only: str | None = None, features: int = 12, actions: int = 2
) -> list[Projected]:
    """The families of a split, or the one of that name, behind random projections.

    Raises UsageError for an unknown split or name.
    """
    from ssmrl.envs.registry import make  # which knows the families of this package

    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if only is not None and only not in MEMBERS:
        raise unknown("control task", only, MEMBERS)
    families = []
    for name in SPLITS[split] if only is None else (only,):
        member = MEMBERS[name]
        env, params = make(member.id, max_steps_in_episode=member.steps)
        scaled = Scaled(FixedTask(env, params), member)
        families.append(Projected(scaled, features, actions))
    return families
