"""Acting on environments that run on the host, in Python, for training and for evaluation.

At every step one compiled program lets the policy act, the host's environments step, and a
second program makes observations of their answers, through the very wrappers that the agent
has around its environment. How an agent acts in training, what it keeps of a step and the update
are those of environments in JAX (`ssmrl.agents.protocol`). Leaves of everything on the device are
`(S, B, ...)`; the host sees one batch of S * B.
"""

import itertools
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.agents.protocol import Agent, Outcome, rollout_keys
from ssmrl.envs.from_gymnasium import Answer, GymnasiumEnvironment, Waiting
from ssmrl.envs.gymnasium_spaces import structure
from ssmrl.envs.wrappers import inside
from ssmrl.errors import UsageError
from ssmrl.run.program import Program, compile_train_step, compiled, over_seeds
from ssmrl.shapes import Array, Key, PyTree


def host_environment(env: Any) -> GymnasiumEnvironment | None:
    """The environment of the host that `env` is or wraps; None where it is all JAX."""
    return inside(env, GymnasiumEnvironment)


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
        outcome = self._observe(state, self._no_action(), answer)
        return outcome.obs, outcome.env_state

    def step(self, state: PyTree, action: Array) -> Outcome:
        """Step all environments; action: (S, B, *action)."""
        told = np.asarray(action)
        answer = self.host.step(told.reshape(-1, *told.shape[2:]))
        return self._observe(state, told, Answer(*map(self._folded, answer)))

    def observe(self, state: PyTree, action: Array, answer: Answer) -> Outcome:
        """What the agent's wrappers make of `answer`, `(S, B, ...)`; to be compiled."""

        def one(state: PyTree, action: Array, answer: Answer) -> Outcome:
            answered = jax.tree.map(
                lambda part: answer if isinstance(part, Waiting) else part,
                state,
                is_leaf=lambda part: isinstance(part, Waiting),
            )
            key = jax.random.key(0)  # nothing is drawn: chance is on the host
            return Outcome(*self.env.step(key, answered, action, self.params))

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

    Seeds train side by side, each in environments of its own. Environments of the host cannot be
    saved: the first call of `step` begins new episodes, seeded by the state's key; all else goes
    on as it was.

    agent: made by `ssmrl.make_agent`. like: its state, or the shapes of it.
    """

    def __init__(self, agent: Agent, like: PyTree, seeds: int) -> None:
        begin = time.perf_counter()
        self.steps: int = agent.config.rollout
        self.stage = Stage(agent.env, agent.env_params, seeds, agent.config.num_envs)
        self._going = False

        def on_device(function: Callable[..., Any]) -> Any:
            return jax.jit(over_seeds(lambda inputs: function(*inputs), seeds))

        self._begin = on_device(agent.begin)
        self._keys = on_device(lambda key: rollout_keys(agent.config, key))
        self._decide = on_device(lambda state, *now: agent.behaviour(state).decide(*now))
        self._record = on_device(lambda state, *now: agent.behaviour(state).record(*now))
        learn = over_seeds(lambda inputs: agent.learn(*inputs), seeds)
        parts = like.actors, self._compile_acting(like)
        self._learn = compiled(lambda state, *parts: learn((state, *parts)), like, *parts)
        self.compile_seconds = time.perf_counter() - begin

    def step(self, state: PyTree) -> tuple[PyTree, dict[str, Array]]:
        """A rollout and the update from it; the state that goes in is donated."""
        if not self._going:
            start = self.stage.begin(jax.random.fold_in(state.key[0], self.steps))
            state = state._replace(actors=self._begin((state.params, *start)))
            self._going = True
        key, keys = self._keys((state.key,))
        return self._learn(state._replace(key=key), *self._collect(state, keys))

    def close(self) -> None:
        """End the environments."""
        self.stage.close()

    def _collect(self, state: PyTree, keys: Key) -> tuple[PyTree, PyTree]:
        """Acts for T steps, as `ssmrl.agents.protocol.rollout`; records `(S, T, ...)`."""
        actors, records = state.actors, []
        for t in range(self.steps):
            choice, action = self._decide((state, actors, keys[:, t, -1]))
            outcome = self.stage.step(actors.env_state, action)
            actors, record = self._record((state, actors, choice, outcome))
            records.append(jax.device_get(record))
        return actors, jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *records)

    def _compile_acting(self, like: PyTree) -> PyTree:
        """Compiles both programs of a step; shapes of the records that `_collect` returns."""
        now = like, like.actors, like.key
        choice, action = jax.eval_shape(self._decide, now)
        env_state, answer = like.actors.env_state, self.stage.answer_like()
        outcome = jax.eval_shape(self.stage.observe, env_state, action, answer)
        after = like, like.actors, choice, outcome
        _, record = jax.eval_shape(self._record, after)
        for program, inputs in ((self._decide, now), (self._record, after)):
            program.lower(inputs).compile()
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((x.shape[0], self.steps, *x.shape[1:]), x.dtype), record
        )


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
                out = stage.step(env_state, action)
                obs, env_state = out.obs, out.env_state
                reset = np.asarray(out.terminated | out.truncated)
                returns += np.where(alive, out.reward, 0)
                lengths += alive
                alive = alive & ~reset
                if not alive.any():
                    break
            else:
                raise UsageError(f"{alive.sum()} episodes did not end within {horizon} steps")
            yield returns, lengths
