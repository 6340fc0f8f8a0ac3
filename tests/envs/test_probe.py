"""The probe environments ask what the tasks ask, and pay for the right answer."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import make, probe
from ssmrl.envs.contract import Box, Discrete, MultiDiscrete, flatten
from ssmrl.errors import UsageError
from ssmrl.memory.diagnostics.tasks import TASKS
from ssmrl.memory.diagnostics.tasks.base import features
from tests.envs.probes import run_once
from tests.memory.task_references import REFERENCES, UNKNOWN, episodes

LENGTH, STEPS = 24, 60
NAMES = dict(zip(probe.ENVIRONMENTS, TASKS, strict=True))  # FlipFlop: flip_flop


@cache
def played(name):
    """(env, what happened): two environments of one key, one answered rightly, one wrongly."""
    env, params = make(f"probe/{name}", length=LENGTH)

    def answer(target, right):
        if env.task.kind == "real":
            return target + jnp.where(right, 0.0, 0.5)
        best = target if env.task.kind == "class" else jnp.argmax(target).astype(jnp.int32)
        return (best + jnp.where(right, 0, 1)) % env.task.outputs

    def play(right, key):
        def step(now, key):
            obs, state = now
            shown = obs, state.shown
            action = answer(state.shown.target, right)
            obs, state, *result, info = env.step(key, state, action, params)
            return (obs, state), (*shown, *result, info["final_observation"])

        key_reset, key_steps = jax.random.split(key)
        start = env.reset(key_reset, params)
        return jax.lax.scan(step, start, jax.random.split(key_steps, STEPS))[1]

    both = jax.vmap(play, (0, None))
    out = run_once(both, jnp.array([True, False]), jax.random.key(0))
    return env, [jax.tree.map(lambda x, i=i: np.asarray(x[i]), out) for i in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answer_pays_at_scored_steps_and_a_wrong_one_does_not(name):
    env, (right, wrong) = played(name)
    _, shown, reward, *_ = right
    np.testing.assert_array_equal(reward, shown.scored)
    assert reward.dtype == np.float32 and reward.sum() > 0
    worth = 0.5 if env.task.kind == "real" else 0.0
    np.testing.assert_allclose(wrong[2], shown.scored * worth, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_is_one_of_the_task_and_ends_with_its_last_step(name):
    env, (right, _) = played(name)
    obs, shown, _, terminated, truncated, final = right
    assert not truncated.any() and terminated.any()
    np.testing.assert_array_equal(final[terminated], obs[terminated])
    np.testing.assert_array_equal(final[:-1][~terminated[:-1]], obs[1:][~terminated[:-1]])
    reset = np.append(True, terminated[:-1])
    lengths = np.diff(np.append(np.flatnonzero(reset), STEPS))[:-1]
    assert lengths.max() <= LENGTH and lengths.min() >= LENGTH // 2
    np.testing.assert_array_equal(
        flatten(env.observation_space(env.default_params), obs), features(env.task, shown.token)
    )
    if (reference := REFERENCES.get(NAMES[name])) is None:
        return
    for tokens, target, scored in episodes(reset, shown.token, shown.target, shown.scored):
        want = np.asarray(reference(env.task, tokens))
        if env.task.kind == "class":
            np.testing.assert_array_equal(scored, want != UNKNOWN)
            np.testing.assert_array_equal(target[scored], want[scored])
        else:
            np.testing.assert_allclose(target, want, atol=1e-5)


def test_spaces_are_those_of_tokens_and_answers():
    for name, observation, action in (
        ("Copy", Discrete(6), Discrete(4)),
        ("FlipFlop", MultiDiscrete((3, 2)), Discrete(2)),
        ("Belief", Discrete(3), Discrete(4)),
    ):
        env, params = make(f"probe/{name}")
        assert repr(env.observation_space(params)) == repr(observation)
        assert repr(env.action_space(params)) == repr(action)
        assert env.num_actions == action.n
    env, params = make("probe/Delay", tones=4)
    for space in (env.observation_space(params), env.action_space(params)):
        assert isinstance(space, Box) and space.shape == (1,) and space.high == 2.0


def test_keywords_are_the_options_of_the_task():
    env, params = make("probe/GroupWord", group="A_5", length=10)
    assert env.task.group == "A_5" and params.max_steps_in_episode == 10
    assert make("probe/OverwritingRecall")[0].task.overwrite
    assert env.name == "GroupWord"
    with pytest.raises(UsageError, match=r"unknown setting.*'pears'; nearest: 'pairs'"):
        make("probe/AssociativeRecall", pears=3)
    with pytest.raises(UsageError, match="length of Copy"):
        make("probe/Copy", length=3)
