"""Hieros with one world model: a manager that learns in the model of the level it manages.

The control arm for a model at every level, after Director (Hafner et al. 2022, section 2). The
manager sees level 0's latent every k environment steps and chooses a code, the subgoal of level 0
until the next choice. It learns in level 0's model: from rows of level 0's replay, level 0 plays
there and pursues a subgoal that the manager sets anew every k steps. One step of the manager earns
the rewards of these k steps, as far as the episode goes on, and goes on if each of them does. So
the manager has an actor and critics only; novelty is what level 0's autoencoder finds new.

Different from Director: level 0 learns with the extrinsic reward and with subgoals held throughout
its own imagination, as without this option, so that the arms differ in the manager alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ssmrl.agents.hieros_behaviour import (
    Networks,
    Start,
    Trial,
    actor_critic_loss,
    pursue,
    rewards,
)
from ssmrl.agents.hieros_config import HierosConfig
from ssmrl.agents.hieros_level import Level
from ssmrl.agents.hieros_state import Learner, Params, Source
from ssmrl.agents.r2i_actor import Actor
from ssmrl.agents.r2i_imagination import goes_on, merged
from ssmrl.agents.r2i_optimizer import actor_rule, critic_rule
from ssmrl.envs.contract import Dict
from ssmrl.rl.imagined import Percentiles
from ssmrl.shapes import TB, Array, B, Key, Scalar
from ssmrl.world_model import Latent, WorldModel, features


class Borrowed(nnx.Module):
    """In place of a world model: what is observed is a latent, and is taken as it is.

    Args:
        initial: latents `(*B, ...)` before the first observation, for a batch shape.
    """

    def __init__(self, initial: Callable[[tuple[int, ...]], Latent]) -> None:
        self.initial = initial

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def observe_step(self, latent: Latent, action: Array, obs: Latent, *_: Any) -> Latent:
        """As that of `WorldModel`."""
        return obs


class Step(NamedTuple):
    """One step of the manager in imagination; fields as in `Trial`, `(N, ...)`."""

    input: Array
    action: Array
    reward: dict[str, B]
    going: B


class Manager(Level):
    """See the top of the file; a level without a model, an autoencoder or a replay of its own.

    Args:
        config: as `HierosConfig.at` gives it for this level.
        worker: level 0.
    """

    def __init__(self, config: HierosConfig, worker: Level) -> None:
        self.worker = worker
        super().__init__(
            config, worker.memory, Dict({}), worker.code_space, has_goal=False, windows=False
        )

    def update(
        self, learner: Learner, source: Source, entropy_coef: Array | float, key: Key
    ) -> tuple[Learner, dict[str, Scalar]]:
        """One gradient step of actor and critics. source: rows and parameters of level 0."""
        key_sample, key_model, key_start, key_imagine = jax.random.split(key, 4)
        rows = self.worker._sample(source.ring, key_sample)
        _, (latent, _) = self.worker._model_loss(source.lowest.model, rows, key_model)
        start = self.worker._starts(latent, rows, key_start)

        def loss(trained: tuple[nnx.State, ...]) -> Any:
            return self.loss(trained, learner, source.lowest, start, entropy_coef, key_imagine)

        grads, (scales, metrics) = jax.grad(loss, has_aux=True)(tuple(learner.params[1:]))
        learner = self._descended(learner, grads, scales)
        return learner, metrics | self._entropy_share(metrics["entropy"])

    def loss(
        self,
        trained: tuple[nnx.State, ...],
        learner: Learner,
        lowest: Params,
        start: Start,
        entropy_coef: Array | float,
        key: Key,
    ) -> tuple[Scalar, tuple[dict[str, Percentiles], dict[str, Scalar]]]:
        """As `actor_critic_loss`.

        Args:
            trained: parameters of actor, critics and (none) of the autoencoder.
            learner: what else there is of the manager.
            lowest: parameters of level 0, which get no gradient.
            start: where imagination starts; its subgoal is not read.
            entropy_coef: weight of the entropy.
            key: of the imagination.
        """
        tried = Params(learner.params.model, *trained)
        networks, constant = (self._merged(tried, fixed) for fixed in (False, True))
        slow: Any = merged(self.graphs.critics, learner.slow_critics, constant=True)
        model: Any = merged(self.worker.graphs.model, lowest.model, constant=True)
        worker = self.worker._merged(lowest, True)
        trial = manage(model, worker, constant.actor, start, self.config, key)
        critics = networks.critics, constant.critics, slow
        return actor_critic_loss(
            trial, networks.actor, critics, learner.scales, entropy_coef, self.config, False
        )

    def _networks(self, rngs: nnx.Rngs) -> tuple[Any, ...]:
        shapes = self.worker.carry_spec().latent

        def initial(batch: tuple[int, ...]) -> Any:
            return jax.tree.map(lambda x: jnp.zeros((*batch, *x.shape), x.dtype), shapes)

        return Borrowed(initial), *self._policy(initial(()), rngs), nnx.Module()

    def _optimizers(self, params: Params) -> Any:
        c, nothing = self.config, optax.identity()
        return Params(
            nothing,
            actor_rule(params.actor, c),
            critic_rule(params.critics, c),
            nothing,
        )


def manage(
    model: WorldModel,
    worker: Networks,
    manager: Actor,
    start: Start,
    config: HierosConfig,
    key: Key,
) -> Trial:
    """`config.horizon` steps of the manager, `config.every` steps of level 0 each, imagined.

    Args:
        model: level 0's.
        worker: actor and autoencoder of level 0.
        manager: chooses codes.
        start: its latents are level 0's, `(N, ...)`.
        config: the manager's.
        key: of the samples.
    """
    prepared = model.prepare()

    def read(latent: Latent) -> Array:
        return features(latent, config.policy_input)

    def choose(latent: Latent, key: Key) -> tuple[Latent, Step]:
        keys = jax.random.split(key, 1 + config.every)
        code = manager(read(latent)).sample(seed=keys[0])
        goal = jax.nn.one_hot(code, config.code_classes, dtype=jnp.float32)

        def step(latent: Latent, key: Key) -> tuple[Latent, Latent]:
            key_act, key_next = jax.random.split(key)
            action = pursue(worker.actor, goal)(read(latent)).sample(seed=key_act)
            latent = model.imagine_step(latent, action, key_next, prepared)
            return latent, latent._replace(hidden=())

        last, arrived = jax.lax.scan(step, latent, keys[1:])
        going = goes_on(model, arrived, config)
        paid = rewards(model, worker.codes, arrived, None)
        earned = {name: config.reward_share * lived(r, going) for name, r in paid.items()}
        return last, Step(read(latent), code, earned, jnp.prod(going, axis=0))

    last, steps = jax.lax.scan(choose, start.latent, jax.random.split(key, config.horizon))
    inputs = jnp.concatenate([steps.input, read(last)[None]])
    return jax.lax.stop_gradient(Trial(inputs, *steps[1:], alive=start.alive, goal=None))


def lived(reward: TB, going: TB) -> B:
    """The sum of rewards `(k, N)` on arriving in k states, `(N,)`: each counts by the chance that
    the episode had not ended before. going: that it goes on in these states, `(k, N)`."""
    before = jnp.concatenate([jnp.ones_like(going[:1]), going[:-1]])
    return jnp.sum(jnp.cumprod(before, axis=0) * reward, axis=0)
