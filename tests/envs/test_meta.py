"""Trials keep their task, families draw fair ones, and references and optima are right."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.envs import make
from ssmrl.envs.batch import reset_all, step_all, wrap
from ssmrl.envs.contract import Box
from ssmrl.envs.meta import FixedTask, Mixture, Projected, RandomPhysics, Trial
from ssmrl.envs.meta.bandits import BernoulliBandit
from ssmrl.envs.meta.control import MEMBERS, ONCE, SPLITS
from ssmrl.envs.meta.dark_room import DarkRoom
from ssmrl.envs.meta.physics import RandomBrax
from ssmrl.envs.meta.projection import orthonormal
from ssmrl.envs.meta.references import UCB1, BernoulliThompson, GaussianThompson
from ssmrl.envs.meta.t_maze import DOWN, FORWARD, TMaze
from ssmrl.envs.meta.tabular_mdp import TabularMDP
from ssmrl.envs.wrappers import EpisodeStatistics, PreviousStep
from ssmrl.errors import UsageError
from tests.envs.probes import Counter, run_once

KEY = jax.random.key(0)


def play(env, params, act, steps, batch=3, key=KEY):
    """Everything that `steps` steps of `act(obs, state, key)` return, and the states: (T, B, …)."""

    def step(now, key):
        obs, state = now
        keys = jax.random.split(key, batch)
        action = jax.vmap(act)(obs, state, keys)
        after, state_after, *out, info = jax.vmap(env.step, (0, 0, 0, None))(
            keys, state, action, params
        )
        shown = {"obs": obs, "state": state, "action": action, "info": info}
        reward, terminated, truncated = out
        shown |= {"reward": reward, "terminated": terminated, "truncated": truncated}
        return (after, state_after), shown

    def run(key):
        key, key_reset = jax.random.split(key)
        start = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, batch), params)
        return jax.lax.scan(step, start, jax.random.split(key, steps))[1]

    return jax.tree.map(np.asarray, run_once(run, key))


class Noted(Counter):
    """A family over Counter (an episode has 3 steps) that draws a number for a task."""

    def draw(self, key):
        return self.default_params.replace(max_steps_in_episode=jax.random.randint(key, (), 50, 99))


def test_a_task_lasts_a_trial_and_a_trial_ends_with_its_last_episode():
    env = Trial(Noted(), episodes=4)
    out = play(env, env.default_params, lambda *_: 0, steps=30)
    task = out["state"].task.max_steps_in_episode
    trial = np.arange(30) // 12
    for b, t in itertools.product(range(3), range(3)):
        assert len(set(task[trial == t, b])) == 1
    assert len(set(task[::12].flat)) > 3
    end = (np.arange(30) % 12 == 11)[:, None]
    np.testing.assert_array_equal(out["terminated"], np.broadcast_to(end, (30, 3)))
    assert not out["truncated"].any()
    start = out["obs"]["episode_start"][..., 0]
    np.testing.assert_array_equal(
        start, np.broadcast_to((np.arange(30) % 3 == 0)[:, None], (30, 3))
    )
    index = np.broadcast_to((np.arange(30) // 3 % 4)[:, None], (30, 3))
    np.testing.assert_array_equal(out["info"]["episode"], index)
    # what would have followed: the first observation of one more episode
    last = out["info"]["final_observation"]
    assert (last["episode_start"][11] == 1).all() and (last["observation"][11] == 0).all()


def test_a_lowered_limit_truncates_a_trial():
    env = Trial(Noted(), episodes=4)
    params = env.default_params.replace(max_steps_in_episode=5)
    out = play(env, params, lambda *_: 0, steps=10)
    assert not out["terminated"].any()
    np.testing.assert_array_equal(np.flatnonzero(out["truncated"][:, 0]), [4, 9])


def test_every_episode_of_a_trial_can_begin_in_the_same_state():
    env, params = make("meta/CartPole", episodes=3)
    out = play(env, params, lambda obs, state, key: jax.random.randint(key, (), 0, 2), steps=200)
    begins = out["obs"]["episode_start"][:, 0, 0] > 0
    trial = np.append(0, np.cumsum(out["terminated"][:, 0])[:-1])
    seen = out["obs"]["observation"][:, 0]
    for t in range(trial.max()):
        firsts = seen[begins & (trial == t)]
        assert len(firsts) == 3 and (firsts == firsts[0]).all()
    assert len(np.unique(seen[begins], axis=0)) == trial[begins].max() + 1


def test_a_fixed_task_is_its_environment_with_the_parameters_it_was_given():
    env, params = make("gymnax/CartPole-v1", gravity=1.0)
    family = FixedTask(env, params)

    def push_right(env, params):
        def step(state, _):
            obs, state, *_ = env.step(KEY, state, 1, params)
            return state, obs

        return run_once(lambda key: jax.lax.scan(step, env.reset(key, params)[1], None, 8)[1], KEY)

    alike = push_right(env, params)
    np.testing.assert_array_equal(push_right(family, family.draw(KEY)), alike)
    assert not np.allclose(push_right(env, env.default_params), alike)
    state = Trial(family, 2).reset(KEY)[1]
    assert not jax.tree.leaves(state.task)  # of more than ten


def test_wrong_families_and_numbers_are_refused():
    for wrong in (
        lambda: Trial(Noted(), 0),
        lambda: make("meta/BernoulliBandit", arms=1),
        lambda: make("meta/TabularMDP", states=0),
        lambda: make("meta/DarkRoom", size=1),
        lambda: make("meta/TMaze", length=0),
        lambda: make("meta/Projected", features=0),
        lambda: make("meta/Projected", actions=0),
        lambda: make("meta/CartPole", gain=0.0),
        lambda: make("meta/CartPole", gain=float("nan")),
        lambda: make("meta/RandomPhysics", fields=[]),
        lambda: make("meta/RandomPhysics", of="brax/reacher", fields=["gravity"]),
        lambda: make("meta/RandomPhysics", spread=0.0),
        lambda: make("meta/RandomPhysics", spread=float("inf")),
        lambda: Mixture([]),
        lambda: Projected(FixedTask(*make("popgym/BattleshipEasy")), 4, 2),
        lambda: Mixture([BernoulliBandit(2), BernoulliBandit(3)]),
    ):
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(UsageError, match="nearest: 'length'"):
        RandomPhysics(*make("gymnax/CartPole-v1"), ("lenght",))
    with pytest.raises(UsageError, match="which parameters of gymnax/Catch-bsuite"):
        make("meta/RandomPhysics", of="gymnax/Catch-bsuite")
    with pytest.raises(UsageError, match="unknown split 'held'; nearest: 'held_out'"):
        make("meta/Control", split="held")


def test_a_projection_keeps_lengths_and_reaches_every_action():
    for rows, columns in ((12, 5), (5, 5), (3, 5)):
        m = np.asarray(orthonormal(KEY, rows, columns))
        gram = m.T @ m if rows >= columns else m @ m.T
        np.testing.assert_allclose(gram, np.eye(min(rows, columns)), atol=1e-5)
    env = Projected(FixedTask(*make("gymnax/Pendulum-v1")), features=6, actions=2)
    assert env.observation_space(env.default_params).shape == (6,)
    assert isinstance(env.action_space(), Box) and env.num_actions == 2

    def tasks(key):
        params = env.draw(key)
        obs, _ = env.reset(key, params)
        raw, _ = env.env.reset(key, params.env)
        corners = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        return obs, raw, jax.vmap(lambda a: env._acted(a, params))(corners)

    obs, raw, torque = run_once(jax.vmap(tasks), jax.random.split(KEY, 20))
    assert obs.shape == (20, 6)  # its matrix is filled up to 8 columns
    length = [np.linalg.norm(x, axis=-1) for x in (obs, raw)]
    np.testing.assert_allclose(*length, rtol=1e-4)
    assert np.abs(torque).max() == 2.0  # its bound
    discrete = Projected(FixedTask(*make("gymnax/Acrobot-v1")), features=6, actions=2)
    params = discrete.default_params.replace(action=jnp.array([[1.0, 0], [0, 1.0], [-1.0, 0]]))
    for action, chosen in (((1.0, 0.5), 0), ((0.5, 1.0), 1), ((-1.0, 0.0), 2)):
        assert discrete._acted(jnp.array(action), params) == chosen


def test_physics_vary_within_their_spread_and_stay_consistent():
    env = make("meta/RandomPhysics", spread=0.5)[0].env
    tasks = jax.vmap(env.draw)(jax.random.split(KEY, 500))
    factor = np.asarray(tasks.gravity) / 9.8
    assert 1 / 1.5 <= factor.min() < 0.7 and 1.4 < factor.max() <= 1.5 + 1e-6
    np.testing.assert_allclose(tasks.total_mass, tasks.masscart + tasks.masspole)
    np.testing.assert_allclose(tasks.polemass_length, tasks.masspole * tasks.length)
    assert abs(np.corrcoef(tasks.gravity, tasks.length)[0, 1]) < 0.2


def test_a_wrapper_without_parameters_plays_with_its_own_defaults():
    cart, params = make("gymnax/CartPole-v1")
    env = RandomPhysics(cart, params.replace(gravity=0.0, max_steps_in_episode=1), ("gravity",))
    _, state = env.reset(KEY)
    for given, same in ((env.default_params, True), (params, False)):
        assert (env.step(KEY, state, 0)[4] == env.step(KEY, state, 0, given)[4]) == same


def test_the_optimum_of_a_tabular_mdp_is_that_of_trying_every_plan():
    env = TabularMDP(states=2, actions=2, steps=2)
    task = jax.tree.map(np.asarray, env.draw(jax.random.key(1)))
    odds = np.diff(task.cumulative, axis=-1, prepend=0)
    best = max(
        task.reward[0, a] + odds[0, a] @ [task.reward[s, plan[s]] for s in range(2)]
        for a in range(2)
        for plan in itertools.product(range(2), repeat=2)
    )
    assert env.optimal_return(task) == pytest.approx(best, abs=1e-5)


def test_a_tabular_mdp_moves_and_pays_as_its_task_says():
    env = TabularMDP(states=3, actions=2, steps=5)
    task = env.draw(KEY)

    def one(key):
        _, state = env.reset_env(key, task)
        obs, _, reward, *_ = env.step_env(key, state, 1, task)
        return obs, reward

    place, reward = run_once(jax.vmap(one), jax.random.split(KEY, 4000))
    odds = np.diff(task.cumulative[0, 1], prepend=0)
    np.testing.assert_allclose(np.bincount(place, minlength=3) / 4000, odds, atol=0.03)
    assert np.mean(reward) == pytest.approx(float(task.reward[0, 1]), abs=0.06)
    assert np.std(reward) == pytest.approx(1.0, abs=0.05)


def test_the_shortest_way_in_a_dark_room_gets_the_best_possible_return():
    env = Trial(DarkRoom(size=5, steps=6), episodes=1)

    def act(obs, state, key):
        down, right = state.task.goal - state.env.place
        sideways = jnp.where(right > 0, 4, jnp.where(right < 0, 3, 0))
        return jnp.where(down > 0, 2, jnp.where(down < 0, 1, sideways))

    out = play(env, env.default_params, act, steps=6, batch=200)
    tasks = jax.tree.map(lambda x: x[0], out["state"].task)
    best = jax.vmap(env.env.optimal_return)(tasks)
    np.testing.assert_array_equal(out["reward"].sum(axis=0), best)
    assert best.min() == 3 and best.max() == 6
    assert len(np.unique(tasks.goal, axis=0)) == 24  # every cell but the middle


def test_one_arm_of_a_t_maze_pays_and_the_cue_names_it():
    for cue in (False, True):
        env = Trial(TMaze(length=2, cue=cue), episodes=2)

        def act(obs, state, key):
            return jnp.where(obs["observation"] == 2, DOWN, FORWARD)

        out = play(env, env.default_params, act, steps=6, batch=20)
        up = out["state"].task.up[0]
        assert 0 < up.sum() < 20
        paid = np.where(up, np.float32(-0.1), np.float32(4))
        np.testing.assert_array_equal(out["reward"][2], paid)
        np.testing.assert_array_equal(out["reward"][[0, 1, 3, 4]], 0)
        shown = out["obs"]["observation"][0]
        np.testing.assert_array_equal(shown, np.where(up, 3, 4) if cue else np.zeros(20))


def small_mixture(count=2):
    """Control tasks that look alike, four at most; trials of one episode."""
    env = Mixture(make("meta/Control", episodes=1)[0].envs[:count])
    return env, env.default_params.replace(max_steps_in_episode=7)


def random_steps(env, params, key, state, places, steps):
    """The state afterwards, and everything that random actions led to: (steps, places, ...)."""

    def step(state, key):
        key_act, key_step = jax.random.split(key)
        action = jax.random.uniform(key_act, (places, 2), minval=-1)
        keys = jax.random.split(key_step, places)
        obs, state, reward, terminated, truncated, info = step_all(env, keys, state, action, params)
        flags = {"terminated": terminated, "truncated": truncated}
        return state, {"obs": obs, "reward": reward, "info": info} | flags

    return jax.lax.scan(step, state, jax.random.split(key, steps))


def test_a_mixture_plays_each_environment_at_places_of_its_own():
    env, params = small_mixture(4)

    def run(key):
        keys = jax.random.split(key, 10)
        mixed = reset_all(env, keys, params)
        out = random_steps(env, params, key, mixed[1], 10, 20)
        own = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        alone = []
        for i, member in enumerate(env.envs):
            short = member.default_params.replace(max_steps_in_episode=7)
            begun = reset_all(member, own[:, i], short)
            alone.append((begun, random_steps(member, short, key, begun[1], 10, 20)))
        return (mixed, out), alone

    (begun, (after, out)), alone = jax.tree.map(np.asarray, run_once(run, KEY))
    which = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    np.testing.assert_array_equal(out["info"]["which"], np.broadcast_to(which, (20, 10)))
    assert out["truncated"].sum() > 10  # trials that a limit cut off
    compare = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for i, ((seen, start), (state, shown)) in enumerate(alone):
        mine = which == i
        jax.tree.map(compare, begun[1][i], jax.tree.map(lambda x, mine=mine: x[mine], start))
        jax.tree.map(compare, after[i], jax.tree.map(lambda x, mine=mine: x[mine], state))
        at = partial(jax.tree.map, lambda x, mine=mine: x[mine])
        jax.tree.map(compare, at(begun[0]), at(seen))
        told = {name: shown["info"][name] for name in out["info"] if name != "which"}
        got = out | {"info": {name: out["info"][name] for name in told}}
        at = partial(jax.tree.map, lambda x, mine=mine: x[:, mine])
        jax.tree.map(compare, at(got), at(shown | {"info": told}))


def test_a_mixture_draws_who_is_played_where_there_are_too_few_places():
    env, params = small_mixture(3)

    def run(keys):
        _, state = reset_all(env, keys, params)
        action = jax.vmap(lambda key: jax.random.uniform(key, (2,), minval=-1))(keys)
        mixed = step_all(env, keys, state, action, params)
        members = zip(env.envs, state.each, strict=True)
        alone = [step_all(e, keys, s, action, e.default_params) for e, s in members]
        shown = [(obs, jnp.float32(reward), own) for obs, own, reward, *_ in alone]
        return state, (mixed[0], mixed[2]), mixed[1].each, mixed[5]["which"], shown

    for play in (jax.vmap(run), lambda keys: jax.lax.map(run, keys)):
        out = run_once(play, jax.random.split(KEY, (30, 2)))  # 2 places and 3 environments
        start, seen, each, told, alone = jax.tree.map(lambda x: np.asarray(x).reshape(60, -1), out)
        which = start.which[:, 0]
        assert set(which.tolist()) == {0, 1, 2} and np.array_equal(which, told[:, 0])
        for b, i in enumerate(which):
            pick = partial(jax.tree.map, lambda x, b=b: x[b])
            expected = [alone[j][2] if j == i else start.each[j] for j in range(3)]
            got, want = pick((seen, list(each))), pick((alone[i][:2], expected))
            for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_mixture_is_the_same_for_several_seeds_at_once():
    env, params = small_mixture()

    def run(key):
        state = reset_all(env, jax.random.split(key, 6), params)[1]
        return random_steps(env, params, key, state, 6, 3)

    seeds = jax.random.split(KEY, 2)
    both, each = run_once(jax.vmap(run), seeds), run_once(partial(jax.lax.map, run), seeds)
    for x, y in zip(jax.tree.leaves(both), jax.tree.leaves(each), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_the_environments_of_a_mixture_are_wrapped_one_by_one():
    env, params = small_mixture()
    told = wrap(env, lambda one: EpisodeStatistics(PreviousStep(one)))
    assert isinstance(told, Mixture) and told.episodes == 1

    def run(key):
        obs, state = reset_all(told, jax.random.split(key, 8), params)
        return obs, random_steps(told, params, key, state, 8, 20)[1]

    first, out = jax.tree.map(np.asarray, run_once(run, KEY))
    assert (first["start"] == 1).all() and (first["reward"] == 0).all()
    end, paid = out["terminated"] | out["truncated"], out["reward"]
    np.testing.assert_array_equal(out["obs"]["start"][..., 0], end)
    # one number computed twice may differ in its last bit
    np.testing.assert_allclose(out["obs"]["reward"][..., 0], np.where(end, 0, paid), rtol=1e-5)
    np.testing.assert_array_equal(out["info"]["episode_end"], end)
    total = np.zeros(8, np.float32)
    for t in range(20):
        total += paid[t]
        np.testing.assert_allclose(out["info"]["episode_return"][t], total, rtol=1e-5, atol=1e-5)
        total[end[t]] = 0
    assert end.sum() > 10


class Doubled:
    """Pays twice as much; has all other attributes of the environment, as wrappers of gymnax."""

    def __init__(self, env):
        self.env = env

    def __getattr__(self, name):
        return getattr(self.env, name)

    def step(self, key, state, action, params):
        obs, state, reward, *rest = self.env.step(key, state, action, params)
        return obs, state, 2 * reward, *rest


def test_a_wrapper_around_a_mixture_is_not_passed_by():
    env, params = small_mixture()

    def run(key):
        keys, action = jax.random.split(key, 8), jnp.ones((8, 2))
        state = reset_all(Doubled(env), keys, params)[1]
        plain = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)[2]
        return plain, step_all(Doubled(env), keys, state, action, params)[2]

    plain, doubled = run_once(run, KEY)
    assert np.abs(plain).max() > 0
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-5)


def pulls(env, policy, trials, key=KEY):
    """(the mean of the chosen arm, the best mean) of every pull: (T, B), (B,)."""
    told = PreviousStep(env)

    def step(now, key):
        obs, state, reset, carry = now
        carry, action, _ = policy.act(carry, obs, reset, key)
        mean = jnp.take_along_axis(state.task.means, action[:, None], axis=1)[:, 0]
        keys = jax.random.split(key, trials)
        obs, state, _, end, *_ = jax.vmap(told.step)(keys, state, action)
        return (obs, state, end, carry), mean

    def run(key):
        obs, state = jax.vmap(told.reset)(jax.random.split(key, trials))
        now = (obs, state, jnp.ones(trials, bool), policy.init_carry((trials,)))
        steps = jax.random.split(key, env.episodes)
        return jax.lax.scan(step, now, steps)[1], jnp.max(state.task.means, axis=1)

    return jax.tree.map(np.asarray, run_once(run, key))


def test_thompson_sampling_beats_ucb1_and_both_learn_which_arm_is_best():
    regrets = {}
    for kind in (UCB1, BernoulliThompson):
        env, _ = make("meta/BernoulliBandit", arms=3, episodes=60)
        chosen, best = pulls(env, kind(3), 300)
        regrets[kind] = (best - chosen).mean(axis=1)
    for regret in regrets.values():
        assert regret[-10:].mean() < 0.7 * regret[:3].mean()
    assert regrets[BernoulliThompson].sum() < 0.9 * regrets[UCB1].sum()
    env, _ = make("meta/GaussianBandit", arms=3, episodes=60)
    chosen, best = pulls(env, GaussianThompson(3), 200)
    assert (best - chosen)[-10:].mean() < 0.4 * (best - chosen)[:3].mean()


def test_ucb1_pulls_every_arm_once_before_any_arm_twice():
    policy = UCB1(3)
    carry = policy.init_carry(())
    told, actions = {"action": jnp.int32(3), "reward": jnp.zeros(1)}, []
    for t in range(3):
        carry, action, _ = policy.act(carry, told, jnp.array(t == 0), KEY)
        told = {"action": action, "reward": jnp.ones(1)}
        actions.append(int(action))
    assert sorted(actions) == [0, 1, 2]


def test_brax_moves_by_the_physics_of_the_task_and_as_ever_without():
    pytest.importorskip("brax", reason="brax is an extra")
    env, params = make("brax/inverted_pendulum", backend="spring")
    family = RandomBrax(env, params)

    def push(key):
        _, state = family.reset_env(key, family.default_params)
        tasks = (family.default_params, family.draw(key))
        moved = [family.step_env(key, state, jnp.ones(1), task)[0] for task in tasks]
        return env.step_env(key, state, jnp.ones(1), params)[0], *moved

    plain, same, other = run_once(push, KEY)
    np.testing.assert_allclose(same, plain, rtol=1e-5)
    assert np.abs(other - plain).max() > 1e-3


@pytest.mark.parametrize(
    ("split", "count"), [("train", 4), ("held_out", 2), ("brax_train", 4), ("brax_held_out", 3)]
)
def test_every_split_of_the_control_tasks_can_be_made(split, count):
    assert len(make("meta/Control", split=split)[0].envs) == count


def test_control_tasks_that_end_by_a_fall_pay_nothing_but_the_fall():
    env, params = make("meta/Control", only="CartPole", episodes=2)
    out = play(env, params, lambda *_: jnp.ones(2), 40)  # to one side all the time
    for b in range(3):
        over = int(out["terminated"][:, b].argmax())
        episode, paid = out["info"]["episode"][: over + 1, b], out["reward"][: over + 1, b]
        assert 10 < over + 1 < 40 and np.count_nonzero(paid) == 2
        for i in (0, 1):
            lost = 1 - np.sum(episode == i) / 200
            np.testing.assert_allclose(paid[episode == i].sum(), -ONCE * lost, rtol=1e-5)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_control_tasks_pay_0_to_1_a_step_or_10_once(split):
    env, params = make("meta/Control", split=split, episodes=2)

    def run(key):
        state = reset_all(env, jax.random.split(key, 64), params)[1]
        return random_steps(env, params, key, state, 64, 400)[1]

    out = jax.tree.map(np.asarray, run_once(run, KEY))
    for i, name in enumerate(SPLITS[split]):
        paid = out["reward"][:, out["info"]["which"][0] == i]
        assert paid.shape == (400, 64 // len(SPLITS[split])) and (
            np.ptp(paid) > 0 or name in ("Acrobot", "PointRobot")
        )
        falls, goal = MEMBERS[name].reward is None, name in ("Acrobot", "MountainCar")
        assert paid.min() >= (-ONCE if falls else -0.02)
        assert paid.max() <= (0 if falls else ONCE if goal else 1.0 + 1e-5)
