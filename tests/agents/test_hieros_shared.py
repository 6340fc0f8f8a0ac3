import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.agents.hieros_behaviour import Start
from ssmrl.agents.hieros_shared import manage
from ssmrl.agents.hieros_subgoal import Coded
from ssmrl.errors import UsageError
from ssmrl.run import levels
from ssmrl.world_model import Latent
from tests.agents.test_hieros import LEARNING, SMALL, Wages, agent, resumed
from tests.envs.probes import run_once

STEPS = 200


@pytest.fixture(scope="module")
def training():
    """An agent with a manager, its compiled step, and some of its states and metrics by update."""
    made = agent(Wages(), shared_model=True, higher_horizon=2, **LEARNING)
    state = run_once(made.init, jax.random.key(2))
    options = {"xla_backend_optimization_level": 0}
    step = jax.jit(made.train_step).lower(state).compile(options)
    kept, metrics = {}, []
    for i in range(1, STEPS + 1):
        state, found = step(state)
        metrics.append(jax.device_get(found))
        if i in (2, STEPS - 2, STEPS):
            kept[i] = state
    return made, step, kept, metrics


class Clockwork:
    """A world whose h is the time and the last action, which is the subgoal read as a number.

    It pays the action, shifted by a decimal for each step since the last subgoal."""

    every = 3

    def prepare(self):
        return None

    def imagine_step(self, latent, action, key, prepared):
        time = latent.deter[:, 0] + 1
        return latent._replace(deter=jnp.stack([time, action], axis=-1))

    def reward(self, latent):
        time, action = latent.deter[..., 0], latent.deter[..., 1]
        pay = action * 10 ** jnp.mod(time - 1, self.every)
        return SimpleNamespace(mean=lambda: pay)

    def cont(self, latent):
        return SimpleNamespace(probs=1 / (1 + latent.deter[..., 0]))

    def obey(self, x):
        goal = jnp.argmax(x[:, -3:], axis=-1).astype(jnp.float32)
        return SimpleNamespace(sample=lambda seed: goal)

    def wish(self, x):
        draw = lambda seed: jax.random.randint(seed, (x.shape[0], 1), 0, 3)  # noqa: E731
        return SimpleNamespace(sample=draw)


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_a_step_of_the_manager_is_k_steps_of_level_0_that_pursue_one_subgoal(aggregate):
    world, k, steps, n = Clockwork(), 3, 4, 5
    config = dataclasses.replace(
        SMALL.at(1), every=k, horizon=steps, code_groups=1, code_classes=3, aggregate=aggregate
    )
    codes = lambda deter: Coded(deter, deter, jnp.zeros_like(deter))  # noqa: E731
    start = Start(Latent(jnp.zeros((n, 2)), jnp.zeros((n, 1, 2)), ()), jnp.ones(n), None)
    trial = run_once(
        lambda key: manage(
            world, SimpleNamespace(actor=world.obey, codes=codes), world.wish, start, config, key
        ),
        jax.random.key(0),
    )
    times = np.broadcast_to(k * np.arange(steps + 1)[:, None], (steps + 1, n))
    np.testing.assert_array_equal(trial.input[:, :, 0], times)
    code = np.asarray(trial.action)[..., 0]
    assert trial.action.shape == (steps, n, 1) and len({tuple(x) for x in code.T}) > 1
    assert (np.diff(code, axis=0) != 0).any()
    share = 1 / k if aggregate == "mean" else 1
    for h in range(steps):
        chance, earned, new = 1.0, 0.0, 0.0
        for j in range(k):
            time = h * k + j + 1
            earned = earned + chance * code[h] * 10.0**j
            square = (np.log1p(time) ** 2 + np.log1p(code[h]) ** 2) / 2
            new = new + chance * np.log1p(square)
            chance = chance / (1 + time)
        np.testing.assert_allclose(trial.reward["extrinsic"][h], share * earned, rtol=1e-5)
        np.testing.assert_allclose(trial.reward["novelty"][h], share * new, rtol=1e-5)
        np.testing.assert_allclose(trial.going[h], np.full(n, chance), rtol=1e-5)


def test_manager_and_level_0_learn_what_pays_from_one_replay_and_one_model(training):
    made, _, kept, metrics = training
    before, after = kept[2], kept[STEPS]
    assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after)
    assert len(after.replays) == 1 and "1,024" not in made.note and "0 to 0" in made.note
    manager = [x.learners[1] for x in (before, after)]
    assert not jax.tree.leaves((manager[0].params.model, manager[0].params.codes))
    for name in ("actor", "critics"):
        pairs = zip(*(jax.tree.leaves(getattr(x.params, name)) for x in manager), strict=True)
        assert any(bool(jnp.any(a != b)) for a, b in pairs), name
    assert all(v == 0 for name, v in metrics[1].items() if name.startswith("level"))
    assert all(np.isfinite(v) for name, v in metrics[-1].items() if name.startswith("level"))
    assert set(after.learners[1].scales) == {"extrinsic", "novelty"}
    assert 0 < metrics[-1]["level1/entropy_share"] <= 1
    assert not any(name.startswith("level1/model") for name in metrics[-1])
    earned = np.mean([m["return"] for m in metrics[-30:]])
    assert earned > 0.85 * Wages().best()  # at random it is two thirds


def test_what_the_manager_learns_from_imagination_is_no_gradient_for_level_0(training):
    made, _, kept, _ = training
    manager, (lowest, learner) = made.levels[1], kept[STEPS].learners
    start = Start(made.levels[0].initial_carry(lowest.params, (8,)).latent, jnp.ones(8), goal=None)

    def norms(learner, lowest, key):
        """Squared norms by the two losses: of actor, critics, and all parameters of level 0."""

        def losses(trained, lowest):
            _, (_, found) = manager.loss(trained, learner, lowest, start, 1e-3, key)
            return jnp.stack([found["actor_loss"], found["critic_loss"]])

        jacobian = jax.jacrev(losses, argnums=(0, 1))(tuple(learner.params[1:]), lowest)
        square = lambda x: jnp.sum(jnp.square(x).reshape(2, -1), axis=1)  # noqa: E731
        parts = jacobian[0][0], jacobian[0][1], jacobian[1]
        return [sum(map(square, jax.tree.leaves(part))) for part in parts]

    actor, critics, below = np.array(run_once(norms, learner, lowest.params, jax.random.key(1)))
    assert actor[0] > 1e-10 and critics[1] > 1e-10
    assert actor[1] == critics[0] == 0
    np.testing.assert_array_equal(below, 0)


def test_the_manager_sees_what_level_0_knows_when_it_chooses_and_a_reset_hides_the_past(training):
    made, _, kept, _ = training

    def run(state, key):
        players = made._players(state)
        obs = jax.random.normal(key, (9, 2, 3))
        reset = jnp.zeros((9, 2), bool).at[jnp.array([0, 5]), 0].set(True).at[0, 1].set(True)

        def step(carry, at):
            thought = made.think(players, carry, *at, key, greedy=True)
            return thought.carry, thought

        begin = lambda size: made._initial_carry(state.params, (size,))  # noqa: E731
        thoughts = jax.lax.scan(step, begin(2), (obs, reset))[1]
        fresh = jax.tree.map(lambda x: x[5:, :1], (obs, reset))
        return thoughts, jax.lax.scan(step, begin(1), fresh)[1]

    thought, later = jax.device_get(run_once(run, kept[STEPS], jax.random.key(3)))
    lower, manager = thought.carry.levels
    due = thought.due[1]
    np.testing.assert_array_equal(due[:, 0], [1, 0, 0, 0, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(due[:, 1], [1, 0, 0, 0, 1, 0, 0, 0, 1])
    for t, env in np.ndindex(*due.shape):
        seen = t if due[t, env] else t - 1
        latent = lower.latent if due[t, env] else manager.latent
        np.testing.assert_array_equal(manager.latent.deter[t, env], latent.deter[seen, env])
        np.testing.assert_array_equal(thought.goal[0][t, env], manager.action[t, env])
        if not due[t, env]:
            np.testing.assert_array_equal(manager.action[t, env], manager.action[t - 1, env])
    for x, y in zip(jax.tree.leaves(thought.carry), jax.tree.leaves(later.carry), strict=True):
        np.testing.assert_allclose(x[5:, 0], y[:, 0], rtol=1e-4, atol=1e-6)


def test_training_with_a_shared_model_goes_on_bit_for_bit_from_a_checkpoint(training, tmp_path):
    resumed(training, tmp_path)


def test_the_report_shows_a_manager_that_has_no_model(training, tmp_path):
    made, _, kept, metrics = training
    rows = [{"env_steps": 64 * i} | m for i, m in enumerate(metrics)]
    learned = levels.learning(rows)
    assert 0 < len(learned) < len(rows)
    levels.plot(learned, "name", tmp_path / "levels.png")
    assert (tmp_path / "levels.png").stat().st_size > 10_000
    key = jax.random.key(0)
    seen, asked = run_once(lambda s, k: levels.subgoals(made, s, k, 3), kept[STEPS], key)
    assert seen.shape == asked.shape == (3, 3) and np.isfinite(asked).all()


@pytest.mark.parametrize(
    "options", [{"levels": 1}, {"levels": 3, "every": 2}, {"random_top": True}]
)
def test_a_shared_model_is_refused_for_other_hierarchies(options):
    with pytest.raises(UsageError, match=r"two levels that learn.* set agent\.levels=2"):
        dataclasses.replace(SMALL, shared_model=True, **options)


def test_options_of_a_model_are_not_read_for_a_manager():
    options = {"higher_length": 4, "higher_decoder_scale": 3.0, "higher_horizon": 2}
    shared, own = (
        dataclasses.replace(SMALL, shared_model=flag, **options).at(1) for flag in (True, False)
    )
    assert (shared.length, shared.decoder_scale, shared.horizon) == (8, SMALL.decoder_scale, 2)
    assert (own.length, own.decoder_scale, own.horizon) == (4, 3.0, 2)
    assert shared.updates == own.updates == SMALL.updates // SMALL.every
