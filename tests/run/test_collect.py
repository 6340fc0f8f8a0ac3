"""Training and evaluation on environments in Python are those on environments in JAX."""

import itertools
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from ssmrl import envs, make_agent
from ssmrl.cli import main
from ssmrl.envs.contract import Box, Discrete, EnvParams
from ssmrl.envs.wrappers import EpisodeStatistics, PreviousStep
from ssmrl.run import collect
from ssmrl.run.collect import HostProgram, Stage, host_environment
from ssmrl.run.evaluate import evaluate
from tests.agents.probes import Probe
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


class Certain(Probe):
    """Shows the time, pays the action; three steps, the last of which is cut for action 0."""

    actions, observations = Discrete(3), Box(0.0, 9.0, (1,))

    @property
    def default_params(self):
        return EnvParams(max_steps_in_episode=3)

    def observe(self, state):
        return state.time.astype(jnp.float32).reshape(1)

    def step_env(self, key, state, action, params):
        state = state.replace(time=state.time + 1)
        over = (state.time == 3) & (action > 0)
        return self.observe(state), state, action.astype(jnp.float32), over, {}


CERTAIN = Certain()


@pytest.fixture(autouse=True, scope="module")
def steps():
    made = {
        "Steps-v0": Steps,
        "Certain-v0": lambda: envs.to_gymnasium(CERTAIN, CERTAIN.default_params),
    }
    for id, entry_point in made.items():
        gymnasium.register(id, entry_point)
    yield
    for id in made:
        del gymnasium.registry[id]


AGENTS = {
    "in_context": {
        "rollout": 6,
        "minibatches": 2,
        "epochs": 1,
        "encoder": (8,),
        "head": (8,),
    }
}
AGENTS["r2i"] = {
    "rollout": 8, "batch": 4, "length": 8, "train_ratio": 1, "prefill": 32, "replay_size": 512,
    "imagined_starts": 4, "horizon": 2, "groups": 2, "classes": 3, "deter": 8, "units": 8,
    "mlp_layers": 1, "mlp_units": 8, "head_layers": 1, "head_units": 8, "actor_layers": 1,
    "actor_units": 8, "critic_layers": 1, "critic_units": 8, "bins": 11, "bin_limit": 2.0,
    "critic_limit": 4.0,
}  # fmt: skip
AGENTS["hieros"] = AGENTS["r2i"] | {
    "levels": 2, "every": 2, "train_ratio": 2, "code_groups": 2, "code_classes": 3,
    "code_layers": 1, "code_units": 8,
}  # fmt: skip


def agent_on(env, params, name="in_context"):
    config = {
        "agent": {"name": name, "num_envs": 4, **AGENTS[name]},
        "memory": {"name": "gru", "features": 8, "layers": 1},
    }
    return make_agent(config, env, params)


def agent_for(id, **arguments):
    return agent_on(*envs.make(id, **arguments))


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
            out = stage.step(state, jnp.array([[1, 2]]))
            state = out.env_state
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
    kept, play = [], program._collect

    def keep(state, keys):
        found = play(state, keys)
        kept.append(run_once(jax.vmap(agent._transitions), state, *found))
        return found

    program._collect = keep
    for _ in range(2):
        state, metrics = program.step(state)
    program.close()
    return kept, jax.device_get(metrics), state


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


UPDATES = 4  # the last episode goes on when they are done


@pytest.fixture(scope="module", params=AGENTS)
def both(request, steps):
    """The state and the metrics of all updates, on the host and on the device, and the state
    on the host after a restart and one update more."""
    host = agent_on(*envs.make("gymnasium/Certain-v0"), request.param)
    device = agent_on(CERTAIN, CERTAIN.default_params, request.param)

    def train(key):
        return jax.lax.scan(lambda s, _: device.train_step(s), device.init(key), None, UPDATES)

    there = run_once(train, jax.random.split(jax.random.key(0), 1)[0])
    there = jax.tree.map(lambda x: x[None], there)
    state, metrics = initial(host), []
    with pytest.MonkeyPatch.context() as patch:  # few updates: compiled fast, not well
        patch.setattr(collect, "compiled", partial(collect.compiled, once=True))
        program = HostProgram(host, state, 1)
    for _ in range(UPDATES):
        state, found = program.step(state)
        metrics.append(found)
    metrics = jax.tree.map(lambda *x: np.stack(x, axis=1), *metrics)
    here = jax.device_get(state), metrics
    program._going = False  # as in another process
    resumed, _ = program.step(state)
    program.close()
    return here, there, jax.device_get(resumed)


def replays(state):
    """The rows of the first environment in all replays of a state, oldest first."""
    rings = getattr(state, "replays", None) or [getattr(state, "replay", None)]
    for ring in filter(None, rings):
        n = int(ring.size[0, 0])
        assert n < ring.rows.reset.shape[1]
        yield jax.tree.map(lambda x, n=n: np.asarray(x)[0, :n, 0], ring.rows)


def test_what_is_learned_on_the_host_is_what_is_learned_on_the_device(both):
    (here, metrics), (there, expected), _ = both
    assert metrics.keys() == expected.keys() and metrics["episodes"].sum() >= 4 * 8
    for name in metrics:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=2e-2, atol=2e-3)
    for rows, others in zip(replays(here), replays(there), strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3), rows, others)


@pytest.mark.parametrize("both", ["r2i", "hieros"], indirect=True)
def test_replays_on_the_host_have_a_row_for_the_last_observation_of_every_episode(both):
    (state, _), _, _ = both
    for every, rows in zip((1, 2), replays(state), strict=False):
        times = np.array([0, 1, 2, 3] if every == 1 else [0, 2, 3])
        at = np.resize(times, rows.reset.shape[0])
        np.testing.assert_array_equal(rows.reset, at == 0)
        if every == 2:
            assert len(at) >= 10 * 3 and not rows.terminal[at != 3].any()
            continue
        assert len(at) == 10 * 4 + 2
        np.testing.assert_array_equal(rows.obs[:, 0], at)
        paid = np.where(at[1:] == 0, 0, rows.action[:-1])
        np.testing.assert_array_equal(rows.reward, [0, *paid])
        acted = np.concatenate([[0], rows.action[:-1]])
        np.testing.assert_array_equal(rows.terminal, (at == 3) & (acted > 0))
        assert 0 < rows.terminal.sum() < 10


@pytest.mark.parametrize("both", ["r2i", "hieros"], indirect=True)
def test_a_resumed_run_begins_its_new_episodes_with_a_first_row(both):
    (state, _), _, resumed = both
    for before, after in itertools.zip_longest(replays(state), replays(resumed)):
        n = len(before.reset)
        jax.tree.map(lambda x, y, n=n: np.testing.assert_array_equal(x, y[:n]), before, after)
        assert after.reset[n] and after.reward[n] == 0 and not after.terminal[n]
        assert not before.terminal[-1] and len(after.reset) >= n + 2 * 3


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
