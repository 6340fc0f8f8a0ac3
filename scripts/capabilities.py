"""Writes results/memories/capabilities.json: which memory solves which task.

`python scripts/capabilities.py` runs what is missing there, or was made with other settings
than those below, and saves after every row; memories and tasks named as arguments run again.
A row is either a construction (parameters set by hand, tested on episodes of 300 steps) or a
training on short episodes, tested on up to four times longer ones, with the same number of
updates for memories that can and for those that cannot. Takes about half an hour on one core.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax

from ssmrl.errors import unknown
from ssmrl.memory import make
from ssmrl.memory.diagnostics import constructions, tasks
from ssmrl.memory.diagnostics.fit import evaluate, fit

Row = dict[str, Any]

RESULTS = Path(__file__).resolve().parent.parent / "results/memories/capabilities.json"
LENGTH = 300  # of the episodes that constructions are tested on
SIZES = {"features": 32, "layers": 1}
TRAINING = {"steps": 1000, "batch": 32, "learning_rate": 1e-2, "factors": [1, 2, 4]}
SEEDS = 2

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "flip_flop": ("flip_flop", {"length": 32, "ignore": 0.9}),
    "parity": ("parity", {"length": 16}),
    "S_3": ("group_word", {"length": 8, "group": "S_3"}),
    "A_5": ("group_word", {"group": "A_5"}),
    "S_5 swaps": ("group_word", {"group": "S_5", "elements": "transpositions"}),
    "aa_star": ("aa_star", {}),
    "counters": ("counters", {"kinds": 1}),
    "copy": ("copy", {}),
    "selective_copy": ("selective_copy", {"length": 16, "count": 3}),
    "recall": ("associative_recall", {"length": 12, "pairs": 3, "keys": 4, "values": 4}),
    "overwriting": ("overwriting_recall", {}),
}
"""Short name -> name and options of the task; `length` is that of trainings."""

CONSTRUCTED = {
    "elman": ["parity", "S_3"],
    "hmm": ["parity", "S_3"],
    "linear_cde": ["parity", "S_3", "A_5"],
    "gateloop": ["S_3"],
    "deltanet": ["S_5 swaps", "recall", "overwriting"],
    "mamba": ["flip_flop", "parity"],
    "gru": ["flip_flop"],
    "lstm": ["counters"],
    "lru": ["aa_star", "counters", "copy"],
    "linear_attention": ["recall"],
}
SIGNED = {("mamba", "parity"), ("deltanet", "S_5 swaps")}
"""Constructions that need `negative_eigs`."""

TRAINED = {
    "flip_flop": ["gru", "rg_lru", "s5", "mlp", "lru", "mamba"],
    "parity": ["gru", "rg_lru", "mlp", "elman", "linear_cde", "mamba"],
    "S_3": ["gru", "s5", "mlp", "linear_cde"],
    "recall": ["linear_attention", "mlp", "gru", "deltanet"],
    "selective_copy": ["gru", "s5", "mlp", "mamba"],
}
SIGNED_TRAINED = {"parity": ["mamba"]}


def plan() -> list[Row]:
    """What there is to run: memory, its options, task and how, in this order."""
    rows = [
        {"memory": name, "options": signed((name, task) in SIGNED), "task": task, "how": "made"}
        for name, chosen in CONSTRUCTED.items()
        for task in chosen
    ]
    for trained, options in ((TRAINED, {}), (SIGNED_TRAINED, signed(True))):
        rows += [
            {"memory": name, "options": options, "task": task, "how": "trained"}
            for task, names in trained.items()
            for name in names
        ]
    return rows


def signed(yes: bool) -> dict[str, bool]:
    """The options of a memory whose eigenvalues may be negative, or none."""
    return {"negative_eigs": True} if yes else {}


def made(row: Row) -> Row:
    """The score of a construction."""
    name, options = TASKS[row["task"]]
    task = tasks.make(name, **options | {"length": LENGTH})
    mem, params = constructions.make(row["memory"], task)
    score = evaluate(mem, params, jax.random.key(0), task, batch=8)
    return row | {"scores": {str(LENGTH): [score]}}


def trained(row: Row, seeds: int = SEEDS, **changed: Any) -> Row:
    """Scores of trainings from several seeds at one, two and four times the length."""
    training = TRAINING | changed
    name, options = TASKS[row["task"]]
    mem = make(row["memory"], **SIZES, **row["options"])
    begin = time.process_time()
    learn = partial(fit, mem, tasks.make(name, **options), **training)
    found = [learn(jax.random.key(seed)).scores for seed in range(seeds)]
    scores = {str(length): [round(f[length], 4) for f in found] for length in found[0]}
    spent = {"cpu_seconds": round(time.process_time() - begin, 1)}
    return row | {"scores": scores, **settings(row), **changed, **spent}


def settings(row: Row) -> Row:
    """What a row was made with, beside what `plan` says."""
    return TASKS[row["task"]][1] | SIZES | TRAINING if row["how"] == "trained" else {}


def label(row: Row) -> tuple[Any, ...]:
    """What tells a row from the others, however it was made."""
    return row["memory"], tuple(row["options"]), row["task"], row["how"]


def main(names: list[str]) -> None:
    """Runs rows that are missing, or those of the memories and tasks named."""
    known = {row[key] for row in plan() for key in ("memory", "task")}
    for name in names:
        if name not in known:
            raise unknown("memory or task", name, sorted(known))
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    rows = {label(row): row for row in done if settings(row).items() <= row.items()}
    for row in plan():
        again = row["memory"] in names or row["task"] in names
        if again or (not names and label(row) not in rows):
            found = (made if row["how"] == "made" else trained)(row)
            rows[label(row)] = found
            ordered = [rows[label(r)] for r in plan() if label(r) in rows]
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
            print(*label(row), found["scores"], found.get("cpu_seconds", ""), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
