"""An agent that "learns" a few numbers, and an environment whose returns are known."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Box, Discrete, Environment, EnvParams


@struct.dataclass
class Episode:
    time: jax.Array
    length: jax.Array


@struct.dataclass
class LengthParams(EnvParams):
    max_steps_in_episode: int = 20
    long: int = 9


class RandomLength(Environment):
    """An episode lasts 1 step or `long` steps, equally likely, and pays `pay` per step, or what
    the action says. The mean return is 5 for `long` = 9 and `pay` = "step"."""

    def __init__(self, pay: str = "step"):
        self.pay = pay

    @property
    def default_params(self):
        return LengthParams()

    def reset_env(self, key, params):
        length = jnp.where(jax.random.bernoulli(key), 1, params.long).astype(jnp.int32)
        return jnp.zeros(1), Episode(jnp.int32(0), length)

    def step_env(self, key, state, action, params):
        state = state.replace(time=state.time + 1)
        reward = jnp.float32(1.0) if self.pay == "step" else action.astype(jnp.float32)
        return jnp.zeros(1), state, reward, state.time >= state.length, {}

    def action_space(self, params=None):
        return Discrete(3)

    def observation_space(self, params):
        return Box(0.0, 1.0, (1,))


class State(NamedTuple):
    params: jax.Array  # (width,)
    key: jax.Array
    update: jax.Array


class Policy(NamedTuple):
    """Takes action 2 at the first step of an episode, later 1 if greedy, else 0."""

    init_carry: Any
    act: Any


class FakeAgent:
    @dataclass(frozen=True)
    class Config:
        total_steps: int = 100
        rate: float = 0.1
        width: int = 3
        diverge_at: int = 0  # update whose loss is NaN
        poison_at: int = 0  # update after which a parameter is NaN and no metric shows it
        episodes: tuple[int, ...] = (4, 3)  # that end in even and in odd updates

    steps_per_update = 10

    def __init__(self, config, memory, env, env_params):
        self.config, self.env, self.env_params = config, env, env_params

    def init(self, key):
        return State(jax.random.normal(key, (self.config.width,)) / 10, key, jnp.int32(0))

    def train_step(self, state):
        key, noise_key = jax.random.split(state.key)
        noise = jax.random.normal(noise_key, state.params.shape)
        params = state.params + self.config.rate * (1 - state.params + 0.1 * noise)
        update = state.update + 1
        params = jnp.where(update == self.config.poison_at, jnp.nan, params)
        loss = jnp.where(update == self.config.diverge_at, jnp.nan, jnp.mean((1 - params) ** 2))
        if self.config.poison_at:
            loss = jnp.nan_to_num(loss)
        episodes = jnp.array(self.config.episodes, jnp.float32)[update % 2]
        metrics = {
            "return": jnp.where(episodes > 0, jnp.mean(state.params), jnp.nan),
            "length": jnp.where(episodes > 0, 5.0, jnp.nan),
            "episodes": episodes,
            "loss": loss,
        }
        return State(params, key, update), metrics

    def policy(self, state):
        def act(carry, obs, reset, key, greedy):
            return carry, jnp.where(reset, 2, int(greedy)), {}

        return Policy(lambda shape: jnp.zeros(shape), act)

    def evaluation_env(self, env, env_params):
        return env, env_params


def install(agents, environments):
    """Enter both into the given registries."""
    agents["fake"] = FakeAgent
    environments["fake/RandomLength"] = RandomLength
