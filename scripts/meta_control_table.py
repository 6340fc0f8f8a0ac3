"""One table out of results/meta_control/<memory>-<task>.json: python scripts/meta_control_table.py

Returns of the first and of the last episode of fresh trials, means over seeds, and the half-width
of the 95 % interval of the last over seeds; and what standing still returns.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.envs import make
from ssmrl.envs.meta.control import SPLITS
from ssmrl.run.adaptation import play_trials
from ssmrl.run.evaluate import half_width

FOLDER = Path("results/meta_control")
MEMORIES = ("s5", "gru", "mlp")


class Still:
    """The policy that never moves."""

    def init_carry(self, batch):
        """Nothing to remember."""
        return jnp.zeros(batch)

    def act(self, carry, obs, reset, key, greedy=False):
        """Zeros."""
        return carry, jnp.zeros((*reset.shape, 2)), {}


def standing_still(task):
    """Mean return of an episode without any action."""
    env, params = make("meta/Control", split="brax_train", episodes=2, only=task)
    play = jax.jit(lambda key: play_trials(Still(), env, params, key, 256, False))
    return f"{play(jax.random.key(1)).mean():.2f}"


def cell(memory, task):
    """First and last episode with memory, and the last with its memory wiped at every episode."""
    lines = json.loads((FOLDER / f"{memory}-{task}.json").read_text())["lines"]
    returns, wiped = (np.array(lines[name]["return_per_seed"]) for name in ("policy", "wiped"))
    last = f"{returns[:, -1].mean():.2f} ± {half_width(returns[:, -1]):.2f}"
    return f"{returns[:, 0].mean():.2f}, {last}, {wiped[:, -1].mean():.2f}"


def main():
    """Print the table and write it into the folder."""
    rows = [f"| | {' | '.join(MEMORIES)} | still |", "|---" * (2 + len(MEMORIES)) + "|"]
    for split in ("brax_train", "brax_held_out"):
        for task in SPLITS[split]:
            cells = " | ".join(cell(memory, task) for memory in MEMORIES)
            name = f"{task}{' (held out)' if split == 'brax_held_out' else ''}"
            rows.append(f"| {name} | {cells} | {standing_still(task)} |")
    text = "\n".join(rows) + "\n\nFirst episode, last ± 95 % over seeds, last with memory wiped.\n"
    (FOLDER / "tasks.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
