"""Pendulum of which the position is seen (popgym 1.0.7, position_only_pendulum.py).

The physics are those of gymnasium's Pendulum-v1.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssmrl.envs.contract import Box, EnvParams, EnvState
from ssmrl.envs.game import Step, headline
from ssmrl.envs.popgym.base import POPJAXRL
from ssmrl.envs.popgym.control import ControlTask, Pair
from ssmrl.shapes import Array, Key, Scalar

GRAVITY, TIME_STEP = 10.0, 0.05  # m/s^2, s; the rod has 1 m and 1 kg
FASTEST, STRONGEST = 8.0, 2.0  # rad/s, Nm
HALF_COST = 16.2736044 / 2  # of one step at worst


@struct.dataclass
class PendulumState(EnvState):
    """time: () int32. () float32 each: rad from upright, not wrapped, and rad/s."""

    angle: Scalar
    speed: Scalar


class PositionOnlyPendulum(ControlTask):
    """Swing a rod up and hold it with a weak motor, seeing cos and sin of its angle.

    T steps, always truncated. A step costs c = angle^2 + 0.1 speed^2 + 0.001 torque^2 before it
    is taken, and pays (1 - c / 8.137) / T: returns lie in -1 … 1. Actions: torque in -2 … 2,
    clipped. Noisy observations are clipped to -1 … 1.

    compat="popjaxrl": besides, noisy observations are not clipped and know no bounds.
    """

    def __init__(self, steps: int = 200, noise: float = 0.0, compat: str | None = None) -> None:
        super().__init__(steps, noise, compat)
        bound = math.inf if compat == POPJAXRL and noise else 1.0
        self.bounds = (bound, bound)

    def blank_state(self) -> PendulumState:
        """At rest, upright."""
        zero = jnp.zeros((), jnp.float32)
        return PendulumState(jnp.zeros((), jnp.int32), zero, zero)

    def start(self, key: Key) -> PendulumState:
        """At any angle, at a speed uniform in -1 … 1."""
        angle, speed = jax.random.uniform(key, (2,), minval=-1.0)
        return PendulumState(jnp.zeros((), jnp.int32), math.pi * angle, speed)

    def visible(self, state: PendulumState) -> Pair:
        """The direction of the rod."""
        return jnp.cos(state.angle), jnp.sin(state.angle)

    def step_env(self, key: Key, state: PendulumState, action: Array, params: EnvParams) -> Step:
        """One step of 0.05 s with the torque `action: (1,)`; the angle moves with the new speed."""
        torque = jnp.clip(action[0], -STRONGEST, STRONGEST)
        lean = jnp.mod(state.angle + math.pi, 2 * math.pi) - math.pi
        cost = lean**2 + 0.1 * state.speed**2 + 0.001 * torque**2
        speed = state.speed + TIME_STEP * (1.5 * GRAVITY * jnp.sin(state.angle) + 3 * torque)
        speed = jnp.clip(speed, -FASTEST, FASTEST)
        angle = state.angle + TIME_STEP * speed
        state = PendulumState(time=state.time + 1, angle=angle, speed=speed)
        obs = self.observe(key, self.visible(state))
        reward = (1 - cost / HALF_COST) / self.episode_steps
        return obs, state, reward, self.is_terminated(state, params), {}

    def render(self, state: PendulumState, params: EnvParams) -> str:
        """The rod in its plane, upright being up; the pivot is o, the free end @."""
        angle, size = float(state.angle), 4
        picture = np.full((2 * size + 1, 4 * size + 1), " ")
        for i in range(size + 1):
            row = size - round(i * math.cos(angle))
            column = 2 * size - round(2 * i * math.sin(angle))
            picture[row, column] = "o" if i == 0 else "@" if i == size else "*"
        numbers = f"{math.degrees(math.remainder(angle, math.tau)):+.0f} degrees"
        lines = ["".join(line).rstrip() for line in picture]
        speed = f"{float(state.speed):+.1f} rad/s"
        return "\n".join([f"{headline(state, params)}, {numbers}, {speed}", *lines])

    def action_space(self, params: EnvParams | None = None) -> Box:
        """The torque in Nm."""
        return Box(-STRONGEST, STRONGEST, (1,), jnp.float32)
