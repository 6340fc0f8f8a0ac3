import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.bench import scan, timing

COLUMNS = {
    "what",
    "T",
    "B",
    "P",
    "compile_s",
    "forward_ms",
    "forward_backward_ms",
    "x_memory_pass_forward",
    "x_memory_pass_forward_backward",
    "temp_MiB",
}


def recurrence(a, b, h0, reset):
    """The states, step by step in plain Python."""
    x, h = [], h0
    for b_t, reset_t in zip(b, reset, strict=True):
        h = a * jnp.where(reset_t[:, None], 0, h) + b_t
        x.append(h)
    return jnp.stack(x)


@pytest.fixture(scope="module")
def small():
    a, b, h0, reset, g = scan.problem(9, 3, 2)
    reset = reset.at[0, 0].set(True).at[4].set(True).at[5, 1].set(True)
    run = jax.jit(scan.forward_backward, static_argnums=0)
    return (a, b, h0, reset, g), run, run(recurrence, a, b, h0, reset, g)


@pytest.mark.parametrize("name", scan.contenders())
def test_every_contender_computes_the_same_states_and_gradients(name, small):
    inputs, run, expected = small
    for got, wanted in zip(run(scan.contenders()[name], *inputs), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-4)


def test_the_comparison_has_a_row_for_the_memory_pass_and_every_contender(monkeypatch):
    chosen = {name: scan.contenders()[name] for name in ("ssmrl, sequential", "two operands")}
    monkeypatch.setattr(scan, "contenders", lambda: chosen)
    rows = scan.run(T=4, B=2, P=3, repetitions=1)
    assert [row["what"] for row in rows] == ["memory pass, x * 2", *chosen]
    assert all(set(row) == COLUMNS for row in rows)
    assert all((row["T"], row["B"], row["P"]) == (4, 2, 3) for row in rows)


def test_scaling_runs_ours_alone_at_three_lengths_with_an_eighth_of_the_sequences(monkeypatch):
    monkeypatch.setattr(scan, "OURS", ("sequential",))
    rows = scan.run(T=2, B=16, P=1, repetitions=1, scaling=True)
    assert [(r["T"], r["B"]) for r in rows[::2]] == [(2, 2), (8, 2), (32, 2)]
    assert {r["what"] for r in rows} == {"memory pass, x * 2", "ssmrl, sequential"}


def test_a_compiled_program_returns_its_result_and_tells_its_memory():
    x = jnp.flip(jnp.arange(1000.0))
    program = timing.compiled(lambda x: jnp.sort(x)[:2], x)
    np.testing.assert_array_equal(program.call(), [0, 1])
    assert program.compile_s > 0
    assert program.temp_mib >= 4000 / 2**20


def test_calls_run_in_turns_after_one_round_to_warm_up():
    order = []
    seconds = timing.interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2
    )
    assert order == ["a", "b"] * 3
    assert {name: len(s) for name, s in seconds.items()} == {"a": 2, "b": 2}


def test_the_clock_measures_each_call_alone(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    seconds = timing.interleaved({"one": lambda: None, "three": lambda: [next(ticks)] * 2}, 2)
    assert seconds == {"one": [1, 1], "three": [2, 2]}


def test_a_ratio_is_taken_within_rounds():
    # the machine slows down tenfold in the second round, and ten times more in the third
    assert timing.ratio([3.0, 30.0, 350.0], [1.0, 10.0, 100.0]) == 3.0
