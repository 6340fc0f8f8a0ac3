"""Gymnasium's environments keep our contract: spaces, flags, last observations, clear failures."""

import os
import signal

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from ssmrl.envs import make
from ssmrl.envs.contract import Box, Dict, Discrete, MultiDiscrete, Tuple, contains, same_space
from ssmrl.envs.from_gymnasium import Answer, GymnasiumEnvironment, Waiting
from ssmrl.envs.gymnasium_spaces import from_gymnasium, inwards, outwards, to_gymnasium
from ssmrl.errors import UsageError


class Clock(gymnasium.Env):
    """Shows the time since the reset; terminates after `last` steps, or does what it is told."""

    action_space = spaces.Discrete(5, start=-2)
    observation_space = spaces.Dict(
        {"time": spaces.Box(0, 99, (1,), np.float64), "taken": spaces.Discrete(5, start=-2)}
    )

    def __init__(self, last=3, fault=None):
        self.last, self.fault = last, fault

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._seen(0), {}

    def step(self, action):
        assert action in self.action_space
        self.time += 1
        if self.time == 2 and self.fault == "raise":
            raise RuntimeError("the clock stopped")
        if self.time == 2 and self.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        reward = np.nan if self.fault == "reward" else float(action)
        return self._seen(action), reward, self.time == self.last, False, {}

    def _seen(self, action):
        shown = np.nan if self.time == 2 and self.fault == "observation" else self.time
        return {"time": np.array([shown], np.float64), "taken": np.int64(action)}


@pytest.fixture(autouse=True)
def clock():
    gymnasium.register("Clock-v0", Clock, max_episode_steps=4)
    yield
    del gymnasium.registry["Clock-v0"]


def played(steps, count=2, **options):
    """The answers to action 4 (their 2) in `steps` steps."""
    envs = make("gymnasium/Clock-v0", **options)[0].start(count)
    try:
        envs.reset(np.arange(count))
        return [envs.step(np.full(count, 4)) for _ in range(steps)]
    finally:
        envs.close()


def times(answers, name):
    return [int(getattr(answer, name)["time"][0, 0]) for answer in answers]


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_an_end_gives_its_last_observation_and_the_first_of_the_next(vectorization):
    answers = played(5, vectorization=vectorization)
    assert times(answers, "final_observation") == [1, 2, 3, 1, 2]
    assert times(answers, "observation") == [1, 2, 0, 1, 2]
    assert [bool(a.terminated[1]) for a in answers] == [False, False, True, False, False]
    assert not any(a.truncated.any() for a in answers)
    assert all((a.reward == 2).all() and a.reward.dtype == np.float32 for a in answers)
    assert answers[0].observation["taken"].tolist() == [4, 4]


@pytest.mark.parametrize("limit, first_end", [(None, 4), (2, 2)])
def test_a_time_limit_truncates_and_does_not_terminate(limit, first_end):
    answers = played(first_end, last=9, max_steps_in_episode=limit)
    assert [bool(a.truncated[0]) for a in answers] == [False] * (first_end - 1) + [True]
    assert not any(a.terminated.any() for a in answers)
    assert times(answers, "final_observation")[-1] == first_end
    _, params = make("gymnasium/Clock-v0", max_steps_in_episode=limit)
    assert params.max_steps_in_episode == first_end


def test_spaces_count_from_zero_in_32_bits():
    env, params = make("gymnasium/Clock-v0")
    assert same_space(env.action_space(params), Discrete(5))
    wanted = Dict({"time": Box(0.0, 99.0, (1,)), "taken": Discrete(5)})
    assert same_space(env.observation_space(params), wanted)
    (answer,) = played(1)
    assert contains(env.observation_space(params), answer.observation)


SPACES = [
    (spaces.Discrete(3, start=7), 8, 1),
    (spaces.MultiDiscrete([2, 3], start=[1, -1]), [2, -1], [1, 0]),
    (spaces.Box(-1.0, 1.0, (2, 2), np.float64), np.eye(2), np.eye(2)),
    (spaces.Box(0, 255, (2,), np.uint8), [3, 4], [3, 4]),
    (spaces.Tuple([spaces.Discrete(2), spaces.Discrete(4)]), (1, 3), (1, 3)),
]


@pytest.mark.parametrize("space, theirs, ours", SPACES, ids=lambda x: str(x)[:20])
def test_elements_are_translated_there_and_back(space, theirs, ours):
    mine = from_gymnasium(space, "it")
    theirs = jax.tree.map(np.asarray, theirs, is_leaf=lambda x: isinstance(x, list))
    inside = inwards(space, theirs)
    assert contains(mine, inside)
    jax.tree.map(np.testing.assert_array_equal, inside, ours)
    again = outwards(space, inside)
    jax.tree.map(np.testing.assert_array_equal, again, theirs)
    assert same_space(from_gymnasium(to_gymnasium(mine), "it"), mine)


@pytest.mark.parametrize(
    "space", [spaces.Text(5), spaces.MultiBinary(3), spaces.MultiDiscrete([[2, 2], [2, 2]])]
)
def test_other_spaces_are_refused_by_name(space):
    nested = spaces.Dict({"a": spaces.Discrete(2), "b": space})
    with pytest.raises(UsageError, match=r"(?s)gymnasium/x has a space .* expected Discrete"):
        from_gymnasium(nested, "gymnasium/x")


def test_spaces_are_the_same_whatever_their_spelling():
    assert same_space(MultiDiscrete((3, 3), jnp.int8), MultiDiscrete((3, 3)))
    assert same_space(Box(-1.0, 1.0, (2,)), Box(-np.ones(2), np.ones(2), (2,)))
    assert same_space(Tuple((Discrete(2),)), Tuple([Discrete(2)]))
    for one, other in (
        (Discrete(2), Discrete(3)),
        (Discrete(2), MultiDiscrete((2,))),
        (Box(-1.0, 1.0, (2,)), Box(-1.0, 2.0, (2,))),
        (Box(0, 1, (2,), jnp.uint8), Box(0, 1, (2,))),
        (Box(-1.0, 1.0, (2,)), Box(-1.0, 1.0, (3,))),
        (Dict({"a": Discrete(2)}), Dict({"b": Discrete(2)})),
        (Tuple((Discrete(2),)), Tuple((Discrete(2), Discrete(2)))),
    ):
        assert not same_space(one, other) and not same_space(other, one)


def test_every_original_popgym_environment_has_the_spaces_of_our_port():
    pytest.importorskip("popgym")
    for id in ("RepeatPreviousEasy", "AutoencodeHard", "ConcentrationMedium", "BattleshipEasy"):
        check_same(f"gymnasium/popgym-{id}-v0", f"popgym/{id}")
    check_same("gymnasium/popgym-VelocityOnlyCartpoleHard-v0", "popgym/VelocityOnlyCartPoleHard")
    check_same("gymnasium/popgym-PositionOnlyPendulumEasy-v0", "popgym/PositionOnlyPendulumEasy")


def check_same(one, other):
    (a, a_params), (b, b_params) = make(one), make(other)
    for kind in ("observation_space", "action_space"):
        assert same_space(getattr(a, kind)(a_params), getattr(b, kind)(b_params)), (one, kind)


def test_a_compiled_program_hands_out_an_answer_and_cannot_ask_for_one():
    env, params = make("gymnasium/Clock-v0")
    (answer,) = played(1)
    one = jax.tree.map(lambda x: x[0], answer)
    obs, state, reward, *_ = jax.jit(env.step)(jax.random.key(0), one, 0, params)
    assert state == Waiting() and isinstance(one, Answer)
    assert obs["time"] == 1 and reward == 2
    blank, waiting = env.reset(jax.random.key(0), params)
    assert jax.tree.map(jnp.shape, blank) == {"time": (1,), "taken": ()}
    with pytest.raises(UsageError, match="runs in Python and cannot be stepped"):
        env.step(jax.random.key(0), waiting, 0, params)


@pytest.mark.parametrize(
    "fault, said",
    [
        ("raise", "failed in a step: RuntimeError: the clock stopped"),
        ("reward", "paid a reward that is not a number"),
        ("observation", "an observation with NaN"),
    ],
)
def test_a_fault_of_the_environment_is_told_with_its_name(fault, said):
    with pytest.raises(UsageError, match=f"gymnasium/Clock-v0.*{said}"):
        played(3, fault=fault)


def test_a_process_outlives_ctrl_c_and_its_death_is_a_clear_error():
    envs = make("gymnasium/Clock-v0", fault="die", vectorization="async")[0].start(2)
    processes = envs._envs.processes
    envs.reset(np.arange(2))
    for process in processes:
        os.kill(process.pid, signal.SIGINT)
    assert (envs.step(np.full(2, 4)).reward == 2).all()
    with pytest.raises(UsageError, match="one of its processes ended without a word"):
        envs.step(np.full(2, 4))
    envs.close()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize(
    "id, options, said",
    [
        ("gymnasium/CartPol-v1", {}, "nearest: 'gymnasium/CartPole-v1'"),
        ("gymnasium/Clock-v0", {"speed": 2}, "could not be made: TypeError.*speed"),
        ("gymnasium/Clock-v0", {"vectorization": "asink"}, "nearest: 'async'"),
        ("gymnasium/Clock-v0", {"max_steps_in_episode": 0}, "expected 1 or more, got 0"),
        ("gymnasium/nowhere:Clock-v0", {}, "needs the package nowhere.*pip install 'nowhere'"),
        ("Clock-v0", {}, "nearest: 'gymnasium/Clock-v0'"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(id, options, said):
    with pytest.raises(UsageError, match=said):
        make(id, **options)


@pytest.mark.parametrize(
    "package, id, extra",
    [
        ("popgym", "popgym-RepeatPreviousEasy-v0", r"ssmrl\[popgym\]"),
        ("memory_maze", "memory_maze:MemoryMaze-9x9-v0", r"ssmrl\[memory-maze\]"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package, id, extra, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.setattr("ssmrl.envs.original_memory_maze.find_library", lambda name: name)
    with pytest.raises(UsageError, match=f"pip install '{extra}'"):
        GymnasiumEnvironment(id)


@pytest.mark.parametrize("asked, library", [(None, "libEGL"), ("osmesa", "libOSMesa")])
def test_a_missing_system_library_is_named_with_its_package(asked, library, monkeypatch):
    monkeypatch.setattr("ssmrl.envs.original_memory_maze.find_library", lambda name: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if asked:
        monkeypatch.setenv("MUJOCO_GL", asked)
    with pytest.raises(UsageError, match=f"{library} is missing: apt-get install lib"):
        GymnasiumEnvironment("memory_maze:MemoryMaze-9x9-v0")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
