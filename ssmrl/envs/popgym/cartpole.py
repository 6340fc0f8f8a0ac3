"""CartPole of which positions or velocities are seen (popgym 1.0.7, *_only_cartpole.py).

The physics are those of gymnasium's CartPole-v1 (Barto, Sutton and Anderson, 1983).
"""

import math

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Discrete, EnvParams, EnvState
from ssmrl.envs.game import Step, headline
from ssmrl.envs.popgym.control import ControlTask, Pair
from ssmrl.shapes import Key, Scalar

GRAVITY, TIME_STEP, FORCE = 9.8, 0.02, 10.0  # m/s^2, s, N
CART, POLE, HALF_LENGTH = 1.0, 0.1, 0.5  # kg, kg, m
END_OF_TRACK, STEEPEST = 2.4, math.radians(12)  # m, rad


@struct.dataclass
class CartPoleState(EnvState):
    """time: () int32. () float32 each: m, m/s, rad from upright, rad/s."""

    position: Scalar
    velocity: Scalar
    angle: Scalar
    spin: Scalar


class PositionOnlyCartPole(ControlTask):
    """Balance a pole on a cart, seeing where both are; 1/T per step, the last one included.

    T steps at most. Terminated where the cart is more than 2.4 m off or the pole more than 12
    degrees. Actions: push left (0) or right (1). The observation is clipped to twice these
    limits, which only noise reaches. Best return 1.
    """

    bounds = (2 * END_OF_TRACK, 2 * STEEPEST)

    def __init__(self, steps: int = 200, noise: float = 0.0, compat: str | None = None) -> None:
        super().__init__(steps, noise, compat)

    def blank_state(self) -> CartPoleState:
        """At rest, upright."""
        zero = jnp.zeros((), jnp.float32)
        return CartPoleState(jnp.zeros((), jnp.int32), zero, zero, zero, zero)

    def start(self, key: Key) -> CartPoleState:
        """Near rest: each number uniform in -0.05 … 0.05."""
        near = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return CartPoleState(jnp.zeros((), jnp.int32), *near)

    def step_env(self, key: Key, state: CartPoleState, action: Scalar, params: EnvParams) -> Step:
        """One Euler step of 0.02 s; positions move with the old velocities."""
        force = jnp.where(action == 1, jnp.float32(FORCE), jnp.float32(-FORCE))
        cos, sin = jnp.cos(state.angle), jnp.sin(state.angle)
        push = (force + POLE * HALF_LENGTH * state.spin**2 * sin) / (CART + POLE)
        turn = (GRAVITY * sin - cos * push) / (
            HALF_LENGTH * (4 / 3 - POLE * cos**2 / (CART + POLE))
        )
        pull = push - POLE * HALF_LENGTH * turn * cos / (CART + POLE)
        state = CartPoleState(
            time=state.time + 1,
            position=state.position + TIME_STEP * state.velocity,
            velocity=state.velocity + TIME_STEP * pull,
            angle=state.angle + TIME_STEP * state.spin,
            spin=state.spin + TIME_STEP * turn,
        )
        reward = jnp.full((), 1 / self.episode_steps, jnp.float32)
        obs = self.observe(key, self.visible(state))
        return obs, state, reward, self.is_terminated(state, params), {}

    def visible(self, state: CartPoleState) -> Pair:
        """Where the cart and the pole are."""
        return state.position, state.angle

    def failed(self, state: CartPoleState) -> Scalar:
        """Whether the cart left the track or the pole fell."""
        return (abs(state.position) > END_OF_TRACK) | (abs(state.angle) > STEEPEST)

    def render(self, state: CartPoleState, params: EnvParams) -> str:
        """The track from end to end, the cart on it, and which way and how far the pole leans."""
        place = round((float(state.position) / END_OF_TRACK + 1) * 20)
        track = "".join("█" if i == place else "─" for i in range(41))
        degrees = math.degrees(float(state.angle))
        tip = place + round(degrees / 2)
        pole = " " * max(tip, 0) + ("|" if tip == place else "/" if tip > place else "\\")
        numbers = f"{float(state.position):+.2f} m, {degrees:+.1f} degrees"
        return f"{headline(state, params)}, {numbers}\n{pole}\n{track}"

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """0 pushes left, 1 right."""
        return Discrete(2)


class VelocityOnlyCartPole(PositionOnlyCartPole):
    """The same task, seeing the velocities; no bounds.

    The first observation of an episode shows the positions, as the original does (it means to
    show velocities: a slip that we keep so that scores compare).
    """

    bounds = (math.inf, math.inf)

    def visible(self, state: CartPoleState) -> Pair:
        """How fast the cart and the pole move."""
        return state.velocity, state.spin

    def visible_first(self, state: CartPoleState) -> Pair:
        """Where they are."""
        return state.position, state.angle
