"""One table by task out of results/meta_control: python scripts/meta_control_table.py

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
    return f"{play(jax.random.key(1)).mean():.1f}"


def saved(split):
    """By memory, what `ssmrl eval` has told of each task of a split."""
    if split == "brax_train":
        runs = json.loads((FOLDER / "adaptation.json").read_text())
    else:
        runs = [json.loads((FOLDER / f"{name}-held_out.json").read_text()) for name in MEMORIES]
    return {run["memory"]: list(run["environments"].values()) for run in runs}


def cell(lines):
    """First and last episode with memory, and the last with its memory wiped at every episode."""
    returns, wiped = (np.array(lines[name]["return_per_seed"]) for name in ("policy", "wiped"))
    last = f"{returns[:, -1].mean():.1f} ± {half_width(returns[:, -1]):.1f}"
    return f"{returns[:, 0].mean():.1f}, {last}, {wiped[:, -1].mean():.1f}"


def main():
    """Print the table and write it into the folder."""
    rows = [f"| | {' | '.join(MEMORIES)} | still |", "|---" * (2 + len(MEMORIES)) + "|"]
    for split in ("brax_train", "brax_held_out"):
        told = saved(split)
        for i, task in enumerate(SPLITS[split]):
            cells = " | ".join(cell(told[memory][i]) for memory in MEMORIES)
            name = f"{task}{' (held out)' if split == 'brax_held_out' else ''}"
            rows.append(f"| {name} | {cells} | {standing_still(task)} |")
    text = "\n".join(rows) + "\n\nFirst episode, last ± 95 % over seeds, last with memory wiped.\n"
    (FOLDER / "tasks.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
