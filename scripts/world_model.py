"""A world model alone, on the experience of a random policy: does it remember, can it imagine?

    python scripts/world_model.py --env popgym/RepeatPreviousEasy --memory s5 --updates 1500
    python scripts/world_model.py --env echo --updates 1000

Trains on windows of random experience. Every so often prints what fresh episodes say, read from
their beginning: how often the sign of the reward is right where there is one, beside the share
of the more common sign, and how often the observation is predicted right once half of the rows
have been observed and the rest is imagined from the recorded actions. `echo` shows the action
just taken and pays nothing: there this must be always.
"""

import argparse
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import ssmrl.envs
from ssmrl import memory
from ssmrl.envs.contract import Discrete
from ssmrl.world_model import Batch, WorldModel, WorldModelConfig

MEMORIES = {
    # Norm before the memory: the paper's, after it, takes three times as many updates here.
    "s5": {"state": 128, "blocks": 8, "discretization": "dirac", "dt_min": 0.01, "dt_max": 1.0},
    "lru": {"state": 64},
    "mamba": {},
    "gru": {},
    "mlp": {},
}


def echo(key, rows, actions=4, length=20):
    """Spaces, and rows of an environment that shows the action just taken and never ends."""
    action = jax.random.randint(key, (rows,), 0, actions)
    reset = jnp.arange(rows) % length == 0
    obs = jnp.where(reset, actions, jnp.roll(action, 1))  # `actions`: none yet
    stream = Batch(obs, action, jnp.zeros(rows), reset, jnp.zeros(rows, bool))
    return Discrete(actions + 1), Discrete(actions), stream


def random_experience(name, key, rows, envs=16):
    """Spaces, and at least `rows` rows of a random policy, one episode after the other."""
    env, params = ssmrl.envs.make(name)
    action_space = env.action_space(params)

    def step(carry, key):
        state, obs, reward, reset = carry
        keys = jax.random.split(key)
        action = action_space.sample(keys[0])
        next_obs, state, paid, ended, cut, info = env.step(keys[1], state, action, params)
        paid, done, never = jnp.float32(paid), ended | cut, jnp.array(False)
        row = Batch(obs, action, reward, reset, never)
        last = Batch(info["final_observation"], jnp.zeros_like(action), paid, never, ended)
        return (state, next_obs, jnp.where(done, 0.0, paid), done), ((row, last), done)

    def play(key):
        keys = jax.random.split(key)
        obs, state = env.reset(keys[0], params)
        start = (state, obs, jnp.float32(0), jnp.array(True))
        return jax.lax.scan(step, start, jax.random.split(keys[1], rows // envs))[1]

    pairs, done = jax.jit(jax.vmap(play))(jax.random.split(key, envs))
    real = np.stack([np.ones_like(done), done], axis=-1)  # the last row only where there is one
    stream = jax.tree.map(lambda *each: np.stack(each, axis=2)[real], *pairs)
    return env.observation_space(params), action_space, jax.tree.map(jnp.asarray, stream)


def windows(stream, starts, length):
    """Windows `(length, len(starts), ...)`; the first row counts as the first of an episode."""

    def cut(x):
        each = jax.vmap(lambda i: jax.lax.dynamic_slice_in_dim(x, i, length))(starts)
        return jnp.swapaxes(each, 0, 1)

    rows = jax.tree.map(cut, stream)
    return rows._replace(reset=rows.reset.at[0].set(True))


def trainer(graph, rule, stream, *, batch, length, updates):
    """A jitted function of (parameters, optimiser, key): `updates` updates, and their metrics."""

    def loss(params, rows, key):
        model = nnx.merge(graph, params)
        start = model.initial((batch,))
        return model.loss(rows, start, jnp.zeros_like(rows.action[0]), key)

    def update(carry, key):
        params, state = carry
        keys = jax.random.split(key)
        starts = jax.random.randint(keys[0], (batch,), 0, stream.reset.shape[0] - length + 1)
        rows = windows(stream, starts, length)
        grads, (_, metrics) = jax.grad(loss, has_aux=True)(params, rows, keys[1])
        step, state = rule.update(grads, state, params)
        return (optax.apply_updates(params, step), state), metrics

    @jax.jit
    def train(params, state, key):
        keys = jax.random.split(key, updates)
        (params, state), metrics = jax.lax.scan(update, (params, state), keys)
        return params, state, jax.tree.map(jnp.mean, metrics)

    return train


@partial(jax.jit, static_argnums=(0, 3))
def examine(graph, params, stream, length, starts, key):
    """Shares: sign of the reward right, of the more common sign, open-loop prediction right."""
    model, rows = nnx.merge(graph, params), windows(stream, starts, length)
    start, before = model.initial(starts.shape), jnp.zeros_like(rows.action[0])
    seen = model.observe(start, before, rows.obs, rows.action, rows.reset, key)
    scored = rows.reward != 0
    right = jnp.sign(model.reward(seen.latent).mean()) == jnp.sign(rows.reward)
    count = jnp.maximum(jnp.sum(scored), 1)
    positive = jnp.sum(scored & (rows.reward > 0)) / count
    looped = model.open_loop(
        start, before, rows.obs, rows.action, rows.reset, length // 2, key
    ).obs[length // 2 :]
    same = jax.tree.map(lambda x, y: jnp.mean(x == y), looped, rows.obs[length // 2 :])
    common = jnp.maximum(positive, 1 - positive)
    return jnp.sum(right & scored) / count, common, jax.tree.leaves(same)[0]


def experiment(options, report=print):
    """Trains, reports as it goes, and returns the last shares that `examine` gave."""
    keys = jax.random.split(jax.random.key(options.seed), 4)
    gather = echo if options.env == "echo" else partial(random_experience, options.env)
    obs_space, action_space, stream = gather(keys[0], options.rows)
    fresh = gather(keys[1], 20_000)[2]
    width = options.width
    config = WorldModelConfig(
        groups=options.groups, classes=options.classes, deter=width, units=width,
        mlp_units=width, head_units=width, bin_limit=1.0, reward_scale=options.reward_scale,
    )  # fmt: skip
    extra = MEMORIES[options.memory]
    spec = memory.make(options.memory, features=width, layers=options.layers, **extra)
    model = WorldModel(config, obs_space, action_space, spec, rngs=nnx.Rngs(options.seed))
    graph, params = nnx.split(model)
    rule = optax.chain(optax.clip_by_global_norm(100.0), optax.adam(options.learning_rate))
    state = rule.init(params)
    train = trainer(
        graph, rule, stream, batch=options.batch, length=options.length, updates=options.every
    )
    first = np.flatnonzero(fresh.reset)
    first = first[first <= fresh.reset.shape[0] - options.length][:128]
    report(f"{sum(x.size for x in jax.tree.leaves(params)):,} parameters, {options}")
    began = time.perf_counter()
    for i in range(options.updates // options.every):
        params, state, metrics = train(params, state, jax.random.fold_in(keys[2], i))
        shares = examine(graph, params, fresh, options.length, jnp.asarray(first), keys[3])
        report(
            f"{(i + 1) * options.every:6} updates {time.perf_counter() - began:6.0f} s  "
            f"loss {metrics['loss']:.3f}  kl {metrics['kl']:.2f}  reward sign {shares[0]:.3f} "
            f"(common {shares[1]:.3f})  open loop {shares[2]:.4f}"
        )
    return tuple(map(float, shares))


def parser():
    """The options, with values that solve RepeatPreviousEasy."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--env", default="popgym/RepeatPreviousEasy")
    options.add_argument("--memory", default="s5", choices=MEMORIES)
    for name, value in {
        "updates": 1500, "every": 250, "rows": 100_000, "batch": 16, "length": 64, "width": 128,
        "layers": 2, "groups": 8, "classes": 8, "seed": 0,
    }.items():  # fmt: skip
        options.add_argument(f"--{name}", type=int, default=value)
    options.add_argument("--learning-rate", type=float, default=3e-3)
    options.add_argument("--reward-scale", type=float, default=1.0)
    return options


if __name__ == "__main__":
    experiment(parser().parse_args(), partial(print, flush=True))
