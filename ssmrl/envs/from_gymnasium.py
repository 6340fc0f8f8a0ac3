"""Any Gymnasium environment (gymnasium 1.x) as `gymnasium/<id>`, in the terms of the contract.

Such an environment is Python: it runs on the host and cannot be a part of a compiled program.
What the agent's wrappers make of it can. So `GymnasiumEnvironment` has the spaces of the
contract, and a `step` that hands out an `Answer`, which is what the host's environments said,
put in the place of the state; `ssmrl.run.collect` drives the two in turn:

    envs = env.start(count)              # Python environments, side by side or in processes
    obs = envs.reset(seeds)
    answer = envs.step(actions)          # on the host
    env.step(key, answer, action, params)  # in a compiled program, wrappers around it and all
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState

from ssmrl.envs import atari
from ssmrl.envs.contract import Environment, EnvParams, Space
from ssmrl.envs.gymnasium_spaces import from_gymnasium, inwards, outwards, structure
from ssmrl.envs.packages import import_package, reported
from ssmrl.errors import UsageError, unknown
from ssmrl.shapes import Key, PyTree, Scalar


class Answer(NamedTuple):
    """What environments said to an action: `(*B, ...)` each, as `step` of the contract."""

    observation: PyTree  # the first of the next episode where one ended
    reward: Any  # float32, on the host or on the device
    terminated: Any  # bool
    truncated: Any  # bool
    final_observation: PyTree  # the last of the episode where one ended, else `observation`


class Waiting(NamedTuple):
    """The state of an environment whose answer is not known; it has no arrays."""


@struct.dataclass
class HostParams(EnvParams):
    """max_steps_in_episode: None where Gymnasium knows of no limit."""

    max_steps_in_episode: int | None = None


class GymnasiumEnvironment(Environment):
    """The Gymnasium environment `id`, seen from JAX.

    vectorization: "sync" (one after another in this process) or "async" (each in a process of
        its own: for environments that are slow to step). max_steps_in_episode: truncate there
        instead of where Gymnasium would. options: further keywords of `gymnasium.make`; for an
        Atari game (`ALE/...`) also those of `ssmrl.envs.atari.make_game`.

    Raises UsageError for an unknown id, a package that is missing, options that the environment
    does not take, and a space that is no Discrete, MultiDiscrete (flat), Box, Dict or Tuple.
    """

    def __init__(
        self,
        id: str,
        vectorization: str = "sync",
        max_steps_in_episode: int | None = None,
        **options: Any,
    ) -> None:
        if vectorization not in ("sync", "async"):
            raise unknown("vectorization", str(vectorization), ("sync", "async"))
        limit = max_steps_in_episode
        if limit is not None and (type(limit) is not int or limit < 1):
            raise UsageError(f"max_steps_in_episode: expected 1 or more, got {limit!r}")
        self.id, self.vectorization = id, vectorization
        spec = find(id)
        build = atari.make_game if spec.namespace == atari.NAMESPACE else gymnasium.make
        self.make = partial(
            build, spec, max_episode_steps=limit, disable_env_checker=True, **options
        )
        with reported(self.name, "could not be made"):
            sample = self.make()
            sample.close()
        self.limit = limit or spec.max_episode_steps
        self.theirs = sample.observation_space, sample.action_space
        self.ours = tuple(from_gymnasium(space, self.name) for space in self.theirs)

    @property
    def name(self) -> str:
        """The id in our registry."""
        return f"gymnasium/{self.id}"

    @property
    def default_params(self) -> HostParams:
        """The time limit; it cannot be changed here, only in the constructor."""
        return HostParams(max_steps_in_episode=self.limit)

    def observation_space(self, params: EnvParams) -> Space:
        """Gymnasium's, converted."""
        return self.ours[0]

    def action_space(self, params: EnvParams | None = None) -> Space:
        """Gymnasium's, converted."""
        return self.ours[1]

    def start(self, count: int) -> "HostEnvironments":
        """`count` running copies; close them."""
        return HostEnvironments(self, count)

    def reset(self, key: Key, params: EnvParams | None = None) -> tuple[PyTree, Waiting]:
        """A blank observation of the right shape: the first real one comes from the host."""
        leaves = structure(self.ours[0])
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), leaves), Waiting()

    def step(
        self, key: Key, state: Answer | Waiting, action: PyTree, params: EnvParams | None = None
    ) -> tuple[PyTree, Waiting, Scalar, Scalar, Scalar, dict[str, Any]]:
        """Hands out the answer that stands in the place of the state.

        Raises UsageError where there is none: compiled programs cannot ask the host.
        """
        if not isinstance(state, Answer):
            raise UsageError(
                f"{self.name} runs in Python and cannot be stepped in a compiled program: train "
                "and evaluate on it with `ssmrl train` and `ssmrl eval` (ssmrl.run.collect)"
            )
        info = {"final_observation": state.final_observation}
        flags = state.terminated, state.truncated
        return state.observation, Waiting(), state.reward, *flags, info


class HostEnvironments:
    """Copies of one Gymnasium environment, stepped together.

    Gymnasium's own auto-reset is off: the copies whose episode ended are reset here, so that
    the last observation, termination and truncation are those that the environment gave.
    """

    def __init__(self, environment: GymnasiumEnvironment, count: int) -> None:
        self.name, self.count = environment.name, count
        self._spaces = environment.theirs
        makers = [environment.make] * count
        self._envs: Any
        with reported(self.name, "could not be started"):
            if environment.vectorization == "sync":
                self._envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
            else:
                with _ctrl_c_held_back():
                    self._envs = AsyncVectorEnv(
                        makers, context="spawn", autoreset_mode=AutoresetMode.DISABLED
                    )

    def reset(self, seeds: np.ndarray) -> PyTree:
        """First observations `(count, ...)` of new episodes; seeds: (count,) integers."""
        with reported(self.name, "failed to reset"):
            obs, _ = self._envs.reset(seed=[int(seed) for seed in seeds])
        return self._observed(obs)

    def step(self, actions: np.ndarray) -> Answer:
        """The answers to `actions`, `(count, ...)` in our action space.

        Raises UsageError for an error of the environment, a worker process that died, and an
        observation or reward that is not a number.
        """
        with reported(self.name, "failed in a step"):
            taken = outwards(self._spaces[1], np.asarray(actions))
            obs, reward, terminated, truncated, _ = self._envs.step(taken)
            final = obs
            if (done := terminated | truncated).any():
                obs, _ = self._envs.reset(options={"reset_mask": done})
        if not np.isfinite(reward).all():
            raise UsageError(f"{self.name} paid a reward that is not a number: {reward}")
        final = self._observed(final)
        obs = self._observed(obs) if done.any() else final
        return Answer(obs, reward.astype(np.float32), terminated, truncated, final)

    def close(self) -> None:
        """End them; what goes wrong in doing so does not matter any more."""
        with suppress(Exception):
            if isinstance(self._envs, AsyncVectorEnv):
                self._envs._state = AsyncState.DEFAULT  # it would wait for those that died
                self._envs.close(terminate=True)
            else:
                self._envs.close()

    def _observed(self, obs: PyTree) -> PyTree:
        obs = inwards(self._spaces[0], obs)
        for leaf in jax.tree.leaves(obs):
            if leaf.dtype.kind == "f" and np.isnan(leaf).any():
                raise UsageError(f"{self.name} gave an observation with NaN in it: {leaf}")
        return obs


def find(id: str) -> gymnasium.envs.registration.EnvSpec:
    """Gymnasium's entry for `id`, which may be `module:Name-v0`.

    popgym, memory_maze and ale_py are imported where the id is one of theirs. Raises UsageError
    for an id that nobody registered, with the nearest, and for a package that is not installed.
    """
    module, _, name = id.rpartition(":")
    if module in ("", "memory_maze") and name.startswith("MemoryMaze-"):
        from ssmrl.envs import original_memory_maze

        original_memory_maze.register()
        module = ""
    if name.startswith("popgym-"):
        module = module or "popgym"
    if name.startswith(f"{atari.NAMESPACE}/"):
        module = module or "ale_py"
    with reported(f"gymnasium/{id}", "could not be found"):
        if module:
            import_package(module, f"gymnasium/{id}")
        if name not in gymnasium.registry:
            known = [f"gymnasium/{known}" for known in gymnasium.registry]
            hint = "Gymnasium lists its own with `gymnasium.pprint_registry()`"
            raise unknown("environment", f"gymnasium/{id}", known, hint)
        return gymnasium.spec(name)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Processes started meanwhile never hear of Ctrl-C; this one hears of it afterwards.

    The run finishes its update after a Ctrl-C, for which it needs the processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # its first start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
