"""Control tasks with physics drawn anew for every task."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Environment, EnvParams, Space
from ssmrl.envs.wrappers import Wrapper
from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import Array, Key, PyTree, Scalar

Derive = Callable[[Any], EnvParams]


class RandomPhysics(Wrapper):
    """An environment some of whose parameters are multiplied by a factor of the task.

    The logarithm of each factor is uniform between those of 1 / (1 + spread) and 1 + spread, so
    that half and double are equally likely at `spread` = 1.

    env, params: the environment and the values that are multiplied.
    fields: which of them.
    derive: sets what follows from these, if the environment keeps it as a parameter too.
    Raises UsageError for a field that there is not, for none at all, and a spread that is not
    positive.
    """

    def __init__(
        self,
        env: Environment,
        params: EnvParams,
        fields: Sequence[str],
        spread: float = 0.5,
        derive: Derive | None = None,
    ) -> None:
        super().__init__(env)
        self.params = params
        if not fields:
            raise UsageError(f"fields of the physics of {env.name}: expected one or more, got none")
        for field in fields:
            if not hasattr(params, field):
                raise unknown(f"parameter of {env.name}", field, vars(params))
        self.fields, self.spread, self.derive = tuple(fields), _checked(spread), derive

    @property
    def default_params(self) -> EnvParams:
        """The parameters that it was given."""
        return self.params

    def draw(self, key: Key) -> EnvParams:
        """A task: fresh factors."""
        factors = _factors(key, len(self.fields), self.spread)
        changed = {
            field: getattr(self.params, field) * factor
            for field, factor in zip(self.fields, factors, strict=True)
        }
        params: EnvParams = self.params.replace(**changed)
        return self.derive(params) if self.derive else params


@struct.dataclass
class BraxParams(EnvParams):
    """factors: (3,) float32, of gravity, of masses and inertias, of the actuators' gains."""

    factors: Any = None


class RandomBrax(Environment):
    """A brax environment with gravity, masses and strength of the task, as in `RandomPhysics`.

    brax keeps its physics in the environment, not in parameters: they are put there for the time
    of a step, as brax's own domain randomisation does. Backends generalized, spring, positional.

    env, params: a `brax/...` environment as `ssmrl.envs.make` returns it.
    """

    def __init__(self, env: Any, params: EnvParams, spread: float = 0.5) -> None:
        self.env, self.params, self.spread = env, params, _checked(spread)

    @property
    def default_params(self) -> BraxParams:
        """Physics as they are."""
        return BraxParams(self.params.max_steps_in_episode, jnp.ones(3))

    @property
    def name(self) -> str:
        """The environment's."""
        return str(self.env.name)

    def draw(self, key: Key) -> BraxParams:
        """A task: fresh factors."""
        return BraxParams(self.params.max_steps_in_episode, _factors(key, 3, self.spread))

    def reset_env(self, key: Key, params: BraxParams) -> tuple[PyTree, Any]:
        """The environment's, with the physics of the task."""
        with self._physics(params):
            obs, state = self.env.reset_env(key, params)
        return obs, state

    def step_env(
        self, key: Key, state: Any, action: Array, params: BraxParams
    ) -> tuple[PyTree, Any, Scalar, Scalar, dict[str, Any]]:
        """The environment's, with the physics of the task."""
        with self._physics(params):
            obs, state, reward, terminated, info = self.env.step_env(key, state, action, params)
        return obs, state, reward, terminated, info

    def observation_space(self, params: EnvParams) -> Space:
        """The environment's."""
        return self.env.observation_space(self.params)

    def action_space(self, params: EnvParams | None = None) -> Space:
        """The environment's."""
        return self.env.action_space(self.params)

    @contextmanager
    def _physics(self, params: BraxParams) -> Iterator[None]:
        brax = self.env._env.unwrapped
        usual = brax.sys
        gravity, mass, strength = params.factors
        inertia = usual.link.inertia
        inertia = inertia.replace(mass=inertia.mass * mass, i=inertia.i * mass)
        brax.sys = usual.replace(
            gravity=usual.gravity * gravity,
            link=usual.link.replace(inertia=inertia),
            actuator=usual.actuator.replace(gain=usual.actuator.gain * strength),
        )
        try:
            yield
        finally:
            brax.sys = usual


def random_physics(id: str, fields: Sequence[str] | None = None, spread: float = 0.5) -> Any:
    """The family of the environment of that id with physics drawn for each task.

    fields: which of its parameters; by default those of `FIELDS`. brax's have fields of their own.

    Raises UsageError where `fields` are needed and not given, or given for brax.
    """
    from ssmrl.envs.registry import make  # which knows the families of this package

    env, params = make(id)
    if id.startswith("brax/"):
        if fields is not None:
            raise UsageError(
                f"fields={list(fields)} of {id}: brax's physics are always gravity, masses and "
                "strength; leave fields out"
            )
        return RandomBrax(env, params, spread)
    if fields is None and id not in FIELDS:
        raise UsageError(f"which parameters of {id} are its physics? fields=[...] of {params}")
    derive = _cart_pole_masses if id == "gymnax/CartPole-v1" else None
    return RandomPhysics(env, params, FIELDS[id] if fields is None else fields, spread, derive)


def _checked(spread: float) -> float:
    if not 0 < spread < inf:
        raise UsageError(f"spread of the physics: expected a positive number, got {spread}")
    return float(spread)


def _factors(key: Key, count: int, spread: float) -> Array:
    """(count,) log-uniform between 1 / (1 + spread) and 1 + spread."""
    far = jnp.log1p(spread)
    return jnp.exp(jax.random.uniform(key, (count,), minval=-far, maxval=far))


def _cart_pole_masses(params: Any) -> EnvParams:
    """gymnax's CartPole keeps the total mass, and that of the pole times its half length."""
    changed: EnvParams = params.replace(
        total_mass=params.masscart + params.masspole,
        polemass_length=params.masspole * params.length,
    )
    return changed


FIELDS: dict[str, tuple[str, ...]] = {
    "gymnax/CartPole-v1": ("gravity", "masscart", "masspole", "length", "force_mag"),
    "gymnax/Pendulum-v1": ("g", "m", "l"),
    "gymnax/Acrobot-v1": ("link_length_1", "link_mass_1", "link_mass_2", "link_com_pos_1"),
    "gymnax/MountainCar-v0": ("force", "gravity"),
    "gymnax/MountainCarContinuous-v0": ("power", "gravity"),
}
"""What is drawn in classic control."""
