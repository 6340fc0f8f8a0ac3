"""One table out of results/meta_control/<memory>-<task>.json: python scripts/meta_control_table.py

Returns of the first and of the last episode of fresh trials, means over seeds, and the half-width
of the 95 % interval of the last over seeds.
"""

import json
from pathlib import Path

import numpy as np

from ssmrl.envs.meta.control import SPLITS
from ssmrl.run.evaluate import half_width

FOLDER = Path("results/meta_control")
MEMORIES = ("s5", "gru", "mlp")


def cell(memory, task):
    """First and last episode with memory, and the last with its memory wiped at every episode."""
    lines = json.loads((FOLDER / f"{memory}-{task}.json").read_text())["lines"]
    returns, wiped = (np.array(lines[name]["return_per_seed"]) for name in ("policy", "wiped"))
    last = f"{returns[:, -1].mean():.2f} ± {half_width(returns[:, -1]):.2f}"
    return f"{returns[:, 0].mean():.2f}, {last}, {wiped[:, -1].mean():.2f}"


def main():
    """Print the table and write it into the folder."""
    rows = [f"| | {' | '.join(MEMORIES)} |", "|---" * (1 + len(MEMORIES)) + "|"]
    for split in ("brax_train", "brax_held_out"):
        for task in SPLITS[split]:
            cells = " | ".join(cell(memory, task) for memory in MEMORIES)
            rows.append(f"| {task}{' (held out)' if split == 'brax_held_out' else ''} | {cells} |")
    text = "\n".join(rows) + "\n\nFirst episode, last ± 95 % over seeds, last with memory wiped.\n"
    (FOLDER / "tasks.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
