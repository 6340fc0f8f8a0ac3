"""A world model so small that it compiles in a second, and rows for it."""

import jax
import jax.numpy as jnp
from flax import nnx

from ssmrl import memory
from ssmrl.envs.contract import Box, Discrete
from ssmrl.world_model import Batch, Latent, WorldModel, WorldModelConfig

STEPS, ENVS = 9, 2
SIZES = {
    "groups": 3, "classes": 4, "deter": 8, "units": 8, "mlp_units": 8, "cnn_depth": 2,
    "head_units": 8, "bins": 11,
}  # fmt: skip
S5 = {"features": 8, "state": 8, "blocks": 2, "layers": 2, "norm": "post"}


def model(kind="s5", obs_space=None, action_space=None, memory_options=S5, **config):
    """A model whose learned start and zero-initialised heads are not zero."""
    obs_space = obs_space or Box(-5.0, 5.0, (3,))
    spec = memory.make(kind, **memory_options)
    made = WorldModel(
        WorldModelConfig(**(SIZES | config)),
        obs_space,
        action_space or Discrete(3),
        spec,
        rngs=nnx.Rngs(0),
    )
    for i, x in enumerate([*made.start, made.reward_head.out.kernel]):
        x[...] = jax.random.normal(jax.random.key(i), x.shape)
    return made


def rows(action_dim=None):
    """A batch whose resets fall on the first and last step, on two in a row, and on none."""
    keys = jax.random.split(jax.random.key(7), 3)
    shape = (STEPS, ENVS)
    reset = jnp.zeros(shape, bool).at[jnp.array([0, 3, 4, STEPS - 1]), 0].set(True)
    discrete = jax.random.randint(keys[1], shape, 0, 3)
    return Batch(
        obs=jax.random.normal(keys[0], (*shape, 3)),
        action=jax.random.normal(keys[1], (*shape, action_dim)) if action_dim else discrete,
        reward=jax.random.normal(keys[2], shape),
        reset=reset.at[2, 1].set(True),
        terminal=jnp.roll(reset, -1, 0),
    )


def some_latent(world_model):
    """A latent of `ENVS` episodes under way: nothing in it is zero."""

    def random(x):
        parts = jax.random.normal(jax.random.key(3), (2, *x.shape))
        return jax.lax.complex(*parts) if jnp.iscomplexobj(x) else parts[0].astype(x.dtype)

    latent: Latent = jax.tree.map(random, world_model.initial((ENVS,)))
    return latent
