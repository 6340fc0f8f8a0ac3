"""`ssmrl bench r2i`: how many rows of experience R2I learns from in a second.

A gradient step of R2I at a size of 0.6 M parameters on vectors: world model, imagination from
every row, actor and critic, and the few steps in the environment that go with it. Beside it the
same agent with a GRU in place of S5, and both at sequences of other lengths.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from ssmrl import envs
from ssmrl.agents import make_agent
from ssmrl.bench.timing import Row, interleaved, ratio
from ssmrl.bench.training import training

SIZES = {"groups": 32, "classes": 4, "mlp_layers": 2}
WIDTHS = ("deter", "units", "mlp_units", "head_units", "actor_units", "critic_units")
MEMORIES: dict[str, dict[str, Any]] = {
    "s5": {"layers": 2},
    "gru": {"norm": "none", "activation": "none"},
}
UPDATES = 4  # gradient steps of a call


def run(
    T: int = 64,
    B: int = 16,
    horizon: int = 15,
    starts: int | None = None,
    width: int = 128,
    *,
    memories: str = "s5+gru",
    gru_layers: int = 1,
    scaling: bool = False,
    repetitions: int = 5,
) -> list[Row]:
    """A row for each memory and length.

    Args:
        T: rows of a sequence.
        B: sequences in a batch.
        horizon: steps imagined.
        starts: rows of a batch that imagination starts from; None for all.
        width: of every layer and memory, and S5's state size.
        memories: names separated by `+`.
        gru_layers: 1 as in DreamerV3's world model; 2 as many as S5 has.
        scaling: measure lengths of 64 to 4096, in batches of 1024 rows up to a length of 1024,
            of one sequence above it; T and B are then not read.
        repetitions: rounds in which all take turns; figures are medians over them.

    Returns:
        Rows with `memory`, `T`, `B`, `parameters`, `compile_s` (seconds), `ms` of a gradient
        step, `frames_per_s`, rows of experience learned from, and `x_gru`, how many times the
        GRU's at this length (None without it).
    """
    shapes = [(64 * 4**i, max(16 // 4**i, 1)) for i in range(4)] if scaling else [(T, B)]
    options = {"horizon": horizon, "imagined_starts": starts}
    options |= SIZES | dict.fromkeys(WIDTHS, width)
    cells = MEMORIES | {"gru": MEMORIES["gru"] | {"layers": gru_layers}}
    each = {name: cells[name] for name in memories.split("+")}
    rows = []
    for length, batch in shapes:
        rows += _at_length(each, length, batch, options, repetitions)
    return rows


def _at_length(
    memories: dict[str, dict[str, Any]], T: int, B: int, options: dict[str, Any], repetitions: int
) -> list[Row]:
    rows: dict[str, Row] = {}
    calls = {}
    these = {**options, "length": T, "batch": B}
    for name, memory in memories.items():
        calls[name], parameters, compile_s = _learning({"name": name, **memory}, these)
        rows[name] = {"memory": name, "T": T, "B": B, "parameters": parameters}
        rows[name]["compile_s"] = round(compile_s, 1)
    seconds = interleaved(calls, repetitions)
    for name, row in rows.items():
        step = median(seconds[name]) / UPDATES
        row |= {"ms": round(step * 1e3, 1), "frames_per_s": round(T * B / step)}
        gru = seconds.get("gru")
        row["x_gru"] = None if gru is None else round(ratio(gru, seconds[name]), 2)
    return list(rows.values())


def _learning(
    memory: dict[str, Any], options: dict[str, Any]
) -> tuple[Callable[[], Any], int, float]:
    """`UPDATES` gradient steps, as a call; number of parameters; seconds to compile them."""
    rows = options["length"] * options["batch"]
    config = {
        "name": "r2i",
        "num_envs": 8,
        "rollout": 8,
        "train_ratio": UPDATES * rows / 64,
        "prefill": 8 * options["length"],
        "replay_size": 8 * 2 * max(options["length"], 64),
        **options,
    }
    memory = {"features": options["units"], **memory}
    if memory["name"] == "s5":
        memory["state"] = options["units"]
    agent = make_agent({"agent": config, "memory": memory}, *envs.make("gymnax/CartPole-v1"))
    state = jax.jit(agent.init)(jax.random.key(0))
    full = jnp.full_like(state.replay.size, agent.config.capacity)
    # as after the prefill; what the rows hold does not matter for the time
    state = state._replace(replay=state.replay._replace(size=full), update=state.update + 10**6)
    return training(agent, state)
