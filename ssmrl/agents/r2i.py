"""R2I, recall to imagine: a world model with SSM memory (Samsami et al. 2024).

Three things take turns, all in one jitted step: all environments play `rollout` steps with the
policy, and what they see goes to the replay; the world model learns from sequences of the
replay; actor and critic learn from what it imagines, starting where these sequences have been.

A row of the replay is one observation with what came before it: o[t], r[t] received on the
way there, whether it is the first of an episode, whether the episode terminated there, and
a[t], chosen at o[t]. An episode of n steps makes n + 1 rows: its last observation is one too,
though nobody acts there. So no reward is lost to auto-reset.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from gymnax.environments import spaces

from ssmrl import replay
from ssmrl.agents.protocol import (
    Behaviour,
    Outcome,
    Policy,
    check_same_spaces,
    entropy_weight,
    episode_means,
    episode_numbers,
    rollout,
    rollout_keys,
    strongly_typed,
)
from ssmrl.agents.r2i_actor import (
    Actor,
    Critic,
    check_action_space,
    no_action,
    random_actions,
    scaled_space,
    to_env,
)
from ssmrl.agents.r2i_config import R2IConfig
from ssmrl.agents.r2i_imagination import actor_critic_loss, imagine, merged, some_rows
from ssmrl.agents.r2i_optimizer import (
    actor_rule,
    critic_rule,
    descend,
    learn_model,
    model_rule,
    updates_where,
)
from ssmrl.agents.r2i_state import (
    Actors,
    Carry,
    Learner,
    Params,
    Record,
    Row,
    State,
    disk_for,
    pair,
    perceived,
    store,
)
from ssmrl.envs.batch import reset_all
from ssmrl.memory import Memory
from ssmrl.rl.imagined import Percentiles
from ssmrl.shapes import TB, Array, B, Key, PyTree, Scalar
from ssmrl.world_model import Batch, Latent, WorldModel, features


class R2I:
    """R2I as pure functions of one state, for one seed; `jax.vmap` over more.

    Args:
        config: options.
        memory: the sequence model of the world model.
        env: a gymnax-style environment.
        env_params: its parameters.

    Raises:
        UsageError: options or spaces that do not fit, a replay that the device cannot hold.
    """

    Config = R2IConfig

    def __init__(self, config: R2IConfig, memory: Memory, env: Any, env_params: Any) -> None:
        self.config, self.memory = config, memory
        self.env, self.env_params = perceived(env, config), env_params
        self.obs_space = self.env.observation_space(env_params)
        self.action_space = env.action_space(env_params)
        check_action_space(self.action_space)
        self.pathwise = isinstance(self.action_space, spaces.Box)
        self.steps_per_update = config.num_envs * config.rollout
        networks = nnx.eval_shape(lambda: self._networks(nnx.Rngs(0)))
        self.graphs, params = _split(networks)
        self.optimizers = self._optimizers(params)
        row = self._row_spec()
        self.replay_bytes = replay.nbytes(row, config.capacity, config.num_envs)
        self.disk = disk_for(config, row)
        if not self.disk:
            advice = "lower agent.replay_size or seeds, or set agent.replay_place=disk"
            replay.check_fits(self.replay_bytes, replay.device_memory(), advice)

    @property
    def note(self) -> str:
        """What a user should know before training starts."""
        c = self.config
        return (
            f"replay {replay.readable(self.replay_bytes)} on {c.replay_place} for each seed "
            f"({c.capacity:,} rows of {c.num_envs} environments)"
        )

    def evaluation_env(self, env: Any, env_params: Any) -> tuple[Any, Any]:
        """Another environment, wrapped as the policy expects it.

        Raises:
            UsageError: its spaces differ from those of the training environment.
        """
        wrapped = perceived(env, self.config)
        check_same_spaces(self.env, self.env_params, wrapped, env_params)
        return wrapped, env_params

    # ------------------------------------------------------------------ state and policy

    def init(self, key: Key) -> State:
        """The state before training: fresh parameters, environments reset, an empty replay."""
        c = self.config
        key, key_params, key_env = jax.random.split(key, 3)
        _, params = _split(self._networks(nnx.Rngs(params=key_params)))
        learner = Learner(
            params=params,
            slow_critic=params.critic,
            optimizers=Params(*(o.init(p) for o, p in zip(self.optimizers, params, strict=True))),
            scale=Percentiles(jnp.zeros(()), jnp.zeros(())),
        )
        obs, env_state = reset_all(self.env, jax.random.split(key_env, c.num_envs), self.env_params)
        actors = self.begin(params, obs, env_state)
        ring = replay.empty(self.disk or self._row_spec(), c.capacity, c.num_envs)
        state = State(learner, actors, ring, jnp.zeros((), jnp.int32), key)
        return strongly_typed(state)

    def begin(self, params: Params, obs: PyTree, env_state: PyTree) -> Actors:
        """The actors where all environments begin an episode."""
        size = self.config.num_envs
        return Actors(
            env_state=env_state,
            obs=obs,
            reward=jnp.zeros(size),
            reset=jnp.ones(size, bool),
            carry=self._initial_carry(params.model, (size,)),
        )

    def policy(self, state: State) -> Policy:
        """How to act with this state's parameters.

        `act(carry, obs, reset, key, greedy)` takes observations of the environment with any
        batch axes `*B` and reset `(*B,)`; it returns the next carry, actions within the bounds
        of the action space, and `{"value": (*B,)}`.
        """
        c, params = self.config, state.learner.params
        model: Any = merged(self.graphs.model, params.model)
        actor: Any = merged(self.graphs.actor, params.actor)
        critic: Any = merged(self.graphs.critic, params.critic)
        prepared = model.prepare()

        def act(
            carry: Carry, obs: PyTree, reset: B, key: Key, greedy: bool = False
        ) -> tuple[Carry, Array, dict[str, Array]]:
            key_latent, key_action = jax.random.split(key)
            latent = model.observe_step(*carry, obs, reset, key_latent, prepared)
            x = features(latent, c.policy_input)
            pi = actor(x)
            action = pi.mode() if greedy else pi.sample(seed=key_action)
            value = critic(x).mean()
            return Carry(latent, action), to_env(self.action_space, action), {"value": value}

        def init_carry(batch_shape: tuple[int, ...]) -> Carry:
            return self._initial_carry(params.model, batch_shape)

        return Policy(init_carry, act)

    # ------------------------------------------------------------------ training

    def train_step(self, state: State) -> tuple[State, dict[str, Scalar]]:
        """A rollout of all environments and the updates due; pure, to be jitted whole.

        Until `prefill` steps are done actions are random and nothing is learned. Metrics are
        float32 scalars: `return` and `length` are means over the episodes that ended in this
        rollout (NaN if none did), `episodes` their number, the rest means over the updates,
        0 while there are none.
        """
        key, keys = rollout_keys(self.config, state.key)
        return self.learn(state._replace(key=key), *rollout(self, state, keys))

    def behaviour(self, state: State) -> Behaviour:
        """How a rollout acts; what is kept of it are rows for the replay."""
        c, act, prefilling = self.config, self.policy(state).act, self._prefilling(state)

        def decide(actors: Actors, key: Key) -> tuple[Carry, Array]:
            key_policy, key_random = jax.random.split(key)
            carry, _, _ = act(actors.carry, actors.obs, actors.reset, key_policy)
            anything = random_actions(self.action_space, key_random, actors.reset.shape)
            carry = carry._replace(action=jnp.where(prefilling, anything, carry.action))
            return carry, to_env(self.action_space, carry.action)

        def record(actors: Actors, carry: Carry, outcome: Outcome) -> tuple[Actors, Record]:
            obs, env_state, reward, terminated, truncated, info = outcome
            reward, ended = jnp.asarray(reward, jnp.float32), terminated | truncated
            never, action = jnp.zeros_like(ended), carry.action
            terminal = ended if c.treat_truncation_as_terminal else terminated
            seen = self._row(actors.obs, action, actors.reward, actors.reset, never, actors.carry)
            last = self._row(info["final_observation"], action, reward, never, terminal, carry)
            actors = Actors(env_state, obs, jnp.where(ended, 0.0, reward), ended, carry)
            valid = pair(~never, ended)
            return actors, Record(pair(seen, last), valid, episode_numbers(info))

        return Behaviour(decide, record)

    def learn(
        self, state: State, actors: Actors, records: Record
    ) -> tuple[State, dict[str, Scalar]]:
        """The updates after a rollout that began at `state.actors` and ended at `actors`.

        Metrics as `train_step`.
        """
        key, key_learn = jax.random.split(state.key)
        ring = store(state.replay, records.rows, records.valid)
        entropy_coef = entropy_weight(self.config, state.update)

        def one(learner: Learner, key: Key) -> tuple[Learner, dict[str, Scalar]]:
            return self._update(learner, ring, entropy_coef, key)

        learner, metrics = updates_where(
            ~self._prefilling(state), one, self.config.updates, state.learner, key_learn
        )
        state = State(learner, actors, ring, state.update + 1, key)
        return strongly_typed(state), episode_means(records.episode) | metrics

    def _update(
        self, learner: Learner, ring: replay.Ring, entropy_coef: Array | float, key: Key
    ) -> tuple[Learner, dict[str, Scalar]]:
        """One gradient step of the world model, then one of actor and critic."""
        c, params = self.config, learner.params
        key_sample, key_model, key_start, key_imagine = jax.random.split(key, 4)
        sampler = replay.sampler(c.sampler, c.sampler_temperature)
        rows = replay.sample(ring, key_sample, c.batch, c.window, sampler)

        def model_loss(model: nnx.State) -> Any:
            return self._model_loss(model, rows, key_model)

        (model, model_optimizer), latent, metrics = learn_model(
            model_loss, self.optimizers.model, learner.optimizers.model, params.model
        )
        alive = 1 - rows.terminal[c.burn_in :].astype(jnp.float32)
        start, alive = self._starts(latent, alive, key_start)

        def behaviour_loss(trained: tuple[nnx.State, nnx.State]) -> Any:
            return self._behaviour_loss(
                model, trained, learner, start, alive, entropy_coef, key_imagine
            )

        grads, (scale, more) = jax.grad(behaviour_loss, has_aux=True)((params.actor, params.critic))
        actor, actor_optimizer = descend(
            self.optimizers.actor, grads[0], learner.optimizers.actor, params.actor
        )
        critic, critic_optimizer = descend(
            self.optimizers.critic, grads[1], learner.optimizers.critic, params.critic
        )
        slow = optax.incremental_update(critic, learner.slow_critic, c.slow_rate)
        learner = Learner(
            params=Params(model, actor, critic),
            slow_critic=slow,
            optimizers=Params(model_optimizer, actor_optimizer, critic_optimizer),
            scale=scale,
        )
        return strongly_typed(learner), metrics | more

    def _model_loss(
        self, params: nnx.State, rows: Row, key: Key
    ) -> tuple[Scalar, tuple[Latent, dict[str, Scalar]]]:
        """The world model's loss on sampled rows `(burn_in + length, batch, ...)`."""
        c = self.config
        model: Any = merged(self.graphs.model, params)
        batch = Batch(rows.obs, rows.action, rows.reward, rows.reset, rows.terminal)
        if c.start == "stored":
            carry: Carry = jax.tree.map(lambda x: x[0], rows.carry)
        else:
            carry = self._initial_carry(params, (c.batch,))
            batch = batch._replace(reset=batch.reset.at[0].set(True))
        if c.burn_in:
            key, key_warm = jax.random.split(key)
            warm = jax.tree.map(lambda x: x[: c.burn_in], batch)
            latent = model.observe(*carry, warm.obs, warm.action, warm.reset, key_warm).latent
            carry = Carry(*jax.tree.map(lambda x: x[-1], (latent, warm.action)))
            carry = jax.lax.stop_gradient(carry)
            batch = jax.tree.map(lambda x: x[c.burn_in :], batch)
        return model.loss(batch, *carry, key)

    def _starts(self, latent: Latent, alive: TB, key: Key) -> tuple[Latent, B]:
        """Latents `(T, B)` that imagination starts from, all of them or some, `(N,)`."""
        return some_rows((latent, alive), alive.size, self.config.imagined_starts, key)

    def _behaviour_loss(
        self,
        model_params: nnx.State,
        trained: tuple[nnx.State, nnx.State],
        learner: Learner,
        start: Latent,
        alive: B,
        entropy_coef: Array | float,
        key: Key,
    ) -> tuple[Scalar, tuple[Percentiles, dict[str, Scalar]]]:
        """The loss of actor and critic in what they imagine from `start`."""
        model: Any = merged(self.graphs.model, model_params, constant=True)
        actor: Any = merged(self.graphs.actor, trained[0])
        critics: Any = (
            merged(self.graphs.critic, trained[1]),
            merged(self.graphs.critic, trained[1], constant=True),
            merged(self.graphs.critic, learner.slow_critic, constant=True),
        )
        path = imagine(model, actor, start, self.config, key)
        if not self.pathwise:
            path = jax.lax.stop_gradient(path)
        return actor_critic_loss(
            model,
            actor,
            critics,
            path,
            alive,
            learner.scale,
            entropy_coef,
            self.config,
            self.pathwise,
        )

    # ------------------------------------------------------------------ parts

    def _networks(self, rngs: nnx.Rngs) -> tuple[WorldModel, Actor, Critic]:
        c = self.config
        model = WorldModel(
            c, self.obs_space, scaled_space(self.action_space), self.memory, rngs=rngs
        )
        width = features(model.initial(()), c.policy_input).shape[-1]
        actor = Actor(
            self.action_space, width, c.actor_layers, c.actor_units, c.actor_unimix, rngs=rngs
        )
        critic = Critic(width, c.critic_layers, c.critic_units, c.bins, c.critic_limit, rngs=rngs)
        return model, actor, critic

    def _optimizers(self, params: Params) -> Any:
        rules = zip((model_rule, actor_rule, critic_rule), params, strict=True)
        return Params(*(rule(part, self.config) for rule, part in rules))

    def _initial_carry(self, model_params: nnx.State, batch_shape: tuple[int, ...]) -> Carry:
        model: Any = merged(self.graphs.model, model_params)
        return Carry(model.initial(batch_shape), no_action(self.action_space, batch_shape))

    def _prefilling(self, state: State) -> Scalar:
        return state.update * self.steps_per_update < self.config.prefill

    def _row(
        self, obs: PyTree, action: Array, reward: Array, reset: Array, terminal: Array, carry: Any
    ) -> Row:
        stored = carry if self.config.start == "stored" else None
        return Row(obs, action, reward, reset, terminal, stored)

    def _row_spec(self) -> Row:
        """Shapes and dtypes of one row of one environment."""

        def row(key: Key) -> Row:
            obs, _ = self.env.reset(key, self.env_params)
            _, params = _split(self._networks(nnx.Rngs(params=key)))
            carry = self._initial_carry(params.model, ())
            no = jnp.zeros((), bool)
            return self._row(obs, carry.action, jnp.zeros(()), no, no, carry)

        return jax.eval_shape(row, jax.random.key(0))


def _split(networks: tuple[WorldModel, Actor, Critic]) -> tuple[Any, Params]:
    """Graphs and parameters of the three networks."""
    graphs, params = zip(*(nnx.split(network) for network in networks), strict=True)
    return Params(*graphs), Params(*params)
