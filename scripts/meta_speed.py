"""What trials, projections and mixtures add to a step: python scripts/meta_speed.py [JSON]

Steps of many environments in one jitted scan under random actions, plain and wrapped in turns, best
of several: seconds of CPU time, which other programs disturb less than the clock. A step is told
in trials that do not end; and as it is on the average in trials of 16 episodes, each of which draws
a task at its end. Random actions make short episodes and many ends. The sampler of control tasks
is told beside the mean of its environments, plain and in trials, each with its share of the batch.
"""

import json
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp

from ssmrl.envs import make
from ssmrl.envs.batch import reset_all, step_all
from ssmrl.envs.meta import FixedTask, Projected, Trial
from ssmrl.envs.meta.control import MEMBERS, SPLITS
from ssmrl.envs.wrappers import Wrapper

WARM, TURNS = 3, 15
FEATURES, EPISODES, ENDLESS = 12, 16, 1_000_000
SIZE = 1024, 500
"""Environments side by side, and steps of a rollout."""
SMALLER = {"brax/inverted_pendulum": (256, 100), "brax/reacher": (256, 50)}
PRESET = {"popgym/PositionOnlyCartPoleEasy": "meta/CartPole"}
"""What is trained on, made of that environment."""
MIXTURES = (("train", *SIZE), ("train", 64, 1000), ("brax_train", 64, 50))
"""Splits of control tasks, environments side by side, and steps of a rollout."""


class Wide(Wrapper):
    """Shows as many numbers as a projection does, without one: what their number alone costs."""

    def reset(self, key, params=None):
        """The environment's; its numbers are repeated."""
        obs, state = self.env.reset(key, params)
        return jnp.resize(obs, (FEATURES,)), state

    def step(self, key, state, action, params=None):
        """The environment's; its numbers are repeated."""
        obs, *rest = self.env.step(key, state, action, params)
        return jnp.resize(obs, (FEATURES,)), *rest


def program(env, params, batch, steps):
    """A compiled rollout, and a carry to begin with that has been played for a while.

    The carry is the state, what is seen and what was paid, as in the rollout of an agent; the
    rollout also counts how many episodes of `env` ended.
    """
    actions = env.action_space(params)

    def step(carry, key):
        state, *_, ends = carry
        key_act, key_step = jax.random.split(key)
        action = jax.vmap(actions.sample)(jax.random.split(key_act, batch))
        keys = jax.random.split(key_step, batch)
        obs, state, reward, end, late, _ = step_all(env, keys, state, action, params)
        return (state, obs, reward, ends + jnp.sum(end | late)), None

    @jax.jit
    def first(key):
        obs, state = reset_all(env, jax.random.split(key, batch), params)
        start = (state, obs, jnp.zeros(batch), jnp.int32(0))
        return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), start)

    @partial(jax.jit, donate_argnums=0)
    def run(carry, key):
        return jax.lax.scan(step, carry, jax.random.split(key, steps))[0]

    carry = first(jax.random.key(0))
    compiled = run.lower(carry, jax.random.key(0)).compile()
    for turn in range(WARM):
        carry = compiled(carry, jax.random.key(turn))
    return compiled, (*carry[:-1], jnp.int32(0))


def measure(variants, steps):
    """CPU microseconds of a step of one environment, the best of several turns, and how many steps
    there are to an end; both by name. variants: (env, params, environments side by side)."""
    programs = {name: program(*variant, steps) for name, variant in variants.items()}
    carries = {name: carry for name, (_, carry) in programs.items()}
    best = dict.fromkeys(programs, float("inf"))
    for turn in range(TURNS):
        for name, (run, _) in programs.items():
            begin = time.process_time()
            carries[name] = jax.block_until_ready(run(carries[name], jax.random.key(WARM + turn)))
            best[name] = min(best[name], time.process_time() - begin)
    played = {name: steps * variant[-1] for name, variant in variants.items()}
    costs = {name: seconds / played[name] * 1e6 for name, seconds in best.items()}
    ends = {name: int(carry[-1]) for name, carry in carries.items()}
    return costs, {name: TURNS * played[name] / n if n else None for name, n in ends.items()}


def family(env, params):
    """The variants of an environment, by name."""
    task = FixedTask(env, params)
    projected = Projected(task, FEATURES)
    trials = {
        "trial": Trial(task, ENDLESS),
        "projected trial": Trial(projected, ENDLESS),
        "trial with ends": Trial(task, EPISODES),
        "projected trial with ends": Trial(projected, EPISODES),
    }
    return {
        "plain": (env, params),
        "wide": (Wide(env), params),
        **{name: (trial, trial.default_params) for name, trial in trials.items()},
    }


def sampler(split, batch, steps):
    """The row of a split of control tasks: the sampler, and the mean of its environments."""
    names, share = SPLITS[split], batch // len(SPLITS[split])
    variants = {}
    for name in names:
        plain = make(MEMBERS[name].id, max_steps_in_episode=MEMBERS[name].steps)
        trial = make("meta/Control", split=split, only=name, episodes=ENDLESS)
        variants |= {("plain", name): (*plain, share), ("projected trial", name): (*trial, share)}
    mixed = make("meta/Control", split=split, episodes=ENDLESS)
    costs, _ = measure(variants | {"sampler": (*mixed, batch)}, steps)
    row = {"env": f"meta/Control {split}", "environments": batch}
    for variant in ("plain", "projected trial"):
        row[variant] = round(sum(costs[variant, name] for name in names) / len(names), 4)
    return row | {"sampler": round(costs["sampler"], 4)}


def main():
    """Measure all variants; rows to the file that is named."""
    rows = []

    def tell(name, variants):
        batch, length = SMALLER.get(name, SIZE)
        sized = {variant: (*made, batch) for variant, made in variants.items()}
        costs, steps = measure(sized, length)
        row = {"env": name} | {variant: round(cost, 4) for variant, cost in costs.items()}
        if steps.get("trial with ends"):
            row |= {"steps of a trial": round(steps["trial with ends"])}
        rows.append(row)
        print(row, flush=True)

    for id in (*SMALLER, *PRESET, "gymnax/CartPole-v1", "gymnax/Acrobot-v1"):
        variants = family(*make(id))
        if id in PRESET:
            endless = make(PRESET[id], episodes=ENDLESS)
            variants |= {PRESET[id]: endless, f"{PRESET[id]} with ends": make(PRESET[id])}
        tell(id, variants)
    for split, batch, steps in MIXTURES:
        rows.append(sampler(split, batch, steps))
        print(rows[-1], flush=True)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w") as file:
            json.dump({"unit": "CPU microseconds per step of one environment", "rows": rows}, file)


if __name__ == "__main__":
    main()
