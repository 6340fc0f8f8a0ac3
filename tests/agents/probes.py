"""Environments whose right answer is known: each fails if one thing in the agent is wrong."""

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import (
    Box,
    Dict,
    Discrete,
    Environment,
    EnvParams,
    EnvState,
    MultiDiscrete,
)


@struct.dataclass
class CueState(EnvState):
    cue: jax.Array


class Probe(Environment):
    """Episodes of `length` steps that end by termination, or by a time limit if `cut`."""

    length, cut = 5, False
    actions = Discrete(2)
    observations = Box(-1.0, 1.0, (1,))

    def __init__(self, **options):
        for name, value in options.items():
            setattr(self, name, value)

    @property
    def default_params(self):
        return EnvParams(max_steps_in_episode=self.length if self.cut else 10_000)

    @property
    def num_actions(self):
        return self.actions.n

    def action_space(self, params=None):
        return self.actions

    def observation_space(self, params):
        return self.observations

    def observe(self, state):
        return jnp.zeros(1)

    def pay(self, state, action):
        return jnp.ones(())

    def reset_env(self, key, params):
        cue = jax.random.uniform(key, (), minval=-1.0, maxval=1.0)
        state = CueState(time=jnp.int32(0), cue=cue)
        return self.observe(state), state

    def step_env(self, key, state, action, params):
        reward = self.pay(state, action)
        state = state.replace(time=state.time + 1)
        over = (state.time >= self.length) & (not self.cut)
        return self.observe(state), state, reward, over, {}


class Salary(Probe):
    """Pays 1 at every step. Nothing but time and the end of the episode matters."""


class Recall(Probe):
    """The sign shown at the first step has to be named at the last one."""

    def observe(self, state):
        return jnp.where(state.time == 0, jnp.sign(state.cue), 0.0).reshape(1)

    def pay(self, state, action):
        right = jnp.where(action == (state.cue > 0), 1.0, -1.0)
        return jnp.where(state.time == self.length - 1, right, 0.0)


class Match(Probe):
    """The action, a number, should be the one shown, which is large and off centre."""

    length = 4
    actions = Box(-2.0, 2.0, (1,))
    observations = Box(-jnp.inf, jnp.inf, (1,))

    def observe(self, state):
        return (1000.0 * state.cue + 3000.0).reshape(1)

    def pay(self, state, action):
        return -jnp.square(action[0] - state.cue)


class Caution(Probe):
    """Where 1 is shown any action but 0 costs, where -1 is shown none does."""

    length = 4
    actions = Box(-2.0, 2.0, (1,))

    def observe(self, state):
        return jnp.sign(state.cue).reshape(1)

    def pay(self, state, action):
        return jnp.where(state.cue > 0, -4.0 * jnp.square(action[0]), 0.0)


class Pair(Probe):
    """A dictionary of spaces in, several integers out: each tells its own part."""

    length = 2
    actions = MultiDiscrete((2, 3))
    observations = Dict({"sign": Discrete(2), "third": MultiDiscrete((3, 2))})

    def observe(self, state):
        third = jnp.int32((state.cue + 1) * 1.499)
        return {"sign": jnp.int32(state.cue > 0), "third": jnp.stack([third, jnp.int32(0)])}

    def pay(self, state, action):
        seen = self.observe(state)
        return (action[0] == seen["sign"]) * 0.5 + (action[1] == seen["third"][0]) * 0.5


class Corner(Probe):
    """The corner of a picture that is lit has to be named."""

    length = 2
    actions = Discrete(2)
    observations = Box(0, 255, (8, 8, 1), jnp.uint8)

    def observe(self, state):
        dark = jnp.zeros((8, 8, 1), jnp.uint8)
        first, last = dark.at[:3, :3].set(200), dark.at[-3:, -3:].set(200)
        return jnp.where(state.cue > 0, first, last)

    def pay(self, state, action):
        return jnp.where(action == (state.cue > 0), 0.5, -0.5)
