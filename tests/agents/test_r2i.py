import dataclasses
import itertools
from types import SimpleNamespace

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, struct

import ssmrl
from ssmrl.agents.protocol import rollout, rollout_keys
from ssmrl.agents.r2i import R2I
from ssmrl.agents.r2i_actor import Actor, random_actions, to_env
from ssmrl.agents.r2i_config import R2IConfig
from ssmrl.agents.r2i_imagination import goes_on, imagine, judge, merged
from ssmrl.agents.r2i_optimizer import adam
from ssmrl.agents.r2i_state import store
from ssmrl.envs.contract import Box, Discrete, EnvState, MultiDiscrete, Tuple
from ssmrl.envs.meta import Mixture
from ssmrl.errors import UsageError
from ssmrl.memory import make
from ssmrl.memory.nnx import SSMParam
from ssmrl.world_model import features
from tests.agents.probes import Match, Pair, Probe, Recall, Salary
from tests.envs.probes import run_once

SMALL = R2IConfig(
    num_envs=8,
    rollout=8,
    batch=8,
    length=16,
    train_ratio=4,
    prefill=192,
    replay_size=4000,
    groups=4,
    classes=4,
    deter=16,
    units=16,
    mlp_units=16,
    head_units=16,
    actor_layers=1,
    actor_units=16,
    critic_layers=1,
    critic_units=16,
    bins=21,
    bin_limit=1.0,
    critic_limit=1.0,
    imagined_starts=32,
    horizon=4,
    gamma=0.9,
)
LEARNING = {
    "units": 32,
    "deter": 32,
    "mlp_units": 32,
    "head_units": 32,
    "actor_units": 32,
    "critic_units": 32,
    "batch": 16,
    "length": 32,
    "train_ratio": 32,
    "prefill": 320,
    "imagined_starts": 64,
    "horizon": 2,
    "gamma": 0.5,
    "bin_limit": 0.12,
    "critic_limit": 0.3,
    "reward_scale": 10.0,
    "dyn_scale": 0.1,
    "rep_scale": 0.02,
    "model_lr": 5e-3,
    "actor_lr": 3e-3,
    "critic_lr": 3e-3,
    "entropy_coef": 1e-3,
    "actor_unimix": 0.05,
}


@struct.dataclass
class Bits(EnvState):
    seen: jax.Array  # (3,) the latest first


class Lag(Probe):
    """Shows a random bit at each step; the one shown two steps ago is to be named: 1 at most.

    One step back is no feat: the policy is given the latent of this step, and what the model
    made of the one before.
    """

    length = 12

    def observe(self, state):
        return (2.0 * state.seen[0] - 1.0).reshape(1)

    def reset_env(self, key, params):
        bit = jax.random.bernoulli(key).astype(jnp.float32)
        state = Bits(time=jnp.int32(0), seen=jnp.zeros(3).at[0].set(bit))
        return self.observe(state), state

    def step_env(self, key, state, action, params):
        right = jnp.where(action == state.seen[2], 0.1, -0.1)
        reward = jnp.where(state.time >= 2, right, 0.0)
        bit = jax.random.bernoulli(key).astype(jnp.float32)
        seen = jnp.concatenate([bit[None], state.seen[:2]])
        state = Bits(time=state.time + 1, seen=seen)
        return self.observe(state), state, reward, state.time >= self.length, {}


def agent(env, memory="s5", **options):
    config = dataclasses.replace(SMALL, **options)
    cell = {"features": config.units, "layers": 1}
    cell |= {"state": 16, "norm": "post", "dt_min": 0.1, "dt_max": 1.0} if memory == "s5" else {}
    return R2I(config, make(memory, **cell), env, env.default_params)


def started(a, seed=0):
    return run_once(a.init, jax.random.key(seed))


def collected(a, random=True):
    """The rows of one rollout from the start, `(2 * rollout, B)`, in the order of the replay."""
    state = started(a)
    if not random:
        state = state._replace(update=jnp.int32(a.config.prefill))

    def run(state, key):
        actors, records = rollout(a, state, rollout_keys(a.config, key)[1])
        return actors, store(state.replay, records.rows, records.valid), records.episode

    return state, *run_once(run, state, jax.random.key(1))


# ------------------------------------------------------------------ rows


@pytest.mark.parametrize(("cut", "compat"), [(False, False), (True, False), (True, True)])
def test_an_episode_makes_a_row_for_each_observation_its_last_one_included(cut, compat):
    a = agent(Recall(length=3, cut=cut), treat_truncation_as_terminal=compat)
    _, _, ring, info = collected(a)
    steps = np.arange(8 + 2)  # two episodes ended, each with a row more than steps
    np.testing.assert_array_equal(ring.size, np.full(8, 10))
    rows = jax.tree.map(lambda x: np.asarray(x)[:10], ring.rows)
    at = np.broadcast_to((steps % 4)[:, None], (10, 8))
    np.testing.assert_array_equal(rows.reset, at == 0)
    np.testing.assert_array_equal(rows.terminal, (at == 3) & (not cut or compat))
    np.testing.assert_array_equal(rows.obs[..., 0] != 0, at == 0)  # the cue
    np.testing.assert_array_equal(rows.reward != 0, at == 3)
    cue, action, reward = rows.obs[0, :, 0], rows.action[2], rows.reward[3]
    np.testing.assert_array_equal(reward, np.where(action == (cue > 0), 1.0, -1.0))
    np.testing.assert_array_equal(np.sum(info["episode_end"], axis=0), np.full(8, 2))


def test_what_the_policy_carried_into_a_row_is_stored_with_it_on_request():
    a = agent(Recall(length=3), start="stored")
    _, actors, ring, _ = collected(a, random=False)
    carry = ring.rows.carry
    np.testing.assert_array_equal(carry.action[1:10], ring.rows.action[:9])
    assert agent(Recall()).replay_bytes < a.replay_bytes
    # the first row of an episode, and the last one before it, were entered with one carry
    for x in jax.tree.leaves(carry.latent):
        assert np.any(x[3] != x[2])
    np.testing.assert_array_equal(actors.carry.action, ring.rows.action[9])


def test_a_reward_that_is_observed_stands_in_the_row_it_led_to():
    a = agent(Recall(length=3), previous_reward=True)
    _, _, ring, _ = collected(a)
    rows = jax.tree.map(lambda x: np.asarray(x)[:10], ring.rows)
    assert sorted(rows.obs) == ["observation", "reward"]
    assert np.any(rows.reward != 0)
    np.testing.assert_array_equal(rows.obs["reward"][..., 0], rows.reward)
    with pytest.raises(UsageError, match="same spaces"):
        a.evaluation_env(Match(), Match().default_params)
    a.evaluation_env(Recall(), Recall().default_params)


# ------------------------------------------------------------------ imagination


def test_imagined_latents_and_actions_are_paired_as_in_acting():
    a = agent(Recall(length=3))
    state, actors, _, _ = collected(a, random=False)

    def compare(params, start, obs, key):
        model = merged(a.graphs.model, params.model)
        actor = merged(a.graphs.actor, params.actor)
        path = imagine(model, actor, start, a.config, key)
        going_on = jnp.zeros(8, bool)
        acted = model.observe_step(start, path.action[0], obs, going_on, key)
        return path, acted, features(start, a.config.policy_input)

    path, acted, read = run_once(
        compare, state.params, actors.carry.latent, actors.obs, jax.random.key(3)
    )
    assert path.input.shape[:2] == (5, 8) and path.action.shape == (4, 8)
    np.testing.assert_array_equal(path.input[0], read)
    # h of the next step depends on z and a of this one alone, not on the observation to come
    np.testing.assert_allclose(path.latent.deter[1], acted.deter, atol=1e-6)
    assert np.abs(path.latent.deter[2] - acted.deter).max() > 1e-3


def test_a_terminal_start_teaches_nothing():
    a = agent(Recall(length=3))
    state = started(a)

    def weights(params, key):
        model = merged(a.graphs.model, params.model)
        actor = merged(a.graphs.actor, params.actor)
        critic = merged(a.graphs.critic, params.critic)
        start = model.initial((2,))
        path = imagine(model, actor, start, a.config, key)
        return judge(model, critic, path, jnp.array([1.0, 0.0]), a.config)

    reward, returns, value, weight = run_once(weights, state.params, jax.random.key(0))
    assert reward.shape == returns.shape == weight.shape == (4, 2) and value.shape == (5, 2)
    assert float(weight[0, 0]) == 1.0
    np.testing.assert_array_equal(weight[:, 1], 0.0)


@pytest.mark.parametrize("soft", [False, True])
def test_an_end_that_is_likely_counts_wholly_or_by_its_chance(soft):
    """A model that gives every step a chance of 0.6 or 0.4 to be followed by another."""
    a = agent(Recall(length=3), soft_continue=soft)
    for chance, hard in ((0.6, 1.0), (0.4, 0.0)):
        unsure = SimpleNamespace(cont=lambda _, p=chance: distrax.Bernoulli(probs=jnp.full(2, p)))
        going = goes_on(unsure, None, a.config)
        np.testing.assert_allclose(going, chance if soft else hard, atol=1e-6)


def gradients(a, key):
    """Of the behaviour loss, with respect to actor and critic, from the initial latent."""
    state = started(a)
    # a critic that is zero everywhere has nothing to say about actions
    noisy = jax.tree.map(
        lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape),
        state.learner.params,
    )
    learner = state.learner._replace(params=noisy)

    def grad(learner, key):
        start = a._initial_carry(learner.params.model, (8,)).latent

        def loss(trained):
            return a._behaviour_loss(
                learner.params.model, trained, learner, start, jnp.ones(8), 0.0, key
            )

        return jax.grad(loss, has_aux=True)((learner.params.actor, learner.params.critic))[0]

    return run_once(grad, learner, key)


def test_continuous_policies_learn_through_the_model_s_gradient():
    actor, critic = gradients(agent(Match()), jax.random.key(0))
    for grads in (actor, critic):
        assert max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(grads)) > 1e-5


# ------------------------------------------------------------------ training


def trained(a, steps, seed=0):
    """The last state, and the metrics of every train step stacked."""

    def run(key):
        return jax.lax.scan(lambda s, _: a.train_step(s), a.init(key), None, steps)

    return run_once(run, jax.random.key(seed), level=1)


def test_it_learns_to_recall_and_counts_its_updates():
    a = agent(Lag(), **LEARNING)
    state, metrics = trained(a, 260, seed=1)  # 90 updates before seed 0
    assert float(jnp.nanmean(metrics["return"][-25:])) > 0.75
    assert a.config.updates == 4
    counts = {int(x) for x in jax.tree.leaves(state.learner.optimizers) if x.shape == ()}
    assert counts == {4 * (260 - 5)}  # 320 steps of prefill are five rollouts
    loss = np.asarray(metrics["model/loss"])
    assert (loss[:5] == 0).all() and (loss[5:] > 0).all()
    assert int(jnp.max(state.replay.size)) == a.config.capacity


def test_without_memory_nothing_can_be_recalled():
    _, metrics = trained(agent(Lag(), "mlp", **LEARNING), 260)
    assert abs(float(jnp.nanmean(metrics["return"][-100:]))) < 0.15


def test_one_program_serves_all_steps_with_every_option_switched_on():
    a = agent(
        Pair(), start="stored", burn_in=2, sampler="time_balanced", weight_decay=0.01, prefill=144
    )
    step = jax.jit(a.train_step, compiler_options={"xla_backend_optimization_level": 0})
    states = [started(a)]
    for _ in range(4):
        state, metrics = step(states[-1])
        states.append(state)
    assert step._cache_size() == 1
    types = [jax.tree.map(jax.typeof, s) for s in states]
    assert types[0] == types[-1]
    assert all(np.isfinite(v) for v in metrics.values())
    same = [
        all(
            np.array_equal(x, y)
            for x, y in zip(*map(jax.tree.leaves, (s.params, t.params)), strict=True)
        )
        for s, t in itertools.pairwise(states)
    ]
    assert same == [True, True, True, False]  # 144 steps of prefill are three rollouts


def test_the_recurrence_has_its_own_rate_and_only_matrices_decay():
    a = agent(Recall())
    params = started(a).params.model
    zeros, ones = (jax.tree.map(f, params) for f in (jnp.zeros_like, jnp.ones_like))
    options = {"eps": 1e-8, "max_grad_norm": 1e9}

    def moved(grads, at, **more):
        rule = adam(params, 0.1, **options, **more)
        updates = run_once(lambda g: rule.update(g, rule.init(params), at)[0], grads)
        variables = {"is_leaf": lambda v: isinstance(v, nnx.Variable)}
        kinds = [
            "ssm" if isinstance(v, SSMParam) else v.get_value().ndim > 1
            for v in jax.tree.leaves(params, **variables)
        ]
        found = {}
        for kind, x in zip(kinds, jax.tree.leaves(updates), strict=True):
            found[kind] = max(found.get(kind, 0.0), float(jnp.max(jnp.abs(x))))
        return found

    slow = moved(ones, params, ssm_learning_rate=0.25)
    np.testing.assert_allclose([slow["ssm"], slow[True], slow[False]], [0.025, 0.1, 0.1], rtol=1e-3)
    decayed = moved(zeros, ones, weight_decay=0.5)
    np.testing.assert_allclose(
        [decayed["ssm"], decayed[True], decayed[False]], [0, 0.05, 0], atol=1e-6
    )


# ------------------------------------------------------------------ acting


def test_actions_keep_within_bounds_and_their_middle_is_zero_inside():
    space = Box(jnp.array([-1.0, 0.0]), jnp.array([3.0, 10.0]), (2,))
    inside = jnp.array([[-1.0, 1.0], [0.0, 0.0], [5.0, -5.0]])
    np.testing.assert_allclose(
        to_env(space, inside), [[-1.0, 10.0], [1.0, 5.0], [3.0, 0.0]], rtol=1e-6
    )
    drawn = random_actions(space, jax.random.key(0), (200,))
    assert drawn.shape == (200, 2) and float(jnp.max(jnp.abs(drawn))) <= 1.0
    assert float(jnp.std(drawn)) > 0.5


@pytest.mark.parametrize("space", [Discrete(3), MultiDiscrete((2, 3)), Match.actions])
def test_every_action_keeps_a_chance(space):
    actor = Actor(space, 4, 1, 8, 0.01, rngs=nnx.Rngs(0))
    pi = actor(1e4 * jnp.ones((5, 4)))
    sample = pi.sample(seed=jax.random.key(0))
    assert pi.log_prob(sample).shape == pi.entropy().shape == (5,)
    if isinstance(space, Discrete):
        probs = jnp.exp(jnp.stack([pi.log_prob(jnp.full(5, i)) for i in range(3)]))
        np.testing.assert_allclose(jnp.sum(probs, axis=0), 1.0, rtol=1e-5)
        assert float(jnp.min(probs)) >= 0.01 / 3 - 1e-6
    if isinstance(space, Box):
        assert float(jnp.max(jnp.abs(pi.mode()))) <= 1.0


def test_a_policy_is_refused_on_an_environment_with_other_spaces():
    a = agent(Recall())
    with pytest.raises(UsageError, match="same spaces"):
        a.evaluation_env(Match(), Match().default_params)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "agent.horizon must be positive, got 0"),
        ({"train_ratio": 3}, "are not a multiple of batch \\* length = 1024"),
        ({"policy_input": "deter"}, "agent.policy_input is one of output, hidden, full; got"),
        ({"start": "learned"}, "agent.start is one of zero, stored; got 'learned'"),
        ({"sampler": "unifrm"}, "unknown replay sampler 'unifrm'"),
        ({"sampler_temperature": 3.0, "sampler": "time_balanced"}, "lies in 0 to 1; got 3"),
        ({"burn_in": -1}, "agent.burn_in must be 0 or more, got -1"),
        ({"gamma": 1.5}, "agent.gamma must be from 0 to 1, got 1.5"),
        ({"actor_clip": 0.0}, "agent.actor_clip must be positive, got 0"),
        ({"prefill": 10}, "there would be nothing to train on"),
        ({"replay_size": 100}, "leaves 12 rows for each of 8 environments"),
        ({"replay_size": 10**13}, "replay needs .* TB, more than 80% of the device's"),
        ({"imagined_starts": 5000}, "must lie in 1 to batch"),
        ({"classes": 1}, "needs classes >= 2"),
        ({"num_env": 3}, "nearest: 'num_envs'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    config = {"agent": {"name": "r2i"} | options, "memory": {"name": "mlp"}}
    with pytest.raises(UsageError, match=message):
        ssmrl.make_agent(config, Salary(), Salary().default_params)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(-jnp.inf, jnp.inf, (1,)), "bounds, which must be finite"),
        (Tuple([Match.actions, Pair.actions]), "Discrete, MultiDiscrete and Box"),
    ],
)
def test_an_action_space_it_cannot_handle_is_refused_at_construction(space, message):
    with pytest.raises(UsageError, match=message):
        agent(Recall(actions=space))


def test_environments_side_by_side_have_places_of_their_own():
    a = agent(Mixture([Recall(length=2), Recall(length=3)]), previous_reward=True)
    state = jax.eval_shape(a.init, jax.random.key(0))
    half = (a.config.num_envs // 2,)
    assert [share.episode_length.shape for share in state.actors.env_state] == [half, half]
    after, metrics = jax.eval_shape(a.train_step, state)
    assert after == state and metrics["return"].shape == ()
