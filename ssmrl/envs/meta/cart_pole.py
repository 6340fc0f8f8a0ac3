"""The cart and pole of MetaCartPole (Lu et al. 2023, section 5.2), paid in either of two ways."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ssmrl.envs.contract import EnvParams
from ssmrl.envs.meta.trial import FixedTask
from ssmrl.envs.popgym import PositionOnlyCartPole
from ssmrl.envs.wrappers import StepResult
from ssmrl.errors import unknown
from ssmrl.shapes import Array, Key, Scalar

PAY = ("steps", "falls")


class MetaCartPole(FixedTask):
    """Positions of cart and pole; `steps` at most in an episode.

    pay: "steps" is 1 / steps at every one, as published. "falls" is 0 until the pole falls, then
    what `fallen` says. The returns of an episode differ by 1 and nothing else, but a fall is felt
    when it happens: paid by steps, all that it costs is that one of the episodes of the trial is
    over, which is felt at the end of the trial.
    Raises UsageError for another `pay`.
    """

    def __init__(self, steps: int = 200, pay: str = "steps") -> None:
        env = PositionOnlyCartPole(steps)
        super().__init__(env, env.default_params)
        if pay not in PAY:
            raise unknown("way to pay", pay, PAY)
        self.steps, self.pay = steps, pay

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: Any, action: Array, params: EnvParams | None = None
    ) -> StepResult:
        """The game's step."""
        obs, after, reward, terminated, truncated, info = self.env.step(key, state, action, params)
        if self.pay == "falls":
            reward = fallen(terminated, state.time, self.steps)
        return obs, after, reward, terminated, truncated, info


def fallen(terminated: Scalar, time: Scalar, steps: int) -> Scalar:
    """Minus the share of `steps` lost by an end; () float32.

    terminated: () bool. time: () int32, steps of the episode before the present one.
    """
    lost = 1 - (jnp.asarray(time, jnp.float32) + 1) / steps
    return jnp.where(terminated, -lost, 0.0)
