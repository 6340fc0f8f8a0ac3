"""Training and evaluation on environments in Python are those on environments in JAX."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from ssmrl import envs, make_agent
from ssmrl.cli import main
from ssmrl.envs.wrappers import EpisodeStatistics, PreviousStep
from ssmrl.errors import UsageError
from ssmrl.run.collect import HostProgram, Stage, host_environment
from ssmrl.run.evaluate import evaluate
from tests.envs.probes import run_once

SMALL = [
    "agent.num_envs=4",
    "agent.rollout=6",
    "agent.minibatches=2",
    "agent.encoder=[8]",
    "agent.head=[8]",
    "memory=gru",
    "memory.features=8",
    "memory.layers=1",
    "eval_episodes=4",
]


class Steps(gymnasium.Env):
    """Shows the time; pays the action; ends after `last` steps.

    Of `truncate` the second, fourth, ... episode is truncated.
    """

    action_space = spaces.Discrete(3)
    observation_space = spaces.Box(0.0, 9.0, (1,))

    def __init__(self, last=4, truncate=False, pay="action"):
        self.last, self.truncate, self.pay, self.episode = last, truncate, pay, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.end, self.episode = 0, self.last, self.episode + 1
        if self.last is None:
            self.end = int(self.np_random.choice([1, 5]))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        ended = self.time >= self.end
        obs = np.full(1, self.time, np.float32)
        reward = float(action) if self.pay == "action" else 1.0
        truncated = ended and self.truncate and self.episode % 2 == 0
        return obs, reward, ended and not truncated, truncated, {}


@pytest.fixture(autouse=True, scope="module")
def steps():
    gymnasium.register("Steps-v0", Steps)
    yield
    del gymnasium.registry["Steps-v0"]


def agent_for(id, **arguments):
    config = {
        "agent": {
            "name": "in_context",
            "num_envs": 4,
            "rollout": 6,
            "minibatches": 2,
            "epochs": 1,
            "encoder": (8,),
            "head": (8,),
        },
        "memory": {"name": "gru", "features": 8, "layers": 1},
    }
    return make_agent(config, *envs.make(id, **arguments))


def initial(agent, seeds=1):
    return run_once(jax.vmap(agent.init), jax.random.split(jax.random.key(0), seeds))


def test_the_agents_wrappers_say_what_they_say_in_jax():
    env, params = envs.make("gymnasium/Steps-v0", last=2)
    assert host_environment(EpisodeStatistics(PreviousStep(env))) is env
    assert host_environment(envs.make("popgym/RepeatPreviousEasy")[0]) is None
    with Stage(EpisodeStatistics(PreviousStep(env)), params, seeds=1, batch=2) as stage:
        obs, state = stage.begin(jax.random.key(0))
        seen, lasts, ends, returns = [obs], [], [], []
        for _ in range(3):
            state, out = stage.step(state, jnp.array([[1, 2]]))
            seen.append(out.obs)
            lasts.append(out.info["final_observation"])
            ends.append(out.info["episode_end"][0].tolist())
            returns.append(out.info["episode_return"][0].tolist())
    shown = [
        [float(o[k].reshape(2, -1)[1, 0]) for k in ("observation", "action", "reward", "start")]
        for o in seen
    ]
    assert shown == [[0, 3, 0, 1], [1, 2, 2, 0], [0, 3, 0, 1], [1, 2, 2, 0]]
    assert float(lasts[1]["observation"][0, 1, 0]) == 2 and float(lasts[1]["reward"][0, 1, 0]) == 2
    assert ends == [[False, False], [True, True], [False, False]]
    assert returns == [[1, 2], [2, 4], [1, 2]]


@pytest.fixture(scope="module")
def updates(steps):
    """What was collected for two updates of two seeds, the latest metrics and state."""
    agent = agent_for("gymnasium/Steps-v0", last=2, truncate=True)
    state = initial(agent, seeds=2)
    program = HostProgram(agent, state, 2)
    kept, collect = [], program._collect

    def keep(*inputs):
        kept.append(collect(*inputs))
        return kept[-1]

    program._collect = keep
    for _ in range(2):
        state, metrics = program.step(state)
    program.close()
    return [rollout for _, rollout, _ in kept], jax.device_get(metrics), state


def test_a_rollout_is_a_transition_of_every_step_of_all_seeds(updates):
    rollouts, metrics, state = updates
    for rollout in rollouts:
        assert rollout.reward.shape == (2, 6, 4)
        assert np.flatnonzero(rollout.reset[1, :, 2]).tolist() == [0, 2, 4]
        np.testing.assert_array_equal(rollout.reward, rollout.action)
        np.testing.assert_array_equal(rollout.obs["observation"][0, :, 0, 0], [0, 1] * 3)
        assert np.isfinite(rollout.log_prob).all()
    assert (rollouts[0].action[0] != rollouts[0].action[1]).any()
    assert metrics["episodes"].tolist() == [12, 12] and metrics["length"].tolist() == [2, 2]
    assert np.asarray(state.update).tolist() == [2, 2]


def test_the_value_after_a_step_is_that_of_its_own_episode(updates):
    first, second = updates[0]
    assert np.flatnonzero(first.truncated[0, :, 1]).tolist() == [3]
    assert np.flatnonzero(first.terminated[0, :, 1]).tolist() == [1, 5]
    assert np.flatnonzero(second.truncated[0, :, 1]).tolist() == [1, 5]
    inside = [0, 2, 4]
    following = first.value[:, [t + 1 for t in inside]]
    np.testing.assert_array_equal(first.next_value[:, inside], following)
    # the last observation shows 2 and that it is no start; the next episode's shows 0
    assert (first.next_value[:, 3] != first.value[:, 4]).all()


def test_short_episodes_are_not_favoured_and_seeds_decide():
    agent = agent_for("gymnasium/Steps-v0", last=None, pay="step")
    state = initial(agent)
    both = [evaluate(agent, state, jax.random.key(seed), 50, parallel=20) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(both[0].returns, both[1].returns)
    assert (both[0].returns != both[2].returns).any()
    assert both[0].returns.shape == (1, 50)
    assert set(np.unique(both[0].lengths)) == {1, 5}
    np.testing.assert_array_equal(both[0].returns, both[0].lengths)
    assert abs(both[0].returns.mean() - 3) < 4 * 2 / np.sqrt(50)


def test_an_agent_that_learns_in_another_way_is_refused():
    class Other:
        env = envs.make("gymnasium/Steps-v0")[0]

    with pytest.raises(UsageError, match="Other trains on environments in JAX only"):
        HostProgram(Other(), None, 1)


def test_a_run_in_python_is_trained_resumed_evaluated_and_inspected(capsys):
    def ssmrl(*arguments):
        code = main(list(arguments))
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    python = "env=gymnasium/popgym-RepeatPreviousEasy-v0"
    ssmrl("train", python, "total_steps=48", "name=mine", *SMALL)
    out = ssmrl("resume", "mine", "total_steps=72")
    assert "they begin new episodes" in out and "72" in out
    assert "update 3, 72 of 72 steps" in ssmrl("inspect", "mine")
    assert "gymnasium/popgym" in ssmrl("eval", "mine", "episodes=3", "parallel=2")
    assert "popgym/RepeatPreviousEasy" in ssmrl(
        "eval", "mine", "episodes=3", "env=popgym/RepeatPreviousEasy"
    )
    assert "wiped every 2" in ssmrl("eval", "mine", "episodes=2", "forget_every=2")
    assert main(["eval", "mine", "episodes=2", "env=gymnasium/CartPole-v1"]) == 2
    assert "with the same spaces" in capsys.readouterr().err


def test_an_environment_in_python_is_inspected(capsys):
    assert main(["inspect", "env=gymnasium/Steps-v0", "env_args.last=3"]) == 0
    out = capsys.readouterr().out
    assert "no limit known" in out and "length 3.0" in out and "Discrete(3)" in out


def test_python_environments_are_mentioned_in_the_list(capsys):
    assert main(["list", "envs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "brax/ant" in lines and lines[-1].startswith("gymnasium/<id>")
