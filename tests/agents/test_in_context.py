import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssmrl
from ssmrl.agents.in_context import InContext
from ssmrl.agents.in_context_config import InContextConfig
from ssmrl.agents.protocol import entropy_weight, rollout
from ssmrl.envs.contract import Dict, Tuple
from ssmrl.envs.meta import Mixture
from ssmrl.errors import UsageError
from ssmrl.memory import GRU, WithOffset, make
from ssmrl.memory.nnx import FrozenParam, SSMParam
from ssmrl.memory.nnx import Memory as MemoryModule
from ssmrl.nets.optimizer import adam
from tests.agents.probes import Caution, Corner, Match, Pair, Recall, Salary
from tests.envs.probes import run_once

SMALL = InContextConfig(
    num_envs=8, rollout=12, epochs=2, minibatches=2, encoder=(16,), head=(16,), learning_rate=3e-3
)


def agent(env, memory="s5", params=None, **options):
    cell = {"features": 16, "layers": 1} | ({"state": 16} if memory == "s5" else {})
    config = dataclasses.replace(SMALL, **options)
    return InContext(config, make(memory, **cell), env, params or env.default_params)


def train(agent, updates, seed=0):
    """The last state, and the metrics of every update stacked."""

    def run(key):
        return jax.lax.scan(lambda s, _: agent.train_step(s), agent.init(key), None, updates)

    return run_once(run, jax.random.key(seed))


def collect(agent, state, seed):
    """One rollout from a state: actors afterwards, transitions, what is known of episodes."""
    keys = jax.random.split(jax.random.key(seed), (agent.config.rollout, agent.config.num_envs + 1))

    def run(state, keys):
        actors, steps = rollout(agent, state, keys)
        return actors, agent._transitions(state, actors, steps), steps.episode

    return run_once(run, state, keys)


def last_return(metrics, updates=10):
    return float(jnp.mean(metrics["return"][-updates:]))


# ------------------------------------------------------------------ one update


@pytest.mark.parametrize("memory", ["s5", "gru", "mlp"])
def test_the_ratio_is_one_before_the_first_gradient_step(memory):
    a = agent(Recall(length=5), memory, normalize_observation=True)
    state, _ = train(a, 3)  # carries are no longer zero and episodes begin anywhere
    _, rollout, _ = collect(a, state, 1)
    state, batch = run_once(a._estimate, state, rollout)
    assert int(jnp.sum(rollout.reset[1:])) > 0 and not bool(jnp.all(rollout.reset[0]))

    def read_again(params):
        model = nnx.merge(a.graph, params)
        _, pi, value = model(state.actors.carry, batch.rollout.obs, rollout.reset)
        return pi.log_prob(rollout.action), value

    log_prob, value = run_once(read_again, state.params)
    np.testing.assert_allclose(jnp.exp(log_prob - rollout.log_prob), 1.0, atol=2e-6)
    np.testing.assert_allclose(value, rollout.value, atol=1e-5)


def test_the_first_gradient_step_sees_no_kl_and_clips_nothing():
    a = agent(Recall(), epochs=1, minibatches=1)
    _, metrics = train(a, 2)
    np.testing.assert_allclose(metrics["kl"], 0.0, atol=1e-6)
    np.testing.assert_allclose(metrics["clip_fraction"], 0.0)


def test_reset_flags_mark_the_first_observation_of_an_episode():
    a = agent(Recall(length=5))
    _, rollout, _ = collect(a, run_once(a.init, jax.random.key(0)), 1)
    first = np.arange(12) % 5 == 0
    np.testing.assert_array_equal(rollout.reset, np.broadcast_to(first[:, None], (12, 8)))
    np.testing.assert_array_equal(rollout.obs["start"][..., 0] == 1, rollout.reset)
    shown = np.asarray(rollout.obs["observation"])[..., 0] != 0
    np.testing.assert_array_equal(shown, rollout.reset)


def test_one_program_serves_all_updates_and_leaves_types_alone():
    a = agent(Recall())
    state = run_once(a.init, jax.random.key(0))
    step = jax.jit(a.train_step)
    following = step(state)[0]
    step(following)
    assert step._cache_size() == 1
    types = [jax.tree.map(jax.typeof, s) for s in (state, following)]
    assert types[0] == types[1]
    assert int(following.update) == 1


def test_seeds_trained_together_equal_seeds_trained_alone():
    a = agent(Recall(), normalize_reward=True)
    keys = jax.random.split(jax.random.key(0), 2)

    def two_updates(key):
        return jax.lax.scan(lambda s, _: a.train_step(s), a.init(key), None, 2)[0].params

    together = run_once(jax.vmap(two_updates), keys)
    alone = [run_once(two_updates, key) for key in keys]
    # Adam turns rounding of gradients near 0 into steps of up to its rate, 3e-3
    for both, one, two in zip(*map(jax.tree.leaves, (together, *alone)), strict=True):
        np.testing.assert_allclose(both, jnp.stack([one, two]), rtol=0, atol=1e-3)
    first, second = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(a)]) for a in alone)
    assert float(jnp.max(jnp.abs(first - second))) > 0.1


def test_the_learning_rate_and_the_entropy_weight_follow_their_schedules():
    a = agent(Recall(), total_steps=8 * 12 * 4, anneal=True, entropy_coef=1.0, entropy_final=0.0)
    _, metrics = train(a, 5)
    np.testing.assert_allclose(
        metrics["learning_rate"], 3e-3 * np.array([1, 0.75, 0.5, 0.25, 0]), rtol=1e-5
    )
    coefficients = [float(entropy_weight(a.config, jnp.int32(i))) for i in (0, 2, 4, 9)]
    np.testing.assert_allclose(coefficients, [1.0, 0.5, 0.0, 0.0], atol=1e-6)


def test_the_recurrence_has_its_own_rate_and_never_decays():
    a = agent(Recall())
    params = run_once(a.init, jax.random.key(0)).params
    zero = jax.tree.map(jnp.zeros_like, params)
    one = jax.tree.map(jnp.ones_like, params)

    def moved(grads, **options):
        rule = {"ssm_learning_rate": 1.0, "weight_decay": 0.0, "max_grad_norm": 1e9} | options
        optimizer = adam(params, lambda _: 0.1, **rule)
        updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
        is_variable = {"is_leaf": lambda v: isinstance(v, nnx.Variable)}
        groups = {"ssm": [], "regular": []}
        for kind, u in zip(
            jax.tree.leaves(params, **is_variable), jax.tree.leaves(updates), strict=True
        ):
            groups["ssm" if isinstance(kind, SSMParam) else "regular"].append(jnp.max(jnp.abs(u)))
        return {name: float(jnp.max(jnp.stack(sizes))) for name, sizes in groups.items()}

    decayed = moved(zero, weight_decay=0.5)
    assert decayed["ssm"] == 0 and decayed["regular"] > 0.01
    slow = moved(one, ssm_learning_rate=0.25)
    np.testing.assert_allclose([slow["ssm"], slow["regular"]], [0.025, 0.1], rtol=1e-3)


def test_what_a_memory_calls_frozen_is_not_trained():
    spec = WithOffset(GRU(features=4), "output")
    module = MemoryModule(spec, 4, rngs=nnx.Rngs(0))
    params = nnx.state(module, nnx.Param)
    rule = adam(params, lambda _: 0.1, ssm_learning_rate=1.0, weight_decay=0.1, max_grad_norm=1.0)
    ones = jax.tree.map(jnp.ones_like, params)
    updates = jax.jit(rule.update)(ones, rule.init(params), params)[0]
    frozen = nnx.state(module, FrozenParam)
    moved = [bool(jnp.any(u != 0)) for u in jax.tree.leaves(updates)]
    assert sum(moved) == 1 and len(moved) == 1 + len(jax.tree.leaves(frozen))


# ------------------------------------------------------------------ ends of episodes


@pytest.mark.parametrize(("cut", "value"), [(True, 1 / (1 - 0.8)), (False, None)])
def test_values_look_through_time_limits_and_stop_at_terminal_states(cut, value):
    a = agent(
        Salary(length=4, cut=cut), gamma=0.8, value_coef=1.0, learning_rate=1e-2, entropy_coef=0.0
    )
    state, _ = train(a, 200)
    _, rollout, _ = collect(a, state, 5)
    left = 4 - np.arange(12) % 4
    want = np.full(12, value) if cut else (1 - 0.8**left) / (1 - 0.8)
    # treating the time limit as an end, or not, moves each by more than 2
    np.testing.assert_allclose(np.mean(rollout.value, axis=1), want, atol=0.6)


def test_the_value_at_a_time_limit_is_read_with_the_episode_s_own_memory():
    a = agent(Salary(length=4, cut=True))
    state, _ = train(a, 2)
    _, rollout, _ = collect(a, state, 5)
    model = nnx.merge(a.graph, state.params)
    # the final observation of an episode, read on from the carry of its last step
    carry = jax.tree.map(jnp.zeros_like, state.actors.carry)
    at = lambda t: jax.tree.map(lambda x: x[t], rollout.obs)  # noqa: E731
    step = jax.jit(model.step)
    for t in range(4):
        carry, _, _ = step(carry, at(t), jnp.full(8, t == 0))
    n = 2
    final = {
        "observation": jnp.zeros((8, 1)),
        "action": rollout.action[3],
        "reward": jnp.ones((8, 1)),
        "start": jnp.zeros((8, 1)),
    }
    assert int(jnp.max(rollout.action)) < n
    _, _, value = step(carry, final, jnp.zeros(8, bool))
    assert bool(jnp.all(rollout.truncated[3]))
    np.testing.assert_allclose(rollout.next_value[3], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rollout.next_value[2], rollout.value[3], rtol=1e-6)


# ------------------------------------------------------------------ learning


@pytest.mark.parametrize("memory", ["s5", "gru"])
def test_a_memory_learns_to_recall(memory):
    _, metrics = train(agent(Recall(length=6), memory, num_envs=16, rollout=24), 80)
    assert last_return(metrics) > 0.95


def test_without_memory_nothing_can_be_recalled():
    _, metrics = train(agent(Recall(length=6), "mlp", num_envs=16, rollout=24), 80)
    assert last_return(metrics, 30) < 0.3


def test_environments_side_by_side_are_learned_each_in_places_of_its_own():
    a = agent(Mixture([Recall(length=3), Recall(length=6)]), num_envs=16, rollout=24)
    state, metrics = train(a, 80)
    assert [share.episode_length.shape for share in state.actors.env_state] == [(8,), (8,)]
    assert last_return(metrics) > 0.95 and 3.5 < float(metrics["length"][-1]) < 4.5


def test_continuous_actions_are_learned_with_normalised_observations_and_rewards():
    options = {"entropy_coef": 0.0, "num_envs": 32, "rollout": 16, "learning_rate": 1e-2}
    a = agent(Match(), normalize_observation=True, normalize_reward=True, **options)
    _, metrics = train(a, 120)
    first, last = float(metrics["return"][0]), last_return(metrics)
    assert first < -3.0 and last > -0.5


@pytest.mark.parametrize("state_std", [True, False])
def test_the_deviation_of_actions_follows_the_state_where_it_may(state_std):
    a = agent(Caution(), "mlp", state_std=state_std, entropy_coef=0.1, num_envs=16, rollout=16)
    state, _ = train(a, 60)

    def deviation(state, shown):
        obs = state.actors.obs | {"observation": jnp.full((16, 1), shown)}
        pi = nnx.merge(a.graph, state.params).step(state.actors.carry, obs, jnp.ones(16, bool))[1]
        return jnp.mean(pi.distribution.scale)

    careful, careless = (float(run_once(deviation, state, shown)) for shown in (1.0, -1.0))
    assert careful > 0
    if state_std:
        assert careless > 2 * careful
    else:
        assert careless == careful


def test_several_integers_are_acted_at_once_on_dictionaries_of_observations():
    _, metrics = train(agent(Pair(), num_envs=16, rollout=16), 60)
    assert float(metrics["return"][0]) < 1.2 and last_return(metrics) > 1.9


def test_pictures_are_told_apart():
    _, metrics = train(agent(Corner(), "mlp", num_envs=16, rollout=16, image_depth=4), 40)
    assert float(metrics["return"][0]) < 0.5 and last_return(metrics) > 0.9


# ------------------------------------------------------------------ acting


def test_the_policy_samples_or_is_greedy_and_keeps_within_bounds():
    a = agent(Salary(actions=Match.actions))
    state = run_once(a.init, jax.random.key(0))
    policy = a.policy(state)
    carry = policy.init_carry((8,))
    reset = jnp.ones(8, bool)
    act = lambda key, greedy: policy.act(carry, state.actors.obs, reset, key, greedy)  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 2)
    samples = [act(k, False)[1] for k in keys]
    greedy = [act(k, True)[1] for k in keys]
    assert samples[0].shape == (8, 1) and float(jnp.max(jnp.abs(jnp.stack(samples)))) <= 2.0
    assert not np.array_equal(samples[0], samples[1])
    np.testing.assert_array_equal(greedy[0], greedy[1])
    assert act(keys[0], True)[2]["value"].shape == (8,)


def test_what_happened_on_the_way_is_told_unless_it_is_switched_off():
    assert set(agent(Recall()).obs_space.spaces) == {"observation", "action", "reward", "start"}
    quiet = agent(Recall(), previous_action=False, previous_reward=False)
    assert set(quiet.obs_space.spaces) == {"observation", "start"}
    _, metrics = train(quiet, 1)
    assert np.isfinite(metrics["loss"]).all()


def test_a_policy_is_refused_on_an_environment_with_other_spaces():
    a = agent(Recall())
    longer = Recall(length=9)
    assert a.evaluation_env(longer, longer.default_params)[0].env.env is longer
    with pytest.raises(UsageError, match="same spaces"):
        a.evaluation_env(Match(), Match().default_params)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"agent": {"name": "in_contxt"}}, "nearest: 'in_context'"),
        ({"agent": {"name": "in_context", "num_env": 3}}, "nearest: 'num_envs'"),
        ({"memory": {"name": "lstn"}}, "unknown memory 'lstn'"),
        ({"memory": None}, "needs an entry 'memory'"),
        ({"agent": {"name": "in_context", "minibatches": 3}}, "must divide"),
        ({"agent": {"name": "in_context", "rollout": 0}}, "rollout must be positive"),
        ({"agent": {"name": "in_context", "gamma": 2.0}}, "gamma must be from 0 to 1, got 2"),
        ({"agent": {"name": "in_context", "gamma": float("nan")}}, "gamma must be from 0 to 1"),
        ({"agent": {"name": "in_context", "clip": -1.0}}, "clip must be positive"),
        ({"agent": {"name": "in_context", "entropy_coef": -1.0}}, "must be 0 or more"),
        ({"agent": {"name": "in_context", "encoder": []}}, "at least one layer"),
        ({"agent": {"name": "in_context", "normalize_observation": True}}, "Box observation"),
    ],
)
def test_wrong_configurations_are_refused(config, message):
    config = {"agent": {"name": "in_context"}, "memory": {"name": "s5"}} | config
    with pytest.raises(UsageError, match=message):
        ssmrl.make_agent(config, Pair(), Pair().default_params)


def test_an_action_space_it_cannot_handle_is_refused_at_construction():
    env = Recall(actions=Tuple([Match.actions, Pair.actions]))
    with pytest.raises(UsageError, match=r"Discrete, MultiDiscrete (or|and) Box"):
        agent(env)
    with pytest.raises(UsageError, match="Discrete, MultiDiscrete, Box, Dict or Tuple"):
        agent(Recall(observations=Dict({"x": object()})))
