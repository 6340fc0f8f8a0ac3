import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import ssmrl
from ssmrl import memory, replay
from ssmrl.agents.hieros import Hieros
from ssmrl.agents.hieros_behaviour import behaviour_loss
from ssmrl.agents.hieros_config import HierosConfig
from ssmrl.agents.hieros_level import Level
from ssmrl.agents.hieros_subgoal import Autoencoder, novelty_reward, subgoal_reward
from ssmrl.agents.protocol import rollout, rollout_keys
from ssmrl.agents.r2i_imagination import merged
from ssmrl.agents.r2i_state import store
from ssmrl.envs.contract import Box, Discrete, EnvParams
from ssmrl.envs.meta import Mixture
from ssmrl.errors import UsageError
from ssmrl.nets.two_hot import symlog
from ssmrl.run import checkpoint, levels
from tests.agents.probes import Match, Probe
from tests.envs.probes import run_once

SMALL = HierosConfig(
    num_envs=4, rollout=16, batch=4, length=8, train_ratio=2, prefill=128, replay_size=512,
    horizon=4, imagined_starts=8, groups=3, classes=4, deter=8, units=8, mlp_layers=1,
    mlp_units=8, head_layers=1, head_units=8, actor_layers=1, actor_units=8, critic_layers=1,
    critic_units=8, bins=11, bin_limit=2.0, critic_limit=4.0, levels=2, every=4, code_groups=2,
    code_classes=3, code_layers=1, code_units=8,
)  # fmt: skip
S5 = {"features": 8, "state": 8, "layers": 1}


class Wages(Probe):
    """Episodes of 1 to 7 steps; every step pays something else, the last one most, for the
    action that the sign of the cue asks for.

    Those that would take longer are cut by a time limit. Shows the action just taken."""

    actions, observations = Discrete(3), Box(-2.0, 4.0, (3,))

    @property
    def default_params(self):
        return EnvParams(max_steps_in_episode=7)

    def reset_env(self, key, params):
        _, state = super().reset_env(key, params)
        return self.show(state, jnp.int32(3)), state

    def show(self, state, action):
        return jnp.stack([jnp.sin(state.time.astype(jnp.float32)), state.cue, 1.0 * action])

    def step_env(self, key, state, action, params):
        right = action == 1 + (state.cue > 0)
        reward = jnp.where(right, 0.2, 0.1) * (1.0 + state.time.astype(jnp.float32))
        state = state.replace(time=state.time + 1)
        over = state.time >= 5 + jnp.floor(4.5 * state.cue)
        return self.show(state, action), state, reward, over, {}

    def best(self):
        """The mean return of a policy that is always right."""
        steps = np.clip(5 + np.floor(4.5 * np.linspace(-1, 1, 1001)[:-1]), 1, 7)
        return 0.2 * np.mean(steps * (steps + 1) / 2)


def agent(env, kind="s5", **options):
    config = dataclasses.replace(SMALL, **options)
    cell = S5 if kind == "s5" else {"features": 8, "layers": 1}
    return Hieros(config, memory.make(kind, **cell), env, env.default_params)


def plain(made):
    """An initial state whose parameters are zeros: the random ones take longest to compile."""

    def begin(key):
        learners = jax.tree.map(jnp.zeros_like, jax.eval_shape(made.init, key).learners)
        state = made.init(key)._replace(learners=learners)
        carry = made._initial_carry(state.params, (made.config.num_envs,))
        return state._replace(actors=state.actors._replace(carry=carry))

    return begin


def rollouts(made, count, begin=None, anyhow=True):
    """The state after `count` rollouts without updates, and the numbers of their episodes."""

    def run(key):
        def one(state, key):
            actors, found = rollout(made, state, rollout_keys(made.config, key)[1])
            rings = tuple(map(store, state.replays, found.rows, found.valid))
            return state._replace(actors=actors, replays=rings), found.episode

        state = (begin or plain(made))(key)
        state = state._replace(update=jnp.int32(0 if anyhow else made.config.prefill))
        return jax.lax.scan(one, state, jax.random.split(key, count))

    return run_once(run, jax.random.key(0))


def stored(ring, env):
    """The rows of one environment, oldest first; the ring must not have wrapped."""
    n = int(ring.size[env])
    assert n < ring.rows.reset.shape[0]
    return jax.tree.map(lambda x: np.asarray(x)[:n, env], ring.rows)


def episodes(rows):
    """Indices of the rows of each complete episode."""
    first = np.flatnonzero(rows.reset)
    return [range(*pair) for pair in itertools.pairwise(first)]


def resumed(training, folder):
    """The last state kept of a training, reached once more from a checkpoint of the one before;
    both have to be equal bit for bit."""
    _, step, kept, _ = training
    before, end = sorted(kept)[-2:]
    last = kept[end]
    checkpoint.save(folder / "saved", 3, kept[before], {}, 1)
    _, state = checkpoint.restore_latest(folder / "saved", jax.eval_shape(lambda: last), {})
    for _ in range(end - before):
        state, _ = step(state)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)
    return state


# ------------------------------------------------------------------ clocks, windows, rows


def test_levels_act_on_their_clocks_and_windows_hold_the_latest_latents_of_an_episode():
    made = agent(Wages(), levels=3, every=2)
    steps, envs = 23, 2
    rng = np.random.default_rng(0)
    reset = np.zeros((steps, envs), bool)
    reset[[0, 9, 10, 17], 0] = True
    reset[[0, 4], 1] = True
    obs = rng.normal(size=(steps, envs, 3)).astype(np.float32)

    def run(key):
        state = made.init(key)
        players = made._players(state)

        def step(carry, at):
            thought = made.think(players, carry, *at)
            return thought.carry, thought

        keys = jax.random.split(key, steps)
        carry = made._initial_carry(state.params, (envs,))
        return jax.lax.scan(step, carry, (obs, jnp.asarray(reset), keys))[1]

    thought = jax.device_get(run_once(run, jax.random.key(0)))
    for env in range(envs):
        clock, pushed = 0, [[], []]
        for t in range(steps):
            if reset[t, env]:
                clock, pushed = 0, [[], []]
            due = [bool(clock % 2**i == 0) for i in range(3)]
            assert [bool(d[t, env]) for d in thought.due] == due
            for i in (0, 1):
                if due[i]:
                    pushed[i].append(thought.carry.levels[i].latent.deter[t, env])
                padded = ([pushed[i][0]] * 2 + pushed[i])[-2:]
                shown = thought.seen[i + 1]["deter"][t, env]
                np.testing.assert_array_equal(shown, np.concatenate(padded))
            for level, was_due in zip(thought.carry.levels, due, strict=True):
                for x in (level.action, level.latent.deter, level.window["deter"]):
                    if not was_due:
                        np.testing.assert_array_equal(x[t, env], x[t - 1, env])
            for i in (0, 1):
                held = thought.carry.levels[i + 1].action[t, env]
                np.testing.assert_array_equal(thought.goal[i][t, env], held)
            clock += 1


def test_every_level_sees_every_end_and_its_rewards_add_up_to_the_return():
    made = agent(Wages(), levels=3, every=2, aggregate="mean", replay_size=4096)
    state, info = rollouts(made, 8)
    cut = 0
    for env in range(4):
        every = [stored(ring, env) for ring in state.replays]
        ended = np.asarray(info["episode_end"]).reshape(-1, 4)[:, env]
        returns = np.asarray(info["episode_return"]).reshape(-1, 4)[:, env][ended]
        lengths = np.asarray(info["episode_length"]).reshape(-1, 4)[:, env][ended]
        assert len(returns) > 10 and len(set(returns)) > 3
        for i, rows in enumerate(every):
            spans = episodes(rows)
            sums = [2**i * rows.reward[span].sum() for span in spans]
            np.testing.assert_allclose(sums, returns[: len(sums)], rtol=1e-6)
            seen = zip(spans, lengths, strict=False)
            assert all(len(span) == -(-n // 2**i) + 1 for span, n in seen)
            ends = np.array([rows.terminal[span[-1]] for span in spans])
            np.testing.assert_array_equal(ends, [rows.terminal[span].any() for span in spans])
            assert (lengths[: len(ends)][~ends] == 7).all() and ends.any()
            cut += (~ends).sum()
        within, rows = ~every[0].reset[1:], every[0]
        assert len(set(rows.action.tolist())) == 3
        np.testing.assert_array_equal(rows.obs[1:, 2][within], rows.action[:-1][within])
        np.testing.assert_array_equal(rows.obs[rows.reset, 2], 3)
    assert cut > 0


def test_a_reward_that_is_observed_stands_in_the_row_it_led_to():
    made = agent(Wages(), previous_reward=True)
    state, _ = rollouts(made, 2)
    rows = stored(state.replays[0], 0)
    assert np.any(rows.reward != 0)
    np.testing.assert_array_equal(rows.obs["reward"][:, 0], rows.reward)


def test_every_level_stores_on_request_what_it_carried_into_a_row():
    made = agent(Wages(), start="stored", replay_size=4096)
    begin = jax.jit(made.init)(jax.random.key(1))
    state, _ = rollouts(made, 2, begin=lambda key: begin._replace(key=key))
    for level, learner, ring in zip(made.levels, begin.learners, state.replays, strict=True):
        rows = stored(ring, 0)
        latent, action = rows.carry
        going_on = np.flatnonzero(~rows.reset[1:])
        assert len(going_on) > 10
        np.testing.assert_array_equal(action[1:][going_on], rows.action[:-1][going_on])

        def look(params, carry, obs, reset, level=level):
            model = merged(level.graphs.model, params.model)
            return model.observe_step(*carry, obs, reset, jax.random.key(0)).deter

        deter = run_once(look, learner.params, rows.carry, rows.obs, rows.reset)
        after = latent.deter[1:][going_on]  # z is drawn anew here, h does not depend on it
        np.testing.assert_allclose(deter[:-1][going_on], after, atol=1e-5)


def test_the_release_loses_what_is_paid_at_the_end():
    state, info = rollouts(agent(Wages(), lose_terminal_reward=True, replay_size=4096), 2)
    rows, ended = stored(state.replays[0], 0), np.asarray(info["episode_end"]).reshape(-1, 4)[:, 0]
    returns = np.asarray(info["episode_return"]).reshape(-1, 4)[:, 0][ended]
    for span, earned in zip(episodes(rows), returns, strict=False):
        lost = earned - rows.reward[span].sum()
        assert min(abs(lost - share * (len(span) - 1)) for share in (0.1, 0.2)) < 1e-5


# ------------------------------------------------------------------ subgoals


def test_the_subgoal_reward_is_largest_at_the_goal_and_never_negative():
    deter = jax.random.normal(jax.random.key(0), (50, 6)) * 3
    goal = symlog(deter)
    at_goal = subgoal_reward(goal, deter)
    np.testing.assert_allclose(at_goal, np.log(2), rtol=1e-5)
    elsewhere = jnp.stack([subgoal_reward(goal, f * deter) for f in (0.5, 2.0, -1.0)])
    others = subgoal_reward(goal, jnp.roll(deter, 1, axis=0))
    every = jnp.concatenate([elsewhere, others[None]])
    assert float(every.min()) == 0 and float(every.max()) < np.log(2) - 0.01


def test_an_autoencoder_learns_features_and_uses_its_codes():
    config = dataclasses.replace(SMALL, code_groups=4, code_classes=4, code_units=32)
    graph, params = nnx.split(Autoencoder(config, 12, rngs=nnx.Rngs(0)))
    rule = optax.adam(3e-3)
    mix = jax.random.normal(jax.random.key(1), (3, 12))

    def features(key):  # three numbers decide all twelve
        return jnp.tanh(jax.random.normal(key, (256, 3)) @ mix) * 2

    def run(params):
        def step(carry, key):
            params, state = carry
            loss = lambda p: nnx.merge(graph, p).loss(features(key))  # noqa: E731
            grads, metrics = jax.grad(loss, has_aux=True)(params)
            change, state = rule.update(grads, state, params)
            return (optax.apply_updates(params, change), state), metrics

        keys = jax.random.split(jax.random.key(2), 1500)
        (params, _), metrics = jax.lax.scan(step, (params, rule.init(params)), keys)
        codes, seen = nnx.merge(graph, params), features(jax.random.key(3))
        strange = 10 + 0 * seen
        return metrics, [novelty_reward(codes(x), x).mean() for x in (seen, strange)]

    metrics, (known, strange) = run_once(run, params)
    assert metrics["reconstruction"][0] > 0.8
    assert float(metrics["reconstruction"][-20:].mean()) < 0.25
    assert float(metrics["usage"][-20:].mean()) > 0.5
    assert float(strange) > 3 * float(known)


# ------------------------------------------------------------------ updates


LEARNING = {
    "model_lr": 3e-3, "actor_lr": 3e-3, "critic_lr": 3e-3, "code_lr": 3e-3, "units": 16,
    "deter": 16, "mlp_units": 16, "head_units": 16, "actor_units": 16, "critic_units": 16,
    "bins": 21, "bin_limit": 2.0, "critic_limit": 3.0, "decoder_scale": 10.0, "dyn_scale": 0.1,
    "rep_scale": 0.02, "gamma": 0.9, "batch": 8, "train_ratio": 4, "imagined_starts": 32,
    "higher_decoder_scale": 1.0, "entropy_coef": 0.03,
}  # fmt: skip
STEPS = 300


@pytest.fixture(scope="module")
def training():
    """An agent of two levels, its compiled step, and some of its states and metrics by update."""
    made = agent(Wages(), **LEARNING)
    state = run_once(made.init, jax.random.key(0))
    options = {"xla_backend_optimization_level": 0}
    step = jax.jit(made.train_step).lower(state).compile(options)
    kept, metrics = {}, []
    for i in range(1, STEPS + 1):
        state, found = step(state)
        metrics.append(jax.device_get(found))
        if i in (2, STEPS - 2, STEPS):
            kept[i] = state
    return made, step, kept, metrics


def test_two_levels_learn_what_pays_and_change_every_network(training):
    _, _, kept, metrics = training
    before, after = kept[2], kept[STEPS]
    assert all(v == 0 for name, v in metrics[1].items() if name.startswith("level"))
    assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after)
    assert all(np.isfinite(v) for name, v in metrics[-1].items() if name.startswith("level"))
    for old, new in zip(before.learners, after.learners, strict=True):
        for name in (*old.params._fields, "slow_critics"):
            both = (getattr(x, name, None) or getattr(x.params, name) for x in (old, new))
            pairs = zip(*map(jax.tree.leaves, both), strict=True)
            assert any(bool(jnp.any(a != b)) for a, b in pairs), name
    assert set(after.learners[0].scales) == {"extrinsic", "novelty", "subgoal"}
    assert set(after.learners[1].scales) == {"extrinsic", "novelty"}
    assert 0 < metrics[-1]["level1/entropy_share"] <= 1
    earned = np.mean([m["return"] for m in metrics[-40:]])
    assert earned > 0.9 * Wages().best()  # at random it is two thirds


def test_the_losses_of_actor_critics_and_autoencoder_keep_to_their_own_parameters(training):
    made, _, kept, _ = training
    level, ring, learner = made.levels[0], kept[STEPS].replays[0], kept[STEPS].learners[0]

    def grads(learner, key):
        """Squared norms: of each network's parameters, by the three losses."""
        rows = replay.sample(ring, key, 8, 8, replay.sampler("uniform"))
        _, (latent, _) = level._model_loss(learner.params.model, rows, key)
        start = level._starts(latent, rows, key)

        def losses(trained):
            tried = learner.params._replace(actor=trained[0], critics=trained[1], codes=trained[2])
            networks, constant = (level._merged(tried, fixed) for fixed in (False, True))
            model = nnx.merge(level.graphs.model, learner.params.model)
            slow = nnx.merge(level.graphs.critics, learner.slow_critics)
            _, (_, metrics) = behaviour_loss(
                model, networks, constant, slow, start, learner.scales, 1e-3, level.config,
                level.pathwise, key,
            )  # fmt: skip
            return jnp.stack([metrics[f"{name}_loss"] for name in ("actor", "critic", "code")])

        jacobian = jax.jacrev(losses)(tuple(learner.params[1:]))
        square = lambda x: jnp.sum(jnp.square(x).reshape(3, -1), axis=1)  # noqa: E731
        return [sum(map(square, jax.tree.leaves(part))) for part in jacobian]

    norms = np.array(run_once(grads, learner, jax.random.key(1)))
    assert (np.diag(norms) > 1e-8).all()
    np.testing.assert_array_equal(norms - np.diag(np.diag(norms)), 0)


def test_a_random_top_sets_every_subgoal_and_does_not_learn():
    def decided(made):
        """A state whose policies always take the last action."""

        def begin(key):
            state = plain(made)(key)
            slope = lambda x: 50 * jnp.arange(x.shape[-1]) * jnp.ones_like(x)  # noqa: E731
            learners = tuple(
                x._replace(params=x.params._replace(actor=jax.tree.map(slope, x.params.actor)))
                for x in state.learners
            )
            return state._replace(learners=learners)

        return begin

    made = agent(Wages(), random_top=True, actor_unimix=0.0, replay_size=1024)
    state, _ = rollouts(made, 3, decided(made), anyhow=False)
    codes = np.concatenate([stored(state.replays[1], env).action for env in range(4)])
    assert len({tuple(code) for code in codes.tolist()}) == 9
    assert set(stored(state.replays[0], 0).action.tolist()) == {2}
    metrics = jax.eval_shape(made.train_step, state)[1]
    assert "level0/entropy" in metrics and not any(name.startswith("level1") for name in metrics)


def test_training_goes_on_bit_for_bit_from_a_checkpoint_of_all_levels(training, tmp_path):
    state = resumed(training, tmp_path)
    assert all(int(ring.size.sum()) > 0 for ring in state.replays)


def test_a_reset_hides_all_that_was_before_from_every_level(training):
    made, _, kept, _ = training
    state = kept[STEPS]

    def run(state, key):
        policy = made.policy(state)
        obs = jax.random.normal(key, (9, 2, 3))
        reset = jnp.zeros((9, 2), bool).at[jnp.array([0, 5]), 0].set(True).at[0, 1].set(True)
        acted = lambda carry, at: policy.act(carry, *at, key, True)[:2]  # noqa: E731
        _, actions = jax.lax.scan(acted, policy.init_carry((2,)), (obs, reset))
        fresh = jax.tree.map(lambda x: x[5:, :1], (obs, reset))
        _, later = jax.lax.scan(acted, policy.init_carry((1,)), fresh)
        return actions[5:, 0], later[:, 0]

    np.testing.assert_array_equal(*run_once(run, state, jax.random.key(3)))


def test_subgoals_can_be_looked_at_where_they_were_set(training):
    made, _, kept, _ = training
    key = jax.random.key(0)
    seen, asked = run_once(lambda s, k: levels.subgoals(made, s, k, 5), kept[STEPS], key)
    assert seen.shape == asked.shape == (5, 3)
    assert float(seen[0, 0]) == 0 and float(seen[0, 2]) == 3  # the first step of an episode
    assert len(np.unique(np.round(seen, 3), axis=0)) > 2
    assert np.isfinite(asked).all() and (asked >= -2).all() and (asked <= 4).all()


# ------------------------------------------------------------------ sizes, options, report


MILLIONS = {0: 12.3, 1: 13.4, 2: 12.4}  # of each level in the configuration of the paper
PARTS = {"encoder": 0.39, "decoder": 4.32, "reward_head": 0.46, "cont_head": 0.39}


@pytest.mark.parametrize("number", MILLIONS)
def test_parameters_are_as_many_as_published_but_for_known_differences(number):
    config, width, layers, modes = HierosConfig(prefill=10_000), 256, 8, 128
    spec = memory.make(
        "s5", features=width, state=2 * modes, blocks=8, layers=layers, norm="pre",
        activation="gelu",
    )  # fmt: skip
    lower = Level(config.at(0), spec, Box(0, 255, (64, 64, 3), jnp.uint8), Discrete(18), True)
    level, has_goal = lower, number < 2
    if number:
        level = Level(config.at(number), spec, lower.window_space, lower.code_space, has_goal)
    made = nnx.eval_shape(lambda: level._networks(nnx.Rngs(0)))
    model, actor, critics, codes = (
        sum(x.size for x in jax.tree.leaves(nnx.state(n))) for n in made
    )
    heads = 3 if has_goal else 2
    ours = model + actor + 2 * critics + codes  # with the slow averages of the critics
    extra = 3 * width * (1 + 2 * heads)  # the policy also reads reward, end and entropy
    linear = layers * width**2 + 12 * 2 * width  # a linear map after each S5; norms with parameters
    pairs = 2 * layers * modes * width  # C is counted as real here, and h reads imaginary parts
    start = 2 * layers * modes - width  # a learned state in place of a learned h
    outputs = 64 * 64 + 64 + width * width + width  # of the autoencoder
    theirs = ours + extra + linear - pairs - start - outputs
    assert abs(theirs / 1e6 - MILLIONS[number]) < 0.06
    if not number:
        sizes = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in nnx.state(made[0]).items()}
        for part, millions in PARTS.items():
            assert abs(sizes[part] / 1e6 - millions) < 0.0051
        assert abs((actor + 3 * width) / 1e6 - 0.42) < 0.0051
        assert abs((2 * critics + 18 * width) / 1e6 - 2.86) < 0.0051
        assert abs((codes - outputs) / 1e6 - 0.17) < 0.0051


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels must be positive"),
        ({"code_lr": 0.0}, "code_lr must be positive"),
        ({"higher_gamma": 1.5}, "gamma must be from 0 to 1, got 1.5"),
        ({"every": 1}, "every must be at least 2"),
        ({"aggregate": "max"}, "unknown aggregate of rewards 'max'"),
        ({"burn_in": 1}, "hieros has no burn-in"),
        ({"novelty_weight": -1.0}, "weights of rewards"),
        ({"train_ratio": 0.5}, r"multiple of every\^\(levels - 1\) = 4"),
        ({"replay_size": 128}, "leaves 8 rows"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SMALL, **options)


def test_continuous_actions_below_and_subgoals_above_make_one_train_step():
    made = agent(Match())
    state = jax.eval_shape(made.init, jax.random.key(0))
    after, metrics = jax.eval_shape(made.train_step, state)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, after)
    assert (made.levels[0].pathwise, made.levels[1].pathwise) == (True, False)
    assert "level1/entropy_share" in metrics and "level0/entropy_share" not in metrics


def test_the_report_shows_levels_once_they_learn_and_nothing_for_other_agents(tmp_path):
    names = {f"level{i}/{name}" for i in (0, 1) for p in levels.PANELS.values() for name in p}
    losses = {"level0/model/loss", "level1/model/loss"}
    rows = [
        {"env_steps": 64 * t} | {n: [float(t > 3), 1.0] for n in names | losses} for t in range(9)
    ]
    assert levels.learning(rows) == rows[4:]
    assert levels.learning([{"env_steps": 1, "loss": [1.0]}]) == levels.learning([]) == []
    levels.plot(rows[4:], "name", tmp_path / "levels.png")
    assert (tmp_path / "levels.png").stat().st_size > 10_000
    planes = np.zeros((2, 2, 9), np.float32)
    planes[0, 1, 0], planes[1, 1, 8] = 1, 0.5
    colours = levels.picture(planes)
    np.testing.assert_array_equal(colours[0, 0], 1)
    np.testing.assert_allclose(colours[0, 1], np.array([0x00, 0x72, 0xB2]) / 255)
    assert (colours[1, 1] < 1).any() and (colours[1, 1] > 0.4).all()


def test_hieros_is_made_by_name_and_tells_how_large_its_replays_are():
    options = {f.name: getattr(SMALL, f.name) for f in dataclasses.fields(SMALL)}
    config = {"agent": {"name": "hieros", **options}, "memory": {"name": "s5", **S5}}
    made = ssmrl.make_agent(config, Match(), Match().default_params)
    assert "512, 128 rows of levels 0 to 1" in made.note


def test_environments_side_by_side_have_places_of_their_own():
    a = agent(Mixture([Wages(), Wages()]))
    state = jax.eval_shape(a.init, jax.random.key(0))
    half = (a.config.num_envs // 2,)
    assert [share.episode_length.shape for share in state.actors.env_state] == [half, half]
    after, metrics = jax.eval_shape(a.train_step, state)
    assert after == state and metrics["return"].shape == ()
