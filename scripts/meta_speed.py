"""What trials, projections and mixtures add to a step: python scripts/meta_speed.py [JSON]

Steps of many environments in one jitted scan under random actions, plain and wrapped in turns, best
of several: seconds of CPU time, which other programs disturb less than the clock.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp

from ssmrl.envs import make
from ssmrl.envs.meta import FixedTask, Projected, Trial
from ssmrl.envs.wrappers import Wrapper

STEPS, TURNS = 200, 9
FEATURES = 12
BATCH = {"brax/inverted_pendulum": 256, "brax/reacher": 256}
"""Environments side by side, where not 1024."""
PRESET = {"popgym/PositionOnlyCartPoleEasy": "meta/CartPole"}
"""What is trained on, made of that environment."""


class Wide(Wrapper):
    """Shows as many numbers as a projection does, without one: what their number alone costs."""

    def step(self, key, state, action, params=None):
        """The environment's; its numbers are repeated."""
        obs, *rest = self.env.step(key, state, action, params)
        return jax.lax.optimization_barrier(jnp.resize(obs, (FEATURES,))), *rest


def program(env, params, batch=1024):
    """A compiled rollout from a key: the sum of all that `batch` environments showed and paid."""
    actions = env.action_space(params)

    def step(carry, key):
        state, total = carry
        key_act, key_step = jax.random.split(key)
        action = jax.vmap(actions.sample)(jax.random.split(key_act, batch))
        keys = jax.random.split(key_step, batch)
        obs, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        seen = sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(obs))
        return (state, total + seen + jnp.sum(reward)), None

    def run(key):
        keys = jax.random.split(key, batch)
        _, state = jax.vmap(env.reset, (0, None))(keys, params)
        strong = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
        start = (strong, jnp.zeros(()))
        return jax.lax.scan(step, start, jax.random.split(key, STEPS))[0][1]

    return jax.jit(run).lower(jax.random.key(0)).compile()


def microseconds(programs, batch=1024):
    """CPU time of a step of one environment, by name: the best of several turns."""
    best = dict.fromkeys(programs, float("inf"))
    for turn in range(TURNS):
        for name, run in programs.items():
            begin = time.process_time()
            run(jax.random.key(turn)).block_until_ready()
            best[name] = min(best[name], time.process_time() - begin)
    return {name: seconds / STEPS / batch * 1e6 for name, seconds in best.items()}


def main():
    """Measure all variants; rows to the file that is named."""
    rows = []
    for id in (
        *BATCH,
        "popgym/PositionOnlyCartPoleEasy",
        "gymnax/CartPole-v1",
        "gymnax/Acrobot-v1",
    ):
        (env, params), batch = make(id), BATCH.get(id, 1024)
        task = FixedTask(env, params)
        variants = {
            "plain": (env, params),
            "wide": (Wide(env), params),
            "trial": (trial := Trial(task, 16), trial.default_params),
            "projected trial": (
                projected := Trial(Projected(task, FEATURES), 16),
                projected.default_params,
            ),
        }
        if id in PRESET:
            variants[PRESET[id]] = make(PRESET[id])
        compiled = {name: program(*pair, batch) for name, pair in variants.items()}
        costs = microseconds(compiled, batch)
        rows.append({"env": id} | {name: round(cost, 3) for name, cost in costs.items()})
        print(rows[-1], flush=True)
    each = {name: make("meta/Control", only=name) for name in ("Pendulum", "Acrobot", "Reacher")}
    each |= {"all four": make("meta/Control")}
    costs = microseconds({name: program(*pair) for name, pair in each.items()})
    rows.append({"env": "meta/Control"} | {name: round(cost, 3) for name, cost in costs.items()})
    print(rows[-1])
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w") as file:
            json.dump({"unit": "CPU microseconds per step of one environment", "rows": rows}, file)


if __name__ == "__main__":
    main()
