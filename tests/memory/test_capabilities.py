"""The claims of the table of memories: constructions that solve a task, and ones that cannot."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from ssmrl.errors import UsageError
from ssmrl.memory import MEMORIES
from ssmrl.memory.cells.mamba import Mamba
from ssmrl.memory.diagnostics import constructions, tasks
from ssmrl.memory.diagnostics.fit import answers
from tests.envs.probes import run_once

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/capabilities.py"))


@pytest.fixture(autouse=True)
def as_optax_is_written():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def score(name, task, change=lambda mem: mem):
    """Share of right answers of a construction, whose memory may be exchanged."""
    mem, params = constructions.make(name, task)

    def run(params):
        s = tasks.generate(task, jax.random.key(1), 4)
        return tasks.score(task, answers(change(mem), params, s), s.target, s.scored)

    return float(run_once(run, params))


@pytest.mark.parametrize(
    ("name", "task", "options"),
    [
        ("elman", "group_word", {"group": "S_3"}),
        ("linear_cde", "group_word", {"group": "A_5"}),
        ("gateloop", "group_word", {"group": "S_3"}),
        ("deltanet", "group_word", {"group": "S_5", "elements": "transpositions"}),
        ("deltanet", "overwriting_recall", {}),
        ("mamba", "parity", {}),
        ("mamba", "flip_flop", {}),
        ("lstm", "counters", {"kinds": 1}),
        ("lru", "copy", {}),
    ],
)
def test_a_memory_whose_parameters_are_set_by_hand_solves_its_task(name, task, options):
    assert score(name, tasks.make(task, length=100, **options)) == 1.0


def test_without_negative_eigenvalues_the_same_mamba_does_not_count():
    def nonnegative(mem):
        (start,) = mem.members
        cell = replace(start.memory, negative_eigs=False)
        assert isinstance(cell, Mamba)
        return replace(mem, members=(replace(start, memory=cell),))

    assert score("mamba", tasks.make("parity", length=100), nonnegative) < 0.7


def test_linear_attention_that_only_adds_is_wrong_once_a_value_is_replaced():
    mem, params = constructions.make("linear_attention", tasks.make("associative_recall"))
    task = tasks.make("overwriting_recall", length=32)
    s = run_once(lambda key: tasks.generate(task, key, 16), jax.random.key(0))
    answer = run_once(lambda p: answers(mem, p, s), params)
    assert jnp.mean(tasks.score(task, answer, s.target, s.scored)) < 0.9


def test_a_task_without_a_construction_is_named():
    with pytest.raises(UsageError, match="unknown construction 'gru on Copy'"):
        constructions.make("gru", tasks.make("copy"))


def test_the_script_trains_a_memory_and_reports_every_seed_and_length():
    row = {"memory": "mlp", "options": {}, "task": "flip_flop", "how": "trained"}
    found = SCRIPT["trained"](row, seeds=1, steps=2, batch=2, factors=(2,))
    assert list(found["scores"]) == ["64"] and found["steps"] == 2
    assert 0 <= found["scores"]["64"][0] < 1


def test_what_is_reported_was_planned_and_constructions_are_exact():
    rows = json.loads(SCRIPT["RESULTS"].read_text())
    planned = [SCRIPT["label"](row) for row in SCRIPT["plan"]()]
    assert len(rows) > 10 and {row["memory"] for row in rows} <= set(MEMORIES)
    assert {SCRIPT["label"](row) for row in rows} <= set(planned)
    made = [row for row in rows if row["how"] == "made"]
    assert made and all(row["scores"] == {"300": [1.0]} for row in made)
