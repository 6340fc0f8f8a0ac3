import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssmrl.envs.contract import Box, Dict, Discrete, MultiDiscrete, Tuple, contains, feature_size
from ssmrl.envs.contract import flatten as features
from ssmrl.errors import UsageError
from ssmrl.nets.two_hot import symlog
from ssmrl.world_model import WorldModelConfig
from ssmrl.world_model.actions import encode_action
from ssmrl.world_model.observations import (
    Decoded,
    Decoder,
    Encoder,
    leaves,
    put_together,
    take_apart,
)
from tests.envs.probes import run_once

CONFIG = WorldModelConfig(mlp_units=6, cnn_depth=2)
SPACES = {
    "discrete": Discrete(5),
    "multi-discrete": MultiDiscrete((3,) * 6),
    "uneven": MultiDiscrete((2, 4, 3)),
    "numbers": Box(-3.0, 3.0, (2, 3)),
    "unbounded": Box(-jnp.inf, jnp.inf, (4,)),
    "flags": Box(0, 1, (10, 10, 2), jnp.bool_),
    "image": Box(0, 255, (16, 16, 3), jnp.uint8),
    "dict": Dict(
        {
            "camera": Tuple((Box(0, 255, (8, 8, 1), jnp.uint8), Discrete(3))),
            "position": Box(-1.0, 1.0, (2,)),
        }
    ),
}


def element(space, key, batch=(3, 2)):
    count = int(np.prod(batch))
    bounded = jax.tree.map(
        lambda s: Box(-2.0, 2.0, s.shape) if isinstance(s, Box) and s.high == jnp.inf else s, space
    )
    if isinstance(space, Dict):
        return {name: element(s, key, batch) for name, s in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(element(s, key, batch) for s in space.spaces)
    if space.dtype in (jnp.uint8, jnp.bool_):
        x = jax.random.randint(key, (count, *space.shape), 0, int(space.high) + 1)
        x = x.astype(space.dtype)
    else:
        x = jax.vmap(bounded.sample)(jax.random.split(key, count))
    return x.reshape(*batch, *space.shape)


@pytest.mark.parametrize("name", SPACES)
def test_every_kind_of_observation_is_read_and_predicted(name):
    space = SPACES[name]
    obs = element(space, jax.random.key(0))

    def both(obs):
        encoder = Encoder(space, CONFIG, rngs=nnx.Rngs(0))
        decoder = Decoder(7, space, CONFIG, rngs=nnx.Rngs(1))
        code = encoder(obs)
        assert code.shape == (3, 2, encoder.out_dim)
        decoded = decoder(jnp.ones((3, 2, 7)))
        return code, decoded.prediction(), decoded.losses(obs)

    code, prediction, losses = run_once(both, obs)
    assert contains(space, prediction) and jnp.all(jnp.isfinite(code))
    assert set(losses) == set(leaves(space))
    assert all(x.shape == (3, 2) and jnp.all(x > 0) for x in losses.values())


def perfect_output(space, x):
    """What the decoder has to put out to predict x without doubt."""
    if not isinstance(space, Box):
        return 50 * features(space, x)
    if space.dtype == jnp.uint8:
        return x.astype(jnp.float32) / 255 - 0.5
    return symlog(features(space, x))


@pytest.mark.parametrize("name", SPACES)
def test_a_perfect_decoder_predicts_the_observation_and_has_no_loss(name):
    space = SPACES[name]
    obs = element(space, jax.random.key(1))
    parts = take_apart(space, obs)
    decoded = Decoded(space, {n: perfect_output(s, parts[n]) for n, s in leaves(space).items()})
    for got, want in zip(jax.tree.leaves(decoded.prediction()), jax.tree.leaves(obs), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    for loss in decoded.losses(obs).values():
        np.testing.assert_allclose(loss, 0, atol=1e-9)
    off = Decoded(space, jax.tree.map(lambda x: 1 - x, decoded.outputs)).losses(obs)
    assert all(jnp.any(loss > 0.1) for loss in off.values())


def test_a_space_is_taken_apart_and_put_together_again():
    obs = element(SPACES["dict"], jax.random.key(2))
    parts = take_apart(SPACES["dict"], obs)
    assert set(parts) == {"camera/0", "camera/1", "position"} == set(leaves(SPACES["dict"]))
    again = put_together(SPACES["dict"], parts)
    assert jax.tree.structure(again) == jax.tree.structure(obs)
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(obs)))


@pytest.mark.parametrize("side, size", [(64, 16 * 8 * 2), (32, 16 * 4 * 2), (16, 16 * 2 * 2)])
def test_images_are_halved_down_to_four_by_four(side, size):
    space = Box(0, 255, (side, side, 3), jnp.uint8)
    assert nnx.eval_shape(lambda: Encoder(space, CONFIG, rngs=nnx.Rngs(0))).out_dim == size


def test_the_sharpest_image_has_its_bounds_at_one_half():
    space = Box(0, 255, (8, 8, 1), jnp.uint8)
    white = jnp.full((1, 8, 8, 1), 255, jnp.uint8)
    loss = Decoded(space, {"observation": jnp.zeros((1, 8, 8, 1))}).losses(white)
    np.testing.assert_allclose(loss["observation"], 64 / 4)


@pytest.mark.parametrize(
    "space, message",
    [
        (Box(0, 255, (10, 10, 3), jnp.uint8), "side of 8, 16, 32"),
        (Box(0, 255, (64, 32, 3), jnp.uint8), "side of 8, 16, 32"),
        (Box(0, jnp.inf, (16, 16, 3), jnp.uint8), "finite bounds"),
        (Box(7, 7, (16, 16, 3), jnp.uint8), "finite bounds"),
        (Dict({}), "nothing to observe"),
        (Dict({"a": object()}), "expected a Discrete"),
    ],
)
def test_spaces_that_cannot_be_read_are_refused(space, message):
    with pytest.raises(UsageError, match=message):
        Encoder(space, CONFIG, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "option, message",
    [
        ({"initial": "learnt"}, "unknown initial state 'learnt'; nearest: 'learned'"),
        ({"reset_alignment": "exakt"}, "nearest: 'exact'"),
        ({"units": 0}, "units must be positive"),
        ({"free_nats": -1.0}, "free_nats must be 0 or more"),
        ({"classes": 1}, "classes >= 2"),
        ({"unimix": 1.0}, "unimix must lie"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(UsageError, match=message):
        WorldModelConfig(**option)


def test_bounded_actions_are_read_between_minus_one_and_one():
    space = Box(jnp.array([-2.0, 0.0, -jnp.inf]), jnp.array([2.0, 10.0, jnp.inf]), (3,))
    actions = jnp.array([[-2.0, 10.0, 0.3], [0.0, 5.0, 40.0], [1.0, 7.5, -3.0]])
    wanted = [[-1.0, 1.0, 0.3], [0.0, 0.0, 1.0], [0.5, 0.5, -1.0]]
    np.testing.assert_allclose(encode_action(space, actions, 1.0), wanted, atol=1e-6)


def test_integer_actions_are_read_as_one_hots():
    space = MultiDiscrete((2, 3))
    code = encode_action(space, jnp.array([1, 2]), 1.0)
    np.testing.assert_array_equal(code, [0, 1, 0, 0, 1])
    assert code.shape == (feature_size(space),)
