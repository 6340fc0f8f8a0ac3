"""Acting on environments that run on the host, in Python, for training and for evaluation.

At every step one compiled program lets the policy act, the host's environments step, and a
second program makes observations of their answers, through the very wrappers that the agent
has around its environment. The update is `agent.learn`, as for environments in JAX. Leaves of
everything on the device are `(S, B, ...)`; the host sees one batch of S * B.
"""

import itertools
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.agents.in_context import Actors, Transition
from ssmrl.envs.from_gymnasium import Answer, GymnasiumEnvironment, Waiting
from ssmrl.envs.gymnasium_spaces import structure
from ssmrl.errors import UsageError
from ssmrl.run.program import Program, compile_train_step, compiled, over_seeds
from ssmrl.shapes import Array, Key, PyTree

EPISODE = ("episode_end", "episode_return", "episode_length")


def host_environment(env: Any) -> GymnasiumEnvironment | None:
    """The environment of the host that `env` is or wraps; None where it is all JAX."""
    while not isinstance(env, GymnasiumEnvironment):
        env = getattr(env, "env", None)
        if env is None:
            return None
    return env


class Outcome(NamedTuple):
    """What a step led to, as the agent's wrappers tell it: `(S, B, ...)` each."""

    obs: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    info: dict[str, Any]


class Stage:
    """S x B environments of the host behind the wrappers of `env`; a context manager.

    env: wraps a `GymnasiumEnvironment` or is one. params: its parameters.
    """

    def __init__(self, env: Any, params: Any, seeds: int, batch: int) -> None:
        source = host_environment(env)
        assert source is not None
        self.env, self.params, self.shape, self.source = env, params, (seeds, batch), source
        self.host = source.start(seeds * batch)
        self._observe = jax.jit(self.observe)

    def begin(self, key: Key) -> tuple[PyTree, PyTree]:
        """Observations and wrappers' states at the start of new episodes; `key` seeds them all."""
        keys = jax.random.split(key, self.shape)
        _, state = jax.vmap(jax.vmap(lambda key: self.env.reset(key, self.params)))(keys)
        seeds = jax.random.key_data(keys)[..., -1].reshape(-1) >> 1
        obs = self._folded(self.host.reset(np.asarray(seeds)))
        ended = np.ones(self.shape, bool)  # what follows an end is a start
        answer = Answer(obs, np.zeros(self.shape, np.float32), ended, ~ended, obs)
        state, outcome = self._observe(state, self._no_action(), answer)
        return outcome.obs, state

    def step(self, state: PyTree, action: Array) -> tuple[PyTree, Outcome]:
        """Step all environments; action: (S, B, *action)."""
        told = np.asarray(action)
        answer = self.host.step(told.reshape(-1, *told.shape[2:]))
        return self._observe(state, told, Answer(*map(self._folded, answer)))

    def observe(self, state: PyTree, action: Array, answer: Answer) -> tuple[PyTree, Outcome]:
        """The next wrappers' states and what the agent is told of `answer`; to be compiled."""

        def one(state: PyTree, action: Array, answer: Answer) -> tuple[PyTree, Outcome]:
            answered = jax.tree.map(
                lambda part: answer if isinstance(part, Waiting) else part,
                state,
                is_leaf=lambda part: isinstance(part, Waiting),
            )
            key = jax.random.key(0)  # nothing is drawn: chance is on the host
            obs, state, *rest = self.env.step(key, answered, action, self.params)
            return state, Outcome(obs, *rest)

        return jax.vmap(jax.vmap(one))(state, action, answer)

    def answer_like(self) -> Answer:
        """Shapes of an answer."""
        obs = structure(self.source.observation_space(self.params))
        number, flag = (jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.float32, bool))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*self.shape, *x.shape), x.dtype),
            Answer(obs, number, flag, flag, obs),
        )

    def close(self) -> None:
        """End the environments."""
        self.host.close()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _folded(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.reshape(*self.shape, *x.shape[1:]), tree)

    def _no_action(self) -> np.ndarray:
        space = self.env.action_space(self.params)
        return np.zeros((*self.shape, *space.shape), space.dtype)


@contextmanager
def train_program(agent: Any, like: PyTree, seeds: int) -> Iterator["Program | HostProgram"]:
    """The train step of an agent, wherever its environment runs; `like` is its state's shapes."""
    if host_environment(agent.env) is None:
        yield compile_train_step(agent, like, seeds)
        return
    program = HostProgram(agent, like, seeds)
    try:
        yield program
    finally:
        program.close()


class HostProgram:
    """The train step of S seeds on environments of the host; as `ssmrl.run.program.Program`.

    Seeds train side by side, each in environments of its own. What an agent has to offer is
    `behaviour`, how it acts in training, and `learn`. Environments of the host cannot be saved:
    the first call of `step` begins new episodes, seeded by the state's key; parameters,
    optimiser and keys go on as they were.

    agent: made by `ssmrl.make_agent`. like: its state, or the shapes of it.
    Raises UsageError for an agent that learns in another way.
    """

    def __init__(self, agent: Any, like: PyTree, seeds: int) -> None:
        if not (hasattr(agent, "behaviour") and hasattr(agent, "learn")):
            raise UsageError(
                f"{type(agent).__name__} trains on environments in JAX only, and {agent.env.name} "
                "runs in Python: train agent=in_context there (`ssmrl eval` takes any agent)"
            )
        begin = time.perf_counter()
        self.agent, self.steps = agent, agent.config.rollout
        self.stage = Stage(agent.env, agent.env_params, seeds, agent.config.num_envs)
        self._going = False
        self._keys = jax.jit(over_seeds(lambda key: _split(key, self.steps), seeds))
        self._act = jax.jit(over_seeds(self._act_once, seeds))
        self._value = jax.jit(over_seeds(self._value_once, seeds))
        self._act.lower((like, like.actors, like.key)).compile()
        learn = over_seeds(lambda parts: agent.learn(parts[0], *parts[1]), seeds)
        batch = self._batch_like(like)
        self._learn = compiled(lambda state, batch: learn((state, batch)), like, batch)
        self.compile_seconds = time.perf_counter() - begin

    def step(self, state: PyTree) -> tuple[PyTree, dict[str, Array]]:
        """A rollout and the update from it; the state that goes in is donated."""
        if not self._going:
            obs, env_state = self.stage.begin(jax.random.fold_in(state.key[0], self.steps))
            reset = jnp.ones(self.stage.shape, bool)
            state = state._replace(actors=Actors(env_state, obs, reset, state.actors.carry))
            self._going = True
        key, keys = self._keys(state.key)
        return self._learn(state._replace(key=key), self._collect(state, keys))

    def close(self) -> None:
        """End the environments."""
        self.stage.close()

    def _collect(self, state: PyTree, keys: Key) -> tuple[Actors, Transition, dict[str, Any]]:
        """Acts for T steps; leaves of rollout and numbers of the episodes are (S, T, B, ...)."""
        actors, records = state.actors, []
        for t in range(self.steps):
            carry, action, chosen = self._act((state, actors, keys[:, t]))
            env_state, out = self.stage.step(actors.env_state, action)
            value = chosen["value"]
            if t == self.steps - 1 or np.any(out.truncated):
                value = self._value((state, carry, out.info["final_observation"]))
            records.append(jax.device_get(_record(actors, chosen, out, value)))
            actors = Actors(env_state, out.obs, out.terminated | out.truncated, carry)
        rollout, info = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *records)
        # Where an episode goes on, the value of the next observation is known from the next step.
        going_on = ~rollout.truncated
        going_on[:, -1] = False
        following = np.roll(rollout.value, -1, axis=1)
        next_value = np.where(going_on, following, rollout.next_value)
        return actors, rollout._replace(next_value=next_value), info

    def _act_once(
        self, inputs: tuple[PyTree, Actors, Key]
    ) -> tuple[PyTree, Array, dict[str, Array]]:
        state, actors, key = inputs
        return self.agent.behaviour(state)(actors.carry, actors.obs, actors.reset, key)

    def _value_once(self, inputs: tuple[PyTree, PyTree, PyTree]) -> Array:
        state, carry, obs = inputs
        reset, key = jnp.zeros(self.stage.shape[1], bool), jax.random.key(0)  # no use is made of it
        return self.agent.behaviour(state)(carry, obs, reset, key)[2]["value"]

    def _batch_like(self, like: PyTree) -> PyTree:
        """Shapes of what `_collect` returns."""

        def turn(state: PyTree, answer: Answer) -> tuple[Transition, dict[str, Any]]:
            actors = state.actors
            _, action, chosen = self._act((state, actors, state.key))
            _, out = self.stage.observe(actors.env_state, action, answer)
            return _record(actors, chosen, out, chosen["value"])

        record = jax.eval_shape(turn, like, self.stage.answer_like())
        over_time = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((x.shape[0], self.steps, *x.shape[1:]), x.dtype), record
        )
        return like.actors, *over_time


def rounds_on_host(
    player: Any,
    state: PyTree,
    key: Key,
    greedy: bool,
    env: Any,
    params: Any,
    batch: int,
    horizon: int,
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Returns and lengths, `(S, B)`, of fresh episodes played from start to end, for ever.

    Each of the B environments plays one episode a round, so that short ones are not favoured.
    The environments run until the generator is closed.

    player: has `policy(state)`. state: leaves (S, ...). env: as the policy expects it, around
    an environment of the host. horizon: steps at most.

    Raises UsageError for an episode that does not end.
    """
    seeds = jax.tree.leaves(state)[0].shape[0]

    def begin(state: PyTree) -> PyTree:
        return player.policy(state).init_carry((batch,))

    def act(inputs: tuple[PyTree, PyTree, PyTree, Array, Key]) -> tuple[PyTree, Array]:
        state, *seen, key = inputs
        return player.policy(state).act(*seen, key, greedy)[:2]

    begin, act = (jax.jit(over_seeds(function, seeds)) for function in (begin, act))
    with Stage(env, params, seeds, batch) as stage:
        for i in itertools.count():
            key_begin, *keys = jax.random.split(jax.random.fold_in(key, i), 1 + seeds)
            obs, env_state = stage.begin(key_begin)
            carry, reset = begin(state), np.ones(stage.shape, bool)
            alive, returns = reset, np.zeros(stage.shape, np.float32)
            lengths = np.zeros(stage.shape, np.int32)
            for t in range(horizon):
                now = jax.vmap(jax.random.fold_in, (0, None))(jnp.stack(keys), t)
                carry, action = act((state, carry, obs, reset, now))
                env_state, out = stage.step(env_state, action)
                obs, reset = out.obs, np.asarray(out.terminated | out.truncated)
                returns += np.where(alive, out.reward, 0)
                lengths += alive
                alive = alive & ~reset
                if not alive.any():
                    break
            else:
                raise UsageError(f"{alive.sum()} episodes did not end within {horizon} steps")
            yield returns, lengths


def _split(key: Key, steps: int) -> tuple[Key, Key]:
    """The next key of a state, and one for every step of a rollout."""
    key, key_rollout = jax.random.split(key)
    return key, jax.random.split(key_rollout, steps)


def _record(
    actors: Actors, chosen: dict[str, Array], out: Outcome, next_value: Array
) -> tuple[Transition, dict[str, Array]]:
    """What is kept of a step."""
    step = Transition(
        obs=actors.obs,
        reset=actors.reset,
        reward=out.reward,
        terminated=out.terminated,
        truncated=out.truncated,
        next_value=next_value,
        **chosen,
    )
    return step, {name: out.info[name] for name in EPISODE}
