import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssmrl.envs.contract import Box, Dict, Discrete
from ssmrl.errors import UsageError
from ssmrl.world_model import features
from ssmrl.world_model.model import _as_released
from tests.envs.probes import run_once
from tests.world_model.small import ENVS, S5, STEPS, model, rows, some_latent

FEW = {"features": 8, "layers": 1}
MEMORIES = {
    "s5 sequential": ("s5", S5 | {"scan": "sequential"}),
    "s5 associative": ("s5", S5 | {"scan": "associative", "discretization": "bilinear"}),
    "s5, h from its state": ("s5", S5, {"deter_from": "state"}),
    "lru": ("lru", FEW | {"state": 6}),
    "mamba": ("mamba", FEW),
    "gru": ("gru", FEW),
    "mlp": ("mlp", FEW),
}


def leaves_close(x, y):
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_sequence_gives_what_acting_step_by_step_gives(name):
    kind, options, *config = MEMORIES[name]
    world_model = model(kind, memory_options=options, **dict(*config))
    batch, key = rows(), jax.random.key(5)
    before = jnp.array([2, 1])

    def both(start, batch):
        seen = world_model.observe(start, before, batch.obs, batch.action, batch.reset, key)
        prepared = world_model.prepare()

        def act(carry, at):
            latent, action = carry
            obs, chosen, reset, k = at
            latent = world_model.observe_step(latent, action, obs, reset, k, prepared)
            return (latent, chosen), latent

        inputs = (batch.obs, batch.action, batch.reset, jax.random.split(key, STEPS))
        return seen.latent, jax.lax.scan(act, (start, before), inputs)[1]

    parallel, acted = run_once(both, some_latent(world_model), batch)
    leaves_close(parallel, acted)
    np.testing.assert_array_equal(jnp.sum(parallel.stoch, axis=-1), 1)


def test_acting_prepares_by_itself():
    world_model, batch = model(), rows()
    latent, arguments = some_latent(world_model), (batch.action[0], batch.obs[0], batch.reset[0])

    def both(key):
        given = world_model.observe_step(latent, *arguments, key, world_model.prepare())
        return given, world_model.observe_step(latent, *arguments, key)

    leaves_close(*run_once(both, jax.random.key(0)))


def test_zeros_are_where_episodes_start_if_asked_for():
    for leaf in jax.tree.leaves(model(initial="zeros").initial((ENVS,))):
        assert not jnp.any(leaf)


def test_a_learned_start_is_the_mode_of_the_prior_and_a_trained_carry():
    world_model = model()
    start = world_model.initial()
    assert start.stoch.shape == (3, 4)
    prior = world_model.prior(jnp.zeros(8))
    np.testing.assert_array_equal(jnp.argmax(start.stoch, -1), jnp.argmax(prior, -1))
    assert all(jnp.all(jnp.abs(h) > 0) for h in jax.tree.leaves(start.hidden))


def gradients_of_what_follows(row, **config):
    """Of the latents from `row` on, by what comes with each row and by the latent before."""
    world_model, batch = model(action_space=Box(-9.0, 9.0, (2,)), **config), rows(action_dim=2)
    start = some_latent(world_model)

    def later(obs, action, hidden, stoch):
        begin = start._replace(hidden=hidden, stoch=stoch)
        seen = world_model.observe(
            begin, action[0], obs, action, batch.reset, jax.random.key(0)
        ).latent
        weight = jax.random.normal(jax.random.key(1), features(seen, "full").shape)
        return jnp.sum(weight[row:] * features(seen, "full")[row:])

    grads = run_once(
        jax.grad(later, argnums=(0, 1, 2, 3)), batch.obs, batch.action, start.hidden, start.stoch
    )
    return batch, grads


def test_no_gradient_crosses_a_reset():
    # Column 0 resets at 0, 3, 4 and last, column 1 at 2 alone.
    _, (obs, action, hidden, stoch) = gradients_of_what_follows(4)
    assert not jnp.any(obs[:4, 0]) and not jnp.any(action[:4, 0])
    assert not jnp.any(obs[:2, 1]) and not jnp.any(action[:2, 1])
    assert not any(jnp.any(h) for h in jax.tree.leaves((hidden, stoch)))
    assert jnp.all(jnp.any(action[2:8, 1] != 0, axis=-1))  # within the episode it flows
    assert jnp.all(jnp.any(obs[2:8, 1] != 0, axis=-1))


@pytest.mark.parametrize("defect", [{"reset_alignment": "release"}, {"mask_z_on_reset": False}])
def test_the_published_defects_let_a_gradient_cross_it(defect):
    _, (obs, *_) = gradients_of_what_follows(4, **defect)
    assert jnp.any(obs[:2, 1])


def test_the_published_code_resets_one_step_early_except_at_the_end():
    flags = jnp.array([[True], [False], [True], [False], [False], [True], [True]])
    early = [False, True, False, False, True, False, True]
    np.testing.assert_array_equal(_as_released(flags)[:, 0], early)


def test_deter_has_read_the_action_and_latent_before_not_those_of_its_own_row():
    world_model, batch = model(action_space=Box(-9.0, 9.0, (2,))), rows(action_dim=2)
    start = some_latent(world_model)

    def deter(obs, action):
        seen = world_model.observe(
            start, action[0], obs, action, jnp.zeros_like(batch.reset), jax.random.key(0)
        )
        return jnp.sum(seen.latent.deter[4])

    obs, action = run_once(jax.grad(deter, argnums=(0, 1)), batch.obs, batch.action)
    for grad in (obs, action):
        assert jnp.all(jnp.any(grad[:4] != 0, axis=-1)) and not jnp.any(grad[4:])


def test_imagination_pairs_latents_and_actions_as_acting_does():
    world_model, batch, key = model(), rows(), jax.random.key(0)
    start, before = some_latent(world_model), batch.action[0]

    def both(batch):
        seen = world_model.observe(start, before, batch.obs, batch.action, batch.reset, key)
        imagined = jax.vmap(world_model.imagine_step, in_axes=(0, 0, None))(
            seen.latent, batch.action, key
        )
        return seen, imagined

    seen, imagined = run_once(both, batch)
    goes_on = ~batch.reset[1:]
    for real, dream in zip(
        jax.tree.leaves((seen.latent.deter, seen.latent.hidden)),
        jax.tree.leaves((imagined.deter, imagined.hidden)),
        strict=True,
    ):
        np.testing.assert_allclose(real[1:][goes_on], dream[:-1][goes_on], atol=2e-5)


def test_open_loop_observes_the_context_and_imagines_the_rest():
    world_model, batch, key = model(), rows(), jax.random.key(2)
    start, before, context = some_latent(world_model), batch.action[0], 5

    def both(batch):
        looped = world_model.open_loop(
            start, before, batch.obs, batch.action, batch.reset, context, key
        )
        key_seen, key_ahead = jax.random.split(key)
        head = jax.tree.map(lambda x: x[:context], batch)
        seen = world_model.observe(start, before, head.obs, head.action, head.reset, key_seen)
        latent = jax.tree.map(lambda x: x[-1], seen.latent)
        ahead = []
        for t, k in enumerate(jax.random.split(key_ahead, STEPS - context)):
            latent = world_model.imagine_step(latent, batch.action[context - 1 + t], k)
            ahead.append(latent)
        ahead = jax.tree.map(lambda *x: jnp.stack(x), *ahead)
        return looped, seen.latent, ahead, world_model.reward(ahead).mean()

    looped, seen, ahead, reward = run_once(both, batch)
    leaves_close(jax.tree.map(lambda x: x[:context], looped.latent), seen)
    # column 1 has no reset among the imagined rows; the last row of column 0 starts anew
    leaves_close(
        jax.tree.map(lambda x: x[context:, 1], looped.latent),
        jax.tree.map(lambda x: x[:, 1], ahead),
    )
    np.testing.assert_allclose(looped.reward[context:, 1], reward[:, 1], rtol=1e-4)
    assert jnp.any(jnp.abs(looped.latent.deter[-1, 0] - ahead.deter[-1, 0]) > 1e-3)
    assert looped.obs.shape == batch.obs.shape and jnp.all((looped.cont > 0) & (looped.cont < 1))


@pytest.mark.parametrize("context", [0, STEPS + 1])
def test_open_loop_needs_a_context_within_the_sequence(context):
    world_model, batch = model(), rows()
    arguments = (batch.action[0], batch.obs, batch.action, batch.reset)
    with pytest.raises(UsageError, match=f"context must be 1 to {STEPS}"):
        world_model.open_loop(some_latent(world_model), *arguments, context, jax.random.key(0))


def test_features_are_the_parts_that_the_policy_asks_for():
    latent = some_latent(model())
    sizes = {kind: features(latent, kind).shape for kind in ("output", "hidden", "full")}
    assert sizes == {"output": (ENVS, 8 + 12), "hidden": (ENVS, 12 + 16), "full": (ENVS, 36)}
    np.testing.assert_array_equal(features(latent, "hidden")[:, 12], latent.hidden[0][:, 0].real)
    with pytest.raises(UsageError, match="unknown policy input 'ful'; nearest: 'full'"):
        features(latent, "ful")


def test_the_loss_is_the_weighted_sum_of_the_likelihoods_and_both_divergences():
    world_model, batch, key = model(reward_scale=3.0, free_nats=0.5), rows(), jax.random.key(0)
    start, before = some_latent(world_model), batch.action[0]

    def both(batch):
        loss, (latent, metrics) = world_model.loss(batch, start, before, key)
        seen = world_model.observe(start, before, batch.obs, batch.action, batch.reset, key)
        return loss, latent, metrics, seen, world_model.cont(latent).probs

    loss, latent, metrics, seen, cont = run_once(both, batch)
    leaves_close(latent, seen.latent)
    posterior, prior = distrax.Categorical(seen.posterior), distrax.Categorical(seen.prior)
    kl = np.sum(posterior.kl_divergence(prior), axis=-1)
    np.testing.assert_allclose(metrics["kl"], np.mean(kl), rtol=1e-5)
    np.testing.assert_allclose(metrics["kl_at_reset"], np.mean(kl[batch.reset]), rtol=1e-5)
    for name in ("dyn", "rep"):
        np.testing.assert_allclose(metrics[name], np.mean(np.maximum(kl, 0.5)), rtol=1e-5)
    entropy = np.mean(np.sum(prior.entropy(), axis=-1))
    np.testing.assert_allclose(metrics["prior_entropy"], entropy, rtol=1e-5)
    goes_on = np.where(batch.terminal, 1 - cont, cont)
    np.testing.assert_allclose(metrics["cont"], -np.mean(np.log(goes_on)), rtol=1e-5)
    parts = {"decoder/observation": 1.0, "reward": 3.0, "cont": 1.0, "dyn": 0.5, "rep": 0.1}
    total = sum(scale * metrics[name] for name, scale in parts.items())
    np.testing.assert_allclose([loss, metrics["loss"]], total, rtol=1e-5)


def gradient_sizes(**config):
    """Sizes of the gradients of the KL terms alone: of the posterior's and the prior's head."""
    scales = dict.fromkeys(("decoder_scale", "reward_scale", "cont_scale"), 0.0)
    world_model, batch = model(**scales, **config), rows()
    start, heads = some_latent(world_model), ("posterior_head", "prior_head")
    for name in heads:  # far from each other
        kernel = getattr(world_model, name).out.kernel
        kernel[...] = 5 * kernel[...]
    graph, params = nnx.split(world_model)

    def loss(params):
        read = nnx.merge(graph, params)
        return read.loss(batch, start, batch.action[0], jax.random.key(0))[0]

    grads = run_once(jax.grad(loss), params)
    return {name: float(jnp.max(jnp.abs(grads[name]["out"]["bias"][...]))) for name in heads}


def test_dyn_trains_the_prior_and_rep_the_posterior():
    only_dyn, only_rep = gradient_sizes(rep_scale=0.0), gradient_sizes(dyn_scale=0.0)
    assert only_dyn["prior_head"] > 1e-3 and only_rep["posterior_head"] > 1e-3
    # what rep gives the posterior reaches the prior through the latents that the memory reads
    fixed_prior = gradient_sizes(dyn_scale=0.0, free_nats=1e6)
    assert max(fixed_prior.values()) == 0.0


def test_every_parameter_is_trained():
    obs_space = Dict({"camera": Box(0, 255, (8, 8, 1), jnp.uint8), "place": Discrete(5)})
    graph, params = nnx.split(model(obs_space=obs_space, free_nats=0.0))
    batch, shape = rows(), (STEPS, ENVS)
    camera = jax.random.randint(jax.random.key(0), (*shape, 8, 8, 1), 0, 256).astype(jnp.uint8)
    batch = batch._replace(obs={"camera": camera, "place": batch.action + 1})

    def loss(params, batch):
        world_model = nnx.merge(graph, params)
        start = world_model.initial((ENVS,))
        return world_model.loss(batch, start, batch.action[0], jax.random.key(0))[0]

    grads = run_once(jax.grad(loss), params, batch)
    still = [
        jax.tree_util.keystr(path)
        for path, grad in jax.tree_util.tree_leaves_with_path(grads)
        if not (jnp.all(jnp.isfinite(grad)) and jnp.any(grad != 0))
    ]
    assert not still
