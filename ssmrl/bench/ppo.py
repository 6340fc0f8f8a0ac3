"""`ssmrl bench ppo`: recurrent PPO, environment steps per second of training.

The same task and the same amount of learning per step on both sides: our in-context agent
(S5) on its jitted RepeatPreviousEasy, and, where SB3-contrib and popgym are installed, their
RecurrentPPO (LSTM) on the original RepeatPreviousEasy.
"""

import importlib
from collections.abc import Callable
from statistics import median
from typing import Any

import jax

from ssmrl import envs
from ssmrl.agents import make_agent
from ssmrl.bench.timing import Row, interleaved, ratio
from ssmrl.bench.training import training


def run(
    d: int = 64,
    layers: int = 2,
    hidden: int = 128,
    num_envs: int = 16,
    rollout: int = 256,
    epochs: int = 4,
    minibatches: int = 4,
    *,
    updates: int = 5,
    repetitions: int = 5,
    original: bool = True,
) -> list[Row]:
    """Train both sides in turns and count the environment steps, learning included.

    Args:
        d: width of the memory, and S5's state size. RecurrentPPO has two LSTMs of width d, one
            for the policy and one for the value.
        layers: of S5.
        hidden: width of our encoder and of the two layers of each head: 128 as in the authors'
            popjaxrl, 64 as in RecurrentPPO.
        num_envs: environments side by side.
        rollout: steps of each between updates.
        epochs: passes over a rollout.
        minibatches: per epoch.
        updates: of ours in each repetition; the original makes one.
        repetitions: rounds; figures are medians over them.
        original: whether to run RecurrentPPO where it is installed.

    Returns:
        A row for each side with `what`, `parameters`, `compile_s` (seconds, None if nothing
        is compiled), `steps_per_s` and `x_original`, how many times RecurrentPPO's
        `steps_per_s` (None where it did not run).
    """
    options = {"num_envs": num_envs, "rollout": rollout, "epochs": epochs}
    ours, parameters, compile_s = _ours(d, layers, hidden, {**options, "minibatches": minibatches})
    calls: dict[str, Callable[[], Any]] = {"ssmrl": lambda: [ours() for _ in range(updates)][-1]}
    rows = {"ssmrl": {"what": "ssmrl in_context, S5", "parameters": parameters}}
    if original and (theirs := _recurrent_ppo(d, minibatches, **options)) is not None:
        calls["original"], parameters = theirs
        rows["original"] = {"what": "SB3-contrib RecurrentPPO, LSTM", "parameters": parameters}
    seconds = interleaved(calls, repetitions)
    # Seconds of an update, all of num_envs * rollout steps.
    seconds["ssmrl"] = [s / updates for s in seconds["ssmrl"]]

    def row(side: str) -> Row:
        against = seconds.get("original")
        return {
            **rows[side],
            "compile_s": round(compile_s, 2) if side == "ssmrl" else None,
            "steps_per_s": round(num_envs * rollout / median(seconds[side])),
            "x_original": None if against is None else round(ratio(against, seconds[side]), 2),
        }

    return [row(side) for side in rows]


def _ours(
    d: int, layers: int, hidden: int, options: dict[str, Any]
) -> tuple[Callable[[], Any], int, float]:
    """One update of ours, as a call; number of parameters; seconds to compile it."""
    config = {
        "agent": {"name": "in_context", "encoder": (hidden,), "head": (hidden, hidden), **options},
        "memory": {"name": "s5", "features": d, "state": d, "layers": layers},
    }
    agent = make_agent(config, *envs.make("popgym/RepeatPreviousEasy"))
    state = jax.jit(agent.init)(jax.random.key(0))
    return training(agent, state)


def _recurrent_ppo(
    d: int, minibatches: int, *, num_envs: int, rollout: int, epochs: int
) -> tuple[Callable[[], Any], int] | None:
    """One update of SB3-contrib's, as a call, and its parameters; None if not installed."""
    try:
        importlib.import_module("popgym")  # registers its environments with gymnasium
        sb3_contrib = importlib.import_module("sb3_contrib")
        env_util = importlib.import_module("stable_baselines3.common.env_util")
    except ImportError:
        return None
    model = sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy",
        env_util.make_vec_env("popgym-RepeatPreviousEasy-v0", n_envs=num_envs, seed=0),
        n_steps=rollout,
        batch_size=num_envs * rollout // minibatches,
        n_epochs=epochs,
        policy_kwargs={"lstm_hidden_size": d},
        seed=0,
        device="cpu",
    )

    def update() -> Any:
        return model.learn(num_envs * rollout, reset_num_timesteps=False)

    return update, sum(p.numel() for p in model.policy.parameters())
