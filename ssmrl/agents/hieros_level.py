"""One level of Hieros: a world model, an actor, its critics and its subgoal autoencoder.

A level is an agent like R2I. What it observes and does are windows of latents and subgoals
above level 0, which makes no difference to it. Choices that differ from the authors' code, its
defects apart: the z of a window are integers, read as one-hots and predicted by cross entropy;
a subgoal is stored as its code, and what it stands for is what the autoencoder says now; the
policy does not read predicted reward, end and entropy besides its features; the critics of a
level share one optimiser, and layers of the autoencoder are SiLU.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ssmrl import replay
from ssmrl.agents.hieros_behaviour import (
    Critics,
    Networks,
    Start,
    behaviour_loss,
    heads,
)
from ssmrl.agents.hieros_config import HierosConfig
from ssmrl.agents.hieros_state import Learner, LevelCarry, Params, Row, Source
from ssmrl.agents.hieros_subgoal import Autoencoder, code_space, subgoal_reward
from ssmrl.agents.protocol import strongly_typed
from ssmrl.agents.r2i_actor import Actor, no_action, scaled_space
from ssmrl.agents.r2i_imagination import merged, some_rows
from ssmrl.agents.r2i_optimizer import (
    actor_rule,
    adam,
    critic_rule,
    descend,
    learn_model,
    model_rule,
    updates_where,
)
from ssmrl.envs.contract import Box, Dict, MultiDiscrete, Space, flatten
from ssmrl.memory import Memory
from ssmrl.memory.spec import where_reset
from ssmrl.nets.distributions import Distribution
from ssmrl.rl.imagined import Percentiles
from ssmrl.shapes import Array, B, Key, PyTree, Scalar
from ssmrl.world_model import Batch, Latent, WorldModel, features


class Level:
    """See the top of the file.

    Args:
        config: as `HierosConfig.at` gives it for this level.
        memory: the sequence model of its world model.
        obs_space: of what it observes.
        action_space: of what it does.
        has_goal: whether there is a level above.
        windows: whether it keeps its last latents for that one.

    Raises:
        UsageError: a space that it cannot read or act in.
    """

    def __init__(
        self,
        config: HierosConfig,
        memory: Memory,
        obs_space: Space,
        action_space: Space,
        has_goal: bool,
        windows: bool = True,
    ) -> None:
        c = config
        self.config, self.memory, self.has_goal = config, memory, has_goal
        self.obs_space, self.action_space = obs_space, action_space
        self.pathwise = isinstance(action_space, Box)
        self.code_space = code_space(c)
        small = jnp.uint8 if c.classes <= 256 else jnp.int32
        window = {
            "stoch": MultiDiscrete((c.classes,) * (c.every * c.groups), small),
            "deter": Box(-jnp.inf, jnp.inf, (c.every * c.deter,)),
        }
        self.window_space = Dict(window if windows else {})
        self.graphs, params = _split(nnx.eval_shape(lambda: self._networks(nnx.Rngs(0))))
        self.optimizers = self._optimizers(params)

    # ------------------------------------------------------------------ state and policy

    def init(self, key: Key) -> Learner:
        """Fresh parameters."""
        _, params = _split(self._networks(nnx.Rngs(params=key)))
        states = (o.init(p) for o, p in zip(self.optimizers, params, strict=True))
        zero = Percentiles(jnp.zeros(()), jnp.zeros(()))
        scales = dict.fromkeys(heads(self.config, self.has_goal), zero)
        return Learner(params, params.critics, Params(*states), scales)

    def initial_carry(self, params: Params, batch_shape: tuple[int, ...]) -> LevelCarry:
        """Before the first step of an episode."""
        model: Any = merged(self.graphs.model, params.model)
        window = {
            name: jnp.zeros((*batch_shape, *space.shape), space.dtype)
            for name, space in self.window_space.spaces.items()
        }
        return LevelCarry(
            model.initial(batch_shape), no_action(self.action_space, batch_shape), window
        )

    def carry_spec(self) -> LevelCarry:
        """Shapes and dtypes of a carry, without batch axes."""

        def carry(key: Key) -> LevelCarry:
            return self.initial_carry(self.init(key).params, ())

        return jax.eval_shape(carry, jax.random.key(0))

    def row_spec(self, obs: PyTree) -> Row:
        """A row, given an observation; both as arrays or their shapes, without batch axes."""
        number: Any
        flag: Any
        number, flag = (jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.float32, bool))
        action, goal = (
            jax.eval_shape(lambda s=s: no_action(s, ()))
            for s in (self.action_space, self.code_space)
        )
        carry = self.carry_spec()[:2] if self.config.start == "stored" else None
        return Row(obs, action, number, flag, flag, goal if self.has_goal else None, carry)

    # ------------------------------------------------------------------ learning

    def learn(
        self,
        learner: Learner,
        source: Source,
        ready: Scalar,
        entropy_coef: Array | float,
        key: Key,
    ) -> tuple[Learner, dict[str, Scalar]]:
        """The gradient steps after a rollout, where `ready`; metrics are their means, else 0."""

        def one(learner: Learner, key: Key) -> tuple[Learner, dict[str, Scalar]]:
            return self.update(learner, source, entropy_coef, key)

        return updates_where(ready, one, self.config.updates, learner, key)

    def ready(self, ring: replay.Ring) -> Scalar:
        """Whether there are enough rows to fill a batch without drawing a sequence twice."""
        return jnp.sum(replay.windows(ring, self.config.length)) >= self.config.batch

    def update(
        self, learner: Learner, source: Source, entropy_coef: Array | float, key: Key
    ) -> tuple[Learner, dict[str, Scalar]]:
        """One gradient step of the world model, then one of all that learns from imagination."""
        params = learner.params
        key_sample, key_model, key_start, key_imagine = jax.random.split(key, 4)
        rows = self._sample(source.ring, key_sample)

        def model_loss(model: nnx.State) -> Any:
            return self._model_loss(model, rows, key_model)

        (model, model_optimizer), latent, metrics = learn_model(
            model_loss, self.optimizers.model, learner.optimizers.model, params.model
        )
        start = self._starts(latent, rows, key_start)

        def loss(trained: tuple[nnx.State, ...]) -> Any:
            tried = Params(model, *trained)
            networks, constant = (self._merged(tried, fixed) for fixed in (False, True))
            slow: Any = merged(self.graphs.critics, learner.slow_critics, constant=True)
            world: Any = merged(self.graphs.model, model, constant=True)
            return behaviour_loss(
                world,
                networks,
                constant,
                slow,
                start,
                learner.scales,
                entropy_coef,
                self.config,
                self.pathwise,
                key_imagine,
            )

        grads, (scales, more) = jax.grad(loss, has_aux=True)(tuple(params[1:]))
        learner = learner._replace(
            params=params._replace(model=model),
            optimizers=learner.optimizers._replace(model=model_optimizer),
        )
        learner = self._descended(learner, grads, scales)
        metrics |= more | self._examined(params, learner.params, latent, rows)
        return learner, metrics | self._entropy_share(metrics["entropy"])

    def _descended(
        self, learner: Learner, grads: tuple[nnx.State, ...], scales: dict[str, Percentiles]
    ) -> Learner:
        """After a step of all that learns from imagination."""
        rates = self.optimizers[1:], grads, learner.optimizers[1:], learner.params[1:]
        each = [descend(*part) for part in zip(*rates, strict=True)]
        new = Params(learner.params.model, *(p for p, _ in each))
        learner = Learner(
            params=new,
            slow_critics=optax.incremental_update(
                new.critics, learner.slow_critics, self.config.slow_rate
            ),
            optimizers=Params(learner.optimizers.model, *(state for _, state in each)),
            scales=scales,
        )
        return strongly_typed(learner)

    def _sample(self, ring: replay.Ring, key: Key) -> Row:
        """A batch of sequences, `(T, B)`."""
        c = self.config
        sampler = replay.sampler(c.sampler, c.sampler_temperature)
        return replay.sample(ring, key, c.batch, c.length, sampler)

    def _model_loss(
        self, params: nnx.State, rows: Row, key: Key
    ) -> tuple[Scalar, tuple[Latent, dict[str, Scalar]]]:
        model: Any = merged(self.graphs.model, params)
        batch = Batch(rows.obs, rows.action, rows.reward, rows.reset, rows.terminal)
        if self.config.start == "stored":
            return model.loss(batch, *jax.tree.map(lambda x: x[0], rows.carry), key)
        batch = batch._replace(reset=batch.reset.at[0].set(True))
        shape = (self.config.batch,)
        return model.loss(batch, model.initial(shape), no_action(self.action_space, shape), key)

    def _starts(self, latent: Latent, rows: Row, key: Key) -> Start:
        """Rows `(T, B)` that imagination starts from, all of them or some, `(N,)`."""
        goal = None if rows.goal is None else self.hot(rows.goal)
        start = Start(latent, 1 - rows.terminal.astype(jnp.float32), goal)
        return some_rows(start, rows.reward.size, self.config.imagined_starts, key)

    def _examined(
        self, params: Params, new: Params, latent: Latent, rows: Row
    ) -> dict[str, Scalar]:
        """`code/drift`: share of the replayed features' codes that this update changed.
        `goal/real`, `goal/shuffled`: subgoal reward one step later, for the subgoals that were
        set and for those of other sequences."""
        before, after = (self._merged(p, True).codes for p in (params, new))
        was, now = before(latent.deter), after(latent.deter)
        found = {"code/drift": jnp.mean((was.code != now.code).astype(jnp.float32))}
        if rows.goal is None:
            return found
        counts = ~(rows.reset[1:])
        goal = before.decode(self.hot(rows.goal))[:-1]
        for name, wanted in (("real", goal), ("shuffled", jnp.roll(goal, 1, axis=1))):
            each = subgoal_reward(wanted, latent.deter[1:])
            found[f"goal/{name}"] = jnp.sum(each * counts) / jnp.maximum(jnp.sum(counts), 1)
        return found

    def _entropy_share(self, entropy: Scalar) -> dict[str, Scalar]:
        """The policy's entropy over that of the uniform one, for actions that are integers."""
        space = self.action_space
        if isinstance(space, Box):
            return {}
        sizes = space.nvec if isinstance(space, MultiDiscrete) else (space.n,)
        return {"entropy_share": entropy / np.float32(np.sum(np.log(sizes)))}

    # ------------------------------------------------------------------ parts

    def hot(self, code: Array) -> Array:
        """Subgoals `(*B, G)` as one-hots `(*B, G, C)`."""
        return jax.nn.one_hot(code, self.config.code_classes, dtype=jnp.float32)

    def _merged(self, params: Params, constant: bool) -> Networks:
        names = Networks._fields
        parts: Any = (merged(getattr(self.graphs, n), getattr(params, n), constant) for n in names)
        return Networks(*parts)

    def _networks(self, rngs: nnx.Rngs) -> tuple[Any, Actor, Critics, Any]:
        c = self.config
        model = WorldModel(
            c, self.obs_space, scaled_space(self.action_space), self.memory, rngs=rngs
        )
        actor, critics = self._policy(model.initial(()), rngs)
        return model, actor, critics, Autoencoder(c, c.deter, rngs=rngs)

    def _policy(self, latent: Latent, rngs: nnx.Rngs) -> tuple[Actor, Critics]:
        """Actor and critics that read latents like this one, without batch axes."""
        c = self.config
        width = features(latent, c.policy_input).shape[-1]
        width += c.code_groups * c.code_classes * self.has_goal
        actor = Actor(
            self.action_space, width, c.actor_layers, c.actor_units, c.actor_unimix, rngs=rngs
        )
        return actor, Critics(list(heads(c, self.has_goal)), width, c, rngs=rngs)

    def _optimizers(self, params: Params) -> Any:
        c = self.config
        return Params(
            model_rule(params.model, c),
            actor_rule(params.actor, c),
            critic_rule(params.critics, c),
            adam(params.codes, c.code_lr, eps=c.code_eps, max_grad_norm=c.actor_clip),
        )


class Player:
    """A level with parameters that stay, prepared for many steps."""

    def __init__(self, level: Level, params: Params) -> None:
        self.level = level
        model: Any = merged(level.graphs.model, params.model)
        self.model, self.prepared = model, model.prepare()
        self.networks = level._merged(params, False)

    def observe(self, carry: LevelCarry, obs: PyTree, reset: B, due: B, key: Key) -> LevelCarry:
        """The carry after an observation `(*B, ...)`, the action still the last one.

        Nothing changes where not `due`. A window begins with copies of an episode's first
        latent.
        """
        latent = self.model.observe_step(*carry[:2], obs, reset, key, self.prepared)
        newest = {"stoch": jnp.argmax(latent.stoch, axis=-1), "deter": latent.deter}

        def push(window: Array, x: Array) -> Array:
            x = x.astype(window.dtype)
            copies = jnp.tile(x, (1,) * (x.ndim - 1) + (self.level.config.every,))
            return where_reset(reset, copies, jnp.concatenate([window[..., x.shape[-1] :], x], -1))

        window = {name: push(carry.window[name], newest[name]) for name in carry.window}
        latent, window = where_reset(due, (latent, window), (carry.latent, carry.window))
        return LevelCarry(latent, carry.action, window)

    def policy(self, latent: Latent, goal: Array | None) -> Distribution:
        """The distribution over actions, given a subgoal `(*B, code_groups)` or none."""
        return self.networks.actor(self._input(latent, goal))

    def value(self, latent: Latent, goal: Array | None) -> B:
        """The critic's extrinsic value, `(*B,)`."""
        return self.networks.critics.heads["extrinsic"](self._input(latent, goal)).mean()

    def _input(self, latent: Latent, goal: Array | None) -> Array:
        x = features(latent, self.level.config.policy_input)
        if goal is None:
            return x
        return jnp.concatenate([x, flatten(self.level.code_space, goal)], axis=-1)


def _split(networks: tuple[Any, ...]) -> tuple[Any, Params]:
    """Graphs and parameters of the networks."""
    graphs, params = zip(*(nnx.split(network) for network in networks), strict=True)
    return Params(*graphs), Params(*params)
