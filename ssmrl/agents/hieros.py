"""Hieros: a hierarchy of agents that imagine, each at its own pace (Mattes et al. 2023).

Level 0 sees the environment and acts in it. Level i > 0 sees the last k latents of the level
below and acts every k^i steps: its action is a subgoal for that level, a code that the lower
level's own autoencoder understands. Every level has a world model, an actor and a replay of its
own, and learns in imagination in its own steps, as R2I does. (`shared_model` has the upper of
two levels learn in the model of the lower one instead: see `ssmrl.agents.hieros_shared`.)

Clocks belong to the environments: at the first step of an episode all levels act, and at its
last observation all levels look, so that each of them knows where episodes end and what was
paid there: as in R2I, that observation is a row too, though no action follows. (The clock of the
original is shared by all environments; its higher levels miss most ends, and rewards at ends are
lost.)
"""

from typing import Any

import jax
import jax.numpy as jnp

from ssmrl import replay
from ssmrl.agents.hieros_config import HierosConfig
from ssmrl.agents.hieros_level import Level, Player
from ssmrl.agents.hieros_shared import Manager
from ssmrl.agents.hieros_state import (
    Actors,
    Carry,
    Choice,
    LevelCarry,
    Params,
    Row,
    Source,
    State,
    Thought,
)
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
from ssmrl.agents.r2i_actor import check_action_space, random_actions, to_env
from ssmrl.agents.r2i_state import Record, pair, perceived, store
from ssmrl.envs.batch import reset_all
from ssmrl.memory import Memory
from ssmrl.memory.spec import where_reset
from ssmrl.shapes import Array, B, Key, PyTree, Scalar


class Hieros:
    """Hieros as pure functions of one state, for one seed; `jax.vmap` over more.

    Args:
        config: options.
        memory: the sequence model of every level's world model.
        env: a gymnax-style environment.
        env_params: its parameters.

    Raises:
        UsageError: options or spaces that do not fit, replays that the device cannot hold.
    """

    Config = HierosConfig

    def __init__(self, config: HierosConfig, memory: Memory, env: Any, env_params: Any) -> None:
        self.config, self.memory = config, memory
        self.env, self.env_params = perceived(env, config), env_params
        self.obs_space = self.env.observation_space(env_params)
        self.action_space = env.action_space(env_params)
        check_action_space(self.action_space)
        self.steps_per_update = config.num_envs * config.rollout
        self.modelled: list[Level] = []  # the levels with a world model, and so with a replay
        seen, done, shared = self.obs_space, self.action_space, config.shared_model
        for i in range(1 if shared else config.levels):
            has_goal = i + 1 < config.levels
            level = Level(config.at(i), memory, seen, done, has_goal, windows=not shared)
            self.modelled.append(level)
            seen, done = level.window_space, level.code_space
        managers = [Manager(config.at(1), self.modelled[0])] if shared else []
        self.levels: list[Level] = [*self.modelled, *managers]
        each = zip(self._row_specs(), self.modelled, strict=True)
        self.replay_bytes = sum(
            replay.nbytes(row, level.config.capacity, config.num_envs) for row, level in each
        )
        replay.check_fits(
            self.replay_bytes, replay.device_memory(), "lower agent.replay_size or seeds"
        )

    @property
    def note(self) -> str:
        """What a user should know before training starts."""
        rows = ", ".join(f"{level.config.replay_size:,}" for level in self.modelled)
        return (
            f"replays {replay.readable(self.replay_bytes)} on device for each seed "
            f"({rows} rows of levels 0 to {len(self.modelled) - 1})"
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
        """The state before training: fresh parameters, environments reset, empty replays."""
        c = self.config
        key, key_env, *keys = jax.random.split(key, 2 + c.levels)
        learners = tuple(level.init(k) for level, k in zip(self.levels, keys, strict=True))
        obs, env_state = reset_all(self.env, jax.random.split(key_env, c.num_envs), self.env_params)
        actors = self.begin(tuple(x.params for x in learners), obs, env_state)
        rings = tuple(
            replay.empty(row, level.config.capacity, c.num_envs)
            for row, level in zip(self._row_specs(), self.modelled, strict=True)
        )
        return strongly_typed(State(learners, actors, rings, jnp.zeros((), jnp.int32), key))

    def begin(self, params: tuple[Params, ...], obs: PyTree, env_state: PyTree) -> Actors:
        """The actors where all environments begin an episode."""
        size = self.config.num_envs
        return Actors(
            env_state=env_state,
            obs=obs,
            reset=jnp.ones(size, bool),
            earned=(jnp.zeros(size),) * len(self.modelled),
            carry=self._initial_carry(params, (size,)),
        )

    def policy(self, state: State) -> Policy:
        """How to act with this state's parameters.

        `act(carry, obs, reset, key, greedy)` takes observations of the environment with any
        batch axes `*B` and reset `(*B,)`; it returns the next carry, actions within the bounds
        of the action space, and `{"value": (*B,)}`, level 0's of the environment's reward.
        """
        players = self._players(state)

        def act(
            carry: Carry, obs: PyTree, reset: B, key: Key, greedy: bool = False
        ) -> tuple[Carry, Array, dict[str, Array]]:
            thought = self.think(players, carry, obs, reset, key, greedy)
            lowest = thought.carry.levels[0]
            value = players[0].value(lowest.latent, thought.goal[0])
            return thought.carry, to_env(self.action_space, lowest.action), {"value": value}

        def init_carry(batch_shape: tuple[int, ...]) -> Carry:
            return self._initial_carry(state.params, batch_shape)

        return Policy(init_carry, act)

    def think(
        self,
        players: list[Player],
        carry: Carry,
        obs: PyTree,
        reset: B,
        key: Key,
        greedy: bool = False,
        anyhow: Scalar | None = None,
    ) -> Thought:
        """One step of all levels: they look from bottom to top, then act from top to bottom.

        anyhow: whether actions are random.
        """
        c = self.config
        clock = jnp.where(reset, 0, carry.clock)
        keys = jax.random.split(key, (2, c.levels))
        due = tuple(clock % c.every**i == 0 for i in range(c.levels))
        looked, seen = _look(players, carry, obs, reset, due, keys[0])
        goal: list[Array | None] = [None] * c.levels
        for i, player in reversed(list(enumerate(players))):
            if i + 1 < c.levels:
                goal[i] = looked[i + 1].action
            pi = player.policy(looked[i].latent, goal[i])
            action = pi.mode() if greedy else pi.sample(seed=keys[1, i])
            chance = jnp.array(True) if self._is_random(i) else anyhow
            if chance is not None:
                anything = random_actions(player.level.action_space, keys[1, i], reset.shape)
                action = jnp.where(chance, anything, action)
            action = where_reset(due[i], action, looked[i].action)
            looked[i] = looked[i]._replace(action=action)
        return Thought(Carry(tuple(looked), clock + 1), due, tuple(seen[:-1]), tuple(goal))

    # ------------------------------------------------------------------ training

    def train_step(self, state: State) -> tuple[State, dict[str, Scalar]]:
        """A rollout of all environments and the updates due; pure, to be jitted whole.

        Until `prefill` steps are done actions are random and nothing is learned. Metrics are
        float32 scalars: `return` and `length` are means over the episodes that ended in this
        rollout (NaN if none did), `episodes` their number; those of level i, `level<i>/...`,
        are means over its updates, 0 while there are none.
        """
        key, keys = rollout_keys(self.config, state.key)
        return self.learn(state._replace(key=key), *rollout(self, state, keys))

    def behaviour(self, state: State) -> Behaviour:
        """How a rollout acts; what is kept of it are rows for the replay of every level."""
        players, prefilling = self._players(state), self._prefilling(state)

        def decide(actors: Actors, key: Key) -> tuple[Choice, Array]:
            key, key_last = jax.random.split(key)
            thought = self.think(
                players, actors.carry, actors.obs, actors.reset, key, anyhow=prefilling
            )
            action = to_env(self.action_space, thought.carry.levels[0].action)
            return Choice(thought, key_last), action

        def record(actors: Actors, choice: Choice, outcome: Outcome) -> tuple[Actors, Record]:
            outcome = outcome._replace(reward=jnp.asarray(outcome.reward, jnp.float32))
            thought, ended = choice.thought, outcome.terminated | outcome.truncated
            last_seen = self._last_seen(players, choice, outcome)
            rows, left = self._rows(actors, thought, last_seen, outcome)
            valid = tuple(pair(due, ended) for due in thought.due[: len(rows)])
            earned = tuple(jnp.where(ended, 0.0, x + outcome.reward) for x in left)
            actors = Actors(outcome.env_state, outcome.obs, ended, earned, thought.carry)
            return actors, Record(rows, valid, episode_numbers(outcome.info))

        return Behaviour(decide, record)

    def learn(
        self, state: State, actors: Actors, records: Record
    ) -> tuple[State, dict[str, Scalar]]:
        """The updates after a rollout that began at `state.actors` and ended at `actors`.

        Metrics as `train_step`.
        """
        key, *keys = jax.random.split(state.key, 1 + self.config.levels)
        rings = tuple(map(store, state.replays, records.rows, records.valid))
        learners = list(state.learners)
        metrics: dict[str, Scalar] = {}
        for i, level in enumerate(self.levels):
            if self._is_random(i):
                continue
            source = Source(rings[min(i, len(rings) - 1)], learners[0].params)
            ready = ~self._prefilling(state) & level.ready(source.ring)
            entropy_coef = entropy_weight(level.config, state.update)
            learners[i], found = level.learn(learners[i], source, ready, entropy_coef, keys[i])
            metrics |= {f"level{i}/{name}": value for name, value in found.items()}
        state = State(tuple(learners), actors, rings, state.update + 1, key)
        return strongly_typed(state), episode_means(records.episode) | metrics

    def _last_seen(
        self, players: list[Player], choice: Choice, outcome: Outcome
    ) -> tuple[PyTree, ...]:
        """What each level with a replay sees of the last observation, where an episode ended."""
        ended, carry = outcome.terminated | outcome.truncated, choice.thought.carry
        count = len(self.modelled)
        final, below = outcome.info["final_observation"], players[: count - 1]
        due, keys = (ended,) * len(below), jax.random.split(choice.key, len(players))

        def look() -> tuple[PyTree, ...]:
            _, seen = _look(below, carry, final, jnp.zeros_like(ended), due, keys)
            return tuple(seen[1:])

        windows = jax.lax.cond(jnp.any(ended), look, lambda: choice.thought.seen[1:count])
        return final, *windows

    def _rows(
        self, actors: Actors, thought: Thought, last_seen: tuple[PyTree, ...], outcome: Outcome
    ) -> tuple[tuple[Row, ...], tuple[B, ...]]:
        """What each level with a replay stores of a step where it is due, and of the end of an
        episode; and what it has earned since its last action."""
        c, rows, left = self.config, [], []
        ended, never = outcome.terminated | outcome.truncated, jnp.zeros_like(actors.reset)
        terminal = ended if c.treat_truncation_as_terminal else outcome.terminated
        for i, carry in enumerate(thought.carry.levels[: len(self.modelled)]):
            share = c.reward_share**i
            left.append(jnp.where(thought.due[i], 0.0, actors.earned[i]))
            at_end = (left[i] + outcome.reward) * share
            if c.lose_terminal_reward:
                at_end = jnp.zeros_like(at_end)
            first = Row(
                obs=thought.seen[i],
                action=carry.action,
                reward=actors.earned[i] * share,
                reset=actors.reset,
                terminal=never,
                goal=thought.goal[i],
                carry=self._stored(actors.carry.levels[i]),
            )
            last = first._replace(
                obs=last_seen[i],
                reward=at_end,
                reset=never,
                terminal=terminal,
                carry=self._stored(carry),
            )
            rows.append(pair(first, last))
        return tuple(rows), tuple(left)

    # ------------------------------------------------------------------ parts

    def _stored(self, carry: LevelCarry) -> PyTree:
        return (carry.latent, carry.action) if self.config.start == "stored" else None

    def _prefilling(self, state: State) -> Scalar:
        return state.update * self.steps_per_update < self.config.prefill

    def _is_random(self, level: int) -> bool:
        return self.config.random_top and 0 < level == self.config.levels - 1

    def _players(self, state: State) -> list[Player]:
        return [Player(level, p) for level, p in zip(self.levels, state.params, strict=True)]

    def _initial_carry(self, params: tuple[Params, ...], batch_shape: tuple[int, ...]) -> Carry:
        each = zip(self.levels, params, strict=True)
        carries = tuple(level.initial_carry(p, batch_shape) for level, p in each)
        return Carry(carries, jnp.zeros(batch_shape, jnp.int32))

    def _row_specs(self) -> list[Row]:
        """Shapes and dtypes of one row of each level with a replay, for one environment."""
        obs, _ = jax.eval_shape(lambda key: self.env.reset(key, self.env_params), jax.random.key(0))
        specs = []
        for level in self.modelled:
            specs.append(level.row_spec(obs))
            obs = {
                name: jax.ShapeDtypeStruct(space.shape, space.dtype)
                for name, space in level.window_space.spaces.items()
            }
        return specs


def _look(
    players: list[Player], carry: Carry, obs: PyTree, reset: B, due: tuple[B, ...], keys: Key
) -> tuple[list[LevelCarry], list[PyTree]]:
    """What the levels carry after an observation, and what each of them, and one above, sees."""
    looked: list[LevelCarry] = []
    seen = [obs]
    for i, player in enumerate(players):
        looked.append(player.observe(carry.levels[i], seen[i], reset, due[i], keys[i]))
        seen.append(looked[i].shown)
    return looked, seen
