"""What the levels of a hierarchy do in training: the picture that goes with their returns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.agents.hieros_level import Player
from ssmrl.agents.hieros_state import Carry
from ssmrl.envs.batch import reset_all, step_all
from ssmrl.nets.two_hot import symexp
from ssmrl.run.directory import RunDirectory
from ssmrl.run.logging import Row, read_metrics
from ssmrl.run.report import COLORS
from ssmrl.run.trained import Trained
from ssmrl.shapes import Key, PyTree

PANELS = {
    "entropy of the policy / largest": {"entropy_share": "-"},
    "subgoal reward (dashed: shuffled goals)": {"goal/real": "-", "goal/shuffled": "--"},
    "codes in use (perplexity / classes)": {"code/usage": "-"},
    "codes that an update changes": {"code/drift": "-"},
    "share of the variance not reconstructed": {"code/reconstruction": "-"},
    "|advantage|, extrinsic (dashed: subgoal, dotted: novelty)": {
        "advantage/extrinsic": "-",
        "advantage/subgoal": "--",
        "advantage/novelty": ":",
    },
}
SMOOTH = 25  # updates of a moving mean


def report(runs: Sequence[RunDirectory], out: Path) -> list[Path]:
    """Draw `levels_<run>.png` into `out` for every run of an agent with levels."""
    files = []
    for run in runs:
        rows = learning(read_metrics(run.metrics))
        if rows:
            files.append(out / f"levels_{run.path.name}.png")
            plot(rows, run.path.name, files[-1])
    return files


def learning(rows: Sequence[Row]) -> list[Row]:
    """The updates of a run in which its levels have begun to learn; none where it has no levels."""
    losses = [name for name in (rows[-1] if rows else ()) if name.endswith("/model/loss")]
    levels = [name for name in losses if name.startswith("level")]
    return [row for row in rows if levels and all(np.all(row[name]) for name in levels)]


def plot(rows: Sequence[Row], title: str, file: Path) -> None:
    """A panel for each of `PANELS`, a colour for each level; means over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), dpi=160, layout="constrained")
    axes = figure.subplots(3, 2, sharex=True).ravel()
    steps = np.array([row["env_steps"] for row in rows])
    for panel, (name, lines) in zip(axes, PANELS.items(), strict=True):
        for metric, style in lines.items():
            for level, color in enumerate(COLORS):
                if f"level{level}/{metric}" in rows[0]:
                    y = np.array([np.mean(row[f"level{level}/{metric}"]) for row in rows])
                    label = f"level {level}" if style == "-" else None
                    panel.plot(steps, smooth(y), style, color=color, label=label, linewidth=1.5)
        _style(panel, name)
    axes[0].legend(frameon=False, fontsize="small")
    for panel in axes[-2:]:
        panel.set_xlabel("environment steps per seed")
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    figure.savefig(file)


def smooth(y: np.ndarray) -> np.ndarray:
    """Mean over the latest `SMOOTH` values, fewer at the beginning."""
    total = np.cumsum(np.concatenate([[0.0], y]))
    end = np.arange(1, len(y) + 1)
    begin = np.maximum(end - SMOOTH, 0)
    mean: np.ndarray = (total[end] - total[begin]) / (end - begin)
    return mean


def _style(panel: Any, name: str) -> None:
    panel.set_title(name, loc="left", fontsize="small")
    panel.set_ylim(0, min(panel.get_ylim()[1], 1.5))  # what is far off is so at the start only
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="0.9", linewidth=0.8)


def subgoals(agent: Any, state: PyTree, key: Key, count: int) -> tuple[PyTree, PyTree]:
    """What one environment shows each time level 1 sets a subgoal, and what it asks for.

    The latter is decoded from the present z with h as the subgoal says (Hieros, Mattes et al.
    2023, appendix). Both `(count, ...)`, elements of the observation space.

    agent: a Hieros of two levels at least. state: of one seed.
    """
    policy, player = agent.policy(state), Player(agent.levels[0], state.params[0])
    key, key_reset = jax.random.split(key)
    obs, env_state = reset_all(agent.env, key_reset[None], agent.env_params)

    def asked(carry: Carry) -> PyTree:
        low, high = carry.levels[:2]
        wanted = player.networks.codes.decode(player.level.hot(high.action))
        return player.model.decode(low.latent._replace(deter=symexp(wanted))).prediction()

    def step(now: tuple[PyTree, ...], key: Key) -> tuple[tuple[PyTree, ...], PyTree]:
        env_state, obs, reset, carry = now
        key_act, key_env = jax.random.split(key)
        carry, action, _ = policy.act(carry, obs, reset, key_act)
        following, env_state, _, ended, cut, _ = step_all(
            agent.env, key_env[None], env_state, action, agent.env_params
        )
        return (env_state, following, ended | cut, carry), (obs, asked(carry))

    keys = jax.random.split(key, count * agent.config.every)
    start = (env_state, obs, jnp.ones(1, bool), policy.init_carry((1,)))
    found = jax.lax.scan(step, start, keys)[1]
    return jax.tree.map(lambda x: x[:: agent.config.every, 0], found)


def draw_subgoals(trained: Trained, file: Path, count: int = 10) -> None:
    """What was seen above what was asked for there, as pictures; of the first seed.

    Nothing is drawn for an agent of one level, or where observations are no pictures.
    """
    agent = trained.agent
    if getattr(agent.config, "levels", 1) < 2:
        return
    if len(getattr(agent.obs_space, "shape", ())) != 3:
        return
    one = jax.tree.map(lambda x: x[0], trained.state)
    key = jax.random.key(trained.config.seed)
    rows = jax.jit(lambda state: subgoals(agent, state, key, count))(one)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(count, 2.4), dpi=160, layout="constrained")
    for row, (name, pictures) in enumerate(zip(("seen", "asked for"), rows, strict=True)):
        for column in range(count):
            panel = figure.add_subplot(2, count, 1 + row * count + column)
            panel.imshow(picture(np.asarray(pictures[column])))
            panel.set(xticks=[], yticks=[], ylabel="" if column else name)
    figure.savefig(file)


def picture(x: np.ndarray) -> np.ndarray:
    """An observation (rows, columns, channels) in colours: images as they are, each plane of
    numbers from 0 to 1 as a layer of ink."""
    if x.dtype == np.uint8:
        return x
    inks = np.array([tuple(bytes.fromhex(color[1:])) for color in COLORS]) / 255
    inks = inks[np.arange(x.shape[-1]) % len(inks)]
    paper: np.ndarray = np.prod(1 - np.clip(x, 0, 1)[..., None] * (1 - inks), axis=2)
    return paper
