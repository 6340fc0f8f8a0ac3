"""A small environment whose every number is known in advance, and quick compilation."""

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Box, Discrete, Environment, EnvParams, EnvState


def run_once(function, *args, level=0):
    """`jax.jit(function)(*args)`, compiled fast; level 1 pays for what would run for seconds."""
    options = {"xla_backend_optimization_level": level}
    return jax.jit(function).lower(*args).compile(options)(*args)


@struct.dataclass
class CounterParams(EnvParams):
    max_steps_in_episode: int = 100
    last: int = 3


class Counter(Environment):
    """Shows the time, pays time + 1 (an integer), terminates after `params.last` steps."""

    def __init__(self, actions=None):
        self.actions = actions or Discrete(4)

    @property
    def default_params(self):
        return CounterParams()

    def reset_env(self, key, params):
        return jnp.zeros(1), EnvState(time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        state = EnvState(time=state.time + 1)
        obs = state.time.astype(jnp.float32).reshape(1)
        return obs, state, state.time, state.time >= params.last, {}

    @property
    def num_actions(self):
        return self.actions.n

    def action_space(self, params=None):
        return self.actions

    def observation_space(self, params):
        return Box(0.0, 100.0, (1,))
