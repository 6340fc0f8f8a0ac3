"""In-context RL: recurrent PPO on a resettable memory (Lu et al. 2023; PPO: Schulman et al. 2017).

Actors run for a fixed number of steps, so rollouts begin and end anywhere in an episode. The
memory's carry at the beginning is stored with the rollout; in the update the network reads the
whole rollout again from that carry, forgetting wherever a new episode starts, and gradients
flow over all of it. Minibatches are whole environments, never pieces of time.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from gymnax.environments import spaces
from jax.flatten_util import ravel_pytree

from ssmrl.agents.in_context_config import InContextConfig
from ssmrl.agents.protocol import (
    Behaviour,
    Outcome,
    Policy,
    check_same_spaces,
    entropy_weight,
    episode_means,
    episode_numbers,
    progress,
    rollout,
    rollout_keys,
    strongly_typed,
)
from ssmrl.envs.batch import reset_all, wrap
from ssmrl.envs.wrappers import EpisodeStatistics, PreviousStep
from ssmrl.errors import UsageError
from ssmrl.memory import Memory
from ssmrl.nets.actor_critic import ActorCritic
from ssmrl.nets.distributions import within_bounds
from ssmrl.nets.optimizer import adam
from ssmrl.rl import ppo, statistics
from ssmrl.rl.returns import discounted_sums, gae
from ssmrl.rl.statistics import RunningStatistics
from ssmrl.shapes import TB, Array, B, Key, PyTree, Scalar


class Transition(NamedTuple):
    """A rollout, `(T, B, ...)`; index t is the step that leaves observation t."""

    obs: PyTree
    reset: TB
    action: Array
    log_prob: TB
    value: TB
    next_value: TB
    reward: TB
    terminated: TB
    truncated: TB


class Choice(NamedTuple):
    """What the policy did at a step, `(B, ...)`."""

    carry: PyTree  # afterwards
    y: Array  # what the heads read, (B, out_dim)
    action: Array  # not yet within bounds


class Step(NamedTuple):
    """What is kept of a step, `(B, ...)`; of a rollout, `(T, B, ...)`."""

    obs: PyTree
    reset: B
    action: Array
    y: Array
    reward: B
    terminated: B
    truncated: B
    final_value: B  # of the last observation, where the episode was truncated
    episode: dict[str, Array]


class Batch(NamedTuple):
    """What the loss reads: a rollout with its advantages and value targets, `(T, B, ...)`."""

    rollout: Transition
    advantage: TB
    target: TB


class Actors(NamedTuple):
    """The environments, and what the policy carries in each of them."""

    env_state: PyTree
    obs: PyTree
    reset: B  # obs is the first of an episode
    carry: PyTree


class State(NamedTuple):
    """Everything that changes in training."""

    params: nnx.State
    optimizer: PyTree
    actors: Actors
    obs_statistics: RunningStatistics
    return_statistics: RunningStatistics
    running_return: B  # discounted, for the normalisation of rewards
    update: Scalar  # int32, updates done
    key: Key


class InContext:
    """Recurrent PPO as pure functions of one state, for one seed; `jax.vmap` over more.

    Args:
        config: options.
        memory: the memory of the actor-critic.
        env: a gymnax-style environment; the agent sees it through `PreviousStep`.
        env_params: its parameters.

    Raises:
        UsageError: options or spaces that do not fit.
    """

    Config = InContextConfig

    def __init__(self, config: InContextConfig, memory: Memory, env: Any, env_params: Any) -> None:
        self.config = config
        self.memory = memory
        self.env, self.env_params = self.evaluation_env(env, env_params, check=False)
        self.obs_space = self.env.observation_space(env_params)
        self.action_space = self.env.action_space(env_params)
        observation = self.obs_space.spaces["observation"]
        if config.normalize_observation and not isinstance(observation, spaces.Box):
            raise UsageError(
                f"agent.normalize_observation needs a Box observation space; got {observation!r}"
            )
        self.steps_per_update = config.num_envs * config.rollout
        self.graph, params = nnx.split(nnx.eval_shape(lambda: self._network(nnx.Rngs(0))))
        self.optimizer = adam(
            params,
            lambda count: self._learning_rate(count // (config.epochs * config.minibatches)),
            ssm_learning_rate=config.ssm_learning_rate,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
        )

    def evaluation_env(self, env: Any, env_params: Any, check: bool = True) -> tuple[Any, Any]:
        """Another environment, wrapped as the policy expects it.

        Raises:
            UsageError: its spaces differ from those of the training environment.
        """
        told = {"action": self.config.previous_action, "reward": self.config.previous_reward}
        wrapped = wrap(env, lambda one: EpisodeStatistics(PreviousStep(one, **told)))
        if check:
            check_same_spaces(self.env, self.env_params, wrapped, env_params)
        return wrapped, env_params

    # ------------------------------------------------------------------ state and policy

    def init(self, key: Key) -> State:
        """The state before training: fresh parameters, environments reset."""
        key, key_params, key_env = jax.random.split(key, 3)
        size = self.config.num_envs
        params = nnx.state(self._network(nnx.Rngs(params=key_params)))
        obs, env_state = reset_all(self.env, jax.random.split(key_env, size), self.env_params)
        return strongly_typed(
            State(
                params=params,
                optimizer=self.optimizer.init(params),
                actors=self.begin(params, obs, env_state),
                obs_statistics=statistics.start(self._statistics_shape()),
                return_statistics=statistics.start(()),
                running_return=jnp.zeros(size),
                update=jnp.zeros((), jnp.int32),
                key=key,
            )
        )

    def begin(self, params: nnx.State, obs: PyTree, env_state: PyTree) -> Actors:
        """The actors where all environments begin an episode."""
        size = self.config.num_envs
        return Actors(env_state, obs, jnp.ones(size, bool), self.memory.init_carry((size,)))

    def policy(self, state: State) -> Policy:
        """How to act with this state's parameters.

        `act(carry, obs, reset, key, greedy)` takes observations of `self.env` with any batch
        axes `*B`, reset `(*B,)` and returns the next carry, actions within the bounds of the
        action space, and `{"value": (*B,)}`.
        """
        model = nnx.merge(self.graph, state.params)
        prepared = model.memory.prepare()

        def act(
            carry: PyTree, obs: PyTree, reset: B, key: Key, greedy: bool = False
        ) -> tuple[PyTree, Array, dict[str, Array]]:
            obs = self._normalised(obs, state.obs_statistics)
            carry, pi, value = model.step(carry, obs, reset, prepared)
            action = pi.mode() if greedy else pi.sample(seed=key)
            return carry, within_bounds(self.action_space, action), {"value": value}

        return Policy(self.memory.init_carry, act)

    # ------------------------------------------------------------------ training

    def train_step(self, state: State) -> tuple[State, dict[str, Scalar]]:
        """One rollout of all environments and the update from it; pure, to be jitted whole.

        Metrics are float32 scalars: `return` and `length` are means over the episodes that
        ended in this rollout (NaN if none did), `episodes` their number, losses and the rest
        means over the update.
        """
        key, keys = rollout_keys(self.config, state.key)
        return self.learn(state._replace(key=key), *rollout(self, state, keys))

    def behaviour(self, state: State) -> Behaviour:
        """How a rollout acts; it leaves to the update what the heads say of all its steps."""
        model = nnx.merge(self.graph, state.params)
        prepared = model.memory.prepare()

        def decide(actors: Actors, key: Key) -> tuple[Choice, Array]:
            obs = self._normalised(actors.obs, state.obs_statistics)
            carry, y = model.remember(actors.carry, obs, actors.reset, prepared)
            action = model.policy(y).sample(seed=key)
            return Choice(carry, y, action), within_bounds(self.action_space, action)

        def record(actors: Actors, choice: Choice, outcome: Outcome) -> tuple[Actors, Step]:
            final_obs = self._normalised(outcome.info["final_observation"], state.obs_statistics)
            going_on = jnp.zeros_like(actors.reset)
            final_value = jax.lax.cond(
                jnp.any(outcome.truncated),
                lambda: model.step(choice.carry, final_obs, going_on, prepared)[2],
                lambda: jnp.zeros(going_on.shape),
            )
            step = Step(
                obs=actors.obs,
                reset=actors.reset,
                action=choice.action,
                y=choice.y,
                reward=jnp.asarray(outcome.reward, jnp.float32),
                terminated=outcome.terminated,
                truncated=outcome.truncated,
                final_value=final_value,
                episode=episode_numbers(outcome.info),
            )
            ended = outcome.terminated | outcome.truncated
            return Actors(outcome.env_state, outcome.obs, ended, choice.carry), step

        return Behaviour(decide, record)

    def learn(self, state: State, actors: Actors, records: Step) -> tuple[State, dict[str, Scalar]]:
        """The update from a rollout that began at `state.actors` and ended at `actors`.

        Metrics as `train_step`.
        """
        key, key_learn = jax.random.split(state.key)
        state, batch = self._estimate(state, self._transitions(state, actors, records))
        params, optimizer, losses = self._learn(state, batch, key_learn)
        state = strongly_typed(
            state._replace(
                params=params, optimizer=optimizer, actors=actors, update=state.update + 1, key=key
            )
        )
        return state, {
            **episode_means(records.episode),
            **losses,
            "learning_rate": jnp.asarray(self._learning_rate(state.update - 1), jnp.float32),
        }

    def _transitions(self, state: State, actors: Actors, steps: Step) -> Transition:
        """A rollout with what acting did not need: the heads read all of its steps at once."""
        model = nnx.merge(self.graph, state.params)
        value, log_prob = model.value(steps.y), model.policy(steps.y).log_prob(steps.action)
        # Where an episode goes on, the value of the next observation is known from the next step;
        # after the last one it is read from `actors` (and not used where the episode ended).
        obs = self._normalised(actors.obs, state.obs_statistics)
        last = model.step(actors.carry, obs, jnp.zeros_like(actors.reset))[2]
        following = jnp.concatenate([value[1:], last[None]])
        return Transition(
            obs=steps.obs,
            reset=steps.reset,
            action=steps.action,
            log_prob=log_prob,
            value=value,
            next_value=jnp.where(steps.truncated, steps.final_value, following),
            reward=steps.reward,
            terminated=steps.terminated,
            truncated=steps.truncated,
        )

    def _estimate(self, state: State, rollout: Transition) -> tuple[State, Batch]:
        """Advantages and value targets; running statistics brought up to date."""
        c = self.config
        reward = rollout.reward
        if c.normalize_reward:
            sums = discounted_sums(reward, rollout.reset, state.running_return, c.gamma)
            returns = statistics.update(state.return_statistics, sums)
            state = state._replace(running_return=sums[-1], return_statistics=returns)
            reward = statistics.rescale(returns, reward)
        if c.normalize_observation:
            seen = statistics.update(state.obs_statistics, rollout.obs["observation"])
            rollout = rollout._replace(obs=self._normalised(rollout.obs, state.obs_statistics))
            state = state._replace(obs_statistics=seen)
        advantage, target = gae(
            reward,
            rollout.value,
            rollout.next_value,
            rollout.terminated,
            rollout.truncated,
            c.gamma,
            c.gae_lambda,
        )
        return state, Batch(rollout, advantage, target)

    def _learn(
        self, state: State, batch: Batch, key: Key
    ) -> tuple[nnx.State, PyTree, dict[str, Scalar]]:
        """Several epochs of minibatches, each some of the environments over all of time."""
        c = self.config
        entropy_coef = entropy_weight(self.config, state.update)

        def minibatch(
            learner: tuple[nnx.State, PyTree], columns: Array
        ) -> tuple[tuple[nnx.State, PyTree], dict[str, Scalar]]:
            params, optimizer = learner
            part = jax.tree.map(lambda x: _at(x, (slice(None), columns)), batch)
            carry = jax.tree.map(lambda x: _at(x, columns), state.actors.carry)
            grads, metrics = jax.grad(self.loss, has_aux=True)(params, part, carry, entropy_coef)
            metrics["grad_norm"] = jnp.linalg.norm(ravel_pytree(grads)[0])
            updates, optimizer = self.optimizer.update(grads, optimizer, params)
            return (optax.apply_updates(params, updates), optimizer), metrics

        # Sorting random words permutes uniformly but for ties, one in 2**32 for each pair.
        orders = jnp.argsort(jax.random.bits(key, (c.epochs, c.num_envs)), axis=1)
        columns = orders.reshape(c.epochs * c.minibatches, -1)
        learner, metrics = jax.lax.scan(minibatch, (state.params, state.optimizer), columns)
        return *learner, jax.tree.map(jnp.mean, metrics)

    def loss(
        self, params: nnx.State, batch: Batch, carry: PyTree, entropy_coef: Array | float
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """The PPO loss of environments `(T, B, ...)`, read again from the stored `carry`."""
        c, rollout = self.config, batch.rollout
        model = nnx.merge(self.graph, params)
        _, pi, value = model(carry, rollout.obs, rollout.reset)
        log_prob, entropy = pi.log_prob(rollout.action), jnp.mean(pi.entropy())
        policy = ppo.policy_loss(log_prob, rollout.log_prob, batch.advantage, c.clip)
        values = ppo.value_loss(value, rollout.value, batch.target, c.value_clip)
        loss = policy + c.value_coef * values - entropy_coef * entropy
        return loss, {
            "loss": loss,
            "policy_loss": policy,
            "value_loss": values,
            "entropy": entropy,
            "kl": ppo.approximate_kl(log_prob, rollout.log_prob),
            "clip_fraction": ppo.clip_fraction(log_prob, rollout.log_prob, c.clip),
        }

    # ------------------------------------------------------------------ parts

    def _network(self, rngs: nnx.Rngs) -> ActorCritic:
        c = self.config
        return ActorCritic(
            self.obs_space,
            self.action_space,
            self.memory,
            encoder=c.encoder,
            head=c.head,
            state_std=c.state_std,
            image_depth=c.image_depth,
            rngs=rngs,
        )

    def _learning_rate(self, update: Array) -> Array | float:
        rate = self.config.learning_rate
        return rate * (1 - progress(self.config, update)) if self.config.anneal else rate

    def _statistics_shape(self) -> tuple[int, ...]:
        box = self.config.normalize_observation
        return tuple(self.obs_space.spaces["observation"].shape) if box else ()

    def _normalised(self, obs: PyTree, seen: RunningStatistics) -> PyTree:
        if not self.config.normalize_observation:
            return obs
        plain = jnp.asarray(obs["observation"], jnp.float32)
        return {**obs, "observation": statistics.normalise(seen, plain)}


def _at(x: Array, index: Any) -> Array:
    """`x[index]` for an index known to be in bounds, which spares the checks."""
    return x.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)
