"""MultiarmedBandit: find out which arm pays most often (popgym 1.0.7, multiarmed_bandit.py)."""

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Discrete, EnvParams, EnvState
from ssmrl.envs.game import Game, Step, headline
from ssmrl.envs.popgym.base import right_or_wrong
from ssmrl.errors import UsageError
from ssmrl.shapes import Array, Key, Scalar


@struct.dataclass
class BanditState(EnvState):
    """time: () int32. odds: (arms,) float32, how likely each pays."""

    odds: Array


class MultiarmedBandit(Game):
    """Pull an arm per step; the observation is 1 where it paid. T steps, always truncated.

    Arm i pays with probability p_i, uniform in 0 … 1 in every episode; +1/T if it does, else
    -1/T. Of a uniform policy 0, of the best arm known beforehand arms/(arms+1) * 2 - 1.

    Raises UsageError unless `arms` and `steps` (T) are positive whole numbers.
    """

    def __init__(self, arms: int = 10, steps: int = 200) -> None:
        if not all(isinstance(n, int) and n >= 1 for n in (arms, steps)):
            raise UsageError(f"expected 1 or more arms and steps, got {arms!r} and {steps!r}")
        self.arms, self.episode_steps = arms, steps

    def blank_state(self) -> BanditState:
        """No arm ever pays."""
        return BanditState(jnp.zeros((), jnp.int32), jnp.zeros(self.arms))

    def begin(self, key: Key, before: BanditState) -> tuple[Scalar, BanditState]:
        """Draw the odds anew; the observation is 0."""
        odds = jax.random.uniform(key, (self.arms,))
        return jnp.zeros((), jnp.int32), self.blank_state().replace(odds=odds)

    def step_env(self, key: Key, state: BanditState, action: Scalar, params: EnvParams) -> Step:
        """Pull an arm."""
        paid = jax.random.uniform(key) < state.odds[action]
        reward = right_or_wrong(paid, 1 / self.episode_steps)
        state = state.replace(time=state.time + 1)
        return paid.astype(jnp.int32), state, reward, self.is_terminated(state, params), {}

    def is_terminated(self, state: BanditState, params: EnvParams) -> Scalar:
        """Never."""
        return jnp.zeros((), bool)

    def render(self, state: BanditState, params: EnvParams) -> str:
        """The odds of each arm, as numbers and bars."""
        lines = [
            f"{arm:3d}  {p:.2f} {'#' * round(20 * p)}" for arm, p in enumerate(state.odds.tolist())
        ]
        return "\n".join([headline(state, params), *lines])

    def observation_space(self, params: EnvParams) -> Discrete:
        """Whether the arm paid."""
        return Discrete(2)

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """The arm to pull."""
        return Discrete(self.arms)
