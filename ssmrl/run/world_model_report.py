"""What a world model has learned: its losses, what it expects to see, how far back it remembers.

Losses are those that the run has logged. The rest is measured on fresh episodes with the model of
the last checkpoint, of the first seed. The open loop observes the beginning of episodes of the
run's own policy and imagines what follows from the actions taken (see `ssmrl.run.open_loop`).
The memory is measured by exchanging the past: of the rows before a reward the model observes the
latest n, but all earlier ones of another episode, and then predicts the reward without seeing the
row it comes with. If it depends on a cue k steps ago, the prediction improves where n reaches k.
Just hiding the past would do too where sequences are learned from the middle of episodes, but to
other models a beginning in the middle is itself a surprise. Actions are random there: of a good
policy the reward is always the same.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import OmegaConf

from ssmrl.agents.protocol import rollout
from ssmrl.agents.r2i_imagination import merged
from ssmrl.agents.r2i_state import Row, State
from ssmrl.envs.batch import reset_all
from ssmrl.errors import UsageError
from ssmrl.nets.leaves import leaves
from ssmrl.run import checkpoint, open_loop
from ssmrl.run.collect import host_environment
from ssmrl.run.directory import RunDirectory, write_json
from ssmrl.run.levels import smooth
from ssmrl.run.logging import read_metrics
from ssmrl.run.open_loop import OpenLoopRows
from ssmrl.run.report import COLORS
from ssmrl.run.trained import Trained, load_trained
from ssmrl.shapes import TB, Array, Key, PyTree

STEPS = 96  # rows played of each episode: so far back can be seen
EPISODES = 128  # at least
CONTEXT = 5  # rows observed before the open loop
AHEAD = 15  # rows imagined of pictures
AHEAD_NUMBERS = 45  # likewise where there are only numbers
TARGETS = 64  # rewards of each kind that are predicted
FEWEST = 16  # of a kind: less of them say nothing
LENGTHS = 12  # different n at most


def report(
    runs: Sequence[RunDirectory], out: Path, say: Callable[[str], None] = print
) -> list[Path]:
    """Draw what can be drawn of every run with a world model into `out`; the files made.

    `losses_<run>.png`; of R2I also `open_loop_<run>.png` and `.gif`, `memory_<run>.png`, and the
    figures behind them in `world_model_<run>.json`. Runs of other agents are not loaded, nor
    those whose environment runs in Python.

    say: is told of a checkpoint that cannot be read.
    """
    files = []
    for run in runs:
        files += losses(run, out)
        config: Any = OmegaConf.load(run.config)
        if config.agent.name != "r2i" or not checkpoint.updates(run.checkpoints):
            continue
        try:
            files += draw(load_trained(str(run.path), say), out)
        except UsageError as e:
            say(f"{run.path.name}: nothing to see of its world model: {e}")
    return files


def draw(trained: Trained, out: Path) -> list[Path]:
    """The pictures and figures of a trained R2I: see `report`."""
    agent, name = trained.agent, trained.run.path.name
    if host_environment(agent.env):
        return []
    state = jax.tree.map(lambda x: x[0], trained.state._replace(replay=()))
    key = jax.random.key(trained.config.seed)
    key_own, key_random, key_ahead, key_recall = jax.random.split(key, 4)
    play_all = jax.jit(lambda state, key, random: play(agent, state, key, random))
    rows = predict(agent, state, play_all(state, key_own, False), key_ahead)
    files = open_loop.draw(agent.obs_space, rows, out, f"open_loop_{name}")
    figures: dict[str, Any] = {"update": trained.update, "context": rows.context}
    figures["open_loop"] = open_loop.errors(agent.obs_space, rows)
    if curve := recall(agent, state, play_all(state, key_random, True), key_recall):
        figures["memory"] = curve._asdict()
        files.append(out / f"memory_{name}.png")
        plot_recall(curve, f"{trained.config.env}, {trained.config.memory.name}", files[-1])
    files.append(out / f"world_model_{name}.json")
    write_json(files[-1], figures)
    return files


# ------------------------------------------------------------------------------ episodes


class Played(NamedTuple):
    """Rows of first episodes from their beginnings, `(T, B, ...)`; `there`: before their end."""

    rows: Row
    there: TB


def play(agent: Any, state: State, key: Key, random: Array, steps: int = STEPS) -> Played:
    """`EPISODES` fresh episodes or a few more, `steps` rows of each, as training would play them.

    Args:
        agent: an R2I.
        state: of one seed; its replay is not read.
        key: fixes the episodes.
        random: bool, whether actions are random instead of the policy's.
        steps: T.
    """
    size = agent.config.num_envs

    def some(key: Key) -> tuple[Row, Array]:
        key_reset, key_play = jax.random.split(key)
        keys = jax.random.split(key_reset, size)
        obs, env_state = reset_all(agent.env, keys, agent.env_params)
        actors = agent.begin(state.params, obs, env_state)
        update = jnp.where(random, 0, state.update)  # agents begin with random actions
        keys = jax.random.split(key_play, (steps, size + 1))
        record = rollout(agent, state._replace(actors=actors, update=update), keys)[1]
        return record.rows._replace(carry=None), record.valid

    rows, valid = jax.vmap(some, out_axes=2)(jax.random.split(key, -(-EPISODES // size)))
    rows, valid = jax.tree.map(lambda x: x.reshape(*x.shape[:2], -1, *x.shape[4:]), (rows, valid))
    return first_episodes(rows, valid[:, 1])


def first_episodes(rows: Row, ended: TB) -> Played:
    """The first episode of each environment, its last observation included.

    rows: what a rollout recorded, `(T, 2, B, ...)`: of every step the row it began with, and the
    last row of the episode where it `ended: (T, B)`.
    """

    def later(x: Array) -> Array:
        return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])

    def join(x: Array) -> Array:
        over = later(ended).reshape(*ended.shape, *(1,) * (x.ndim - 3))
        return jnp.where(over, later(x[:, 1]), x[:, 0])

    gone = jnp.cumsum(later(later(ended)).astype(jnp.int32), axis=0)
    return Played(jax.tree.map(join, rows), gone == 0)


def predict(agent: Any, state: State, played: Played, key: Key) -> OpenLoopRows:
    """The first rows of episodes, `(T, B, ...)`, and what the model expects of them."""
    pictures = any(open_loop.is_picture(space) for space in leaves(agent.obs_space).values())
    steps = CONTEXT + (AHEAD if pictures else AHEAD_NUMBERS)
    rows, there = jax.tree.map(lambda x: x[:steps], played)

    @jax.jit
    def expected(state: State, rows: Row) -> PyTree:
        model: Any = merged(agent.graphs.model, state.params.model)
        carry = agent.policy(state).init_carry(rows.reset.shape[1:])
        begins = jnp.zeros_like(rows.reset).at[0].set(True)
        return model.open_loop(*carry, rows.obs, rows.action, begins, CONTEXT, key).obs

    truth, predicted = jax.device_get((rows.obs, expected(state, rows)))
    return OpenLoopRows(truth, predicted, np.asarray(there), CONTEXT)


# ------------------------------------------------------------------------------ memory


class Recall(NamedTuple):
    """How well rewards are predicted where the latest n rows are all there is to go by.

    Attributes:
        rows: n, each from 1 to the longest there is.
        score: share of predictions nearer to the mean of their own kind of reward than to that
            of the other kind, half of each kind; of rewards of one kind, their correlation with
            the predictions.
        measure: `accuracy` or `correlation`.
    """

    rows: list[int]
    score: list[float]
    measure: str


def recall(agent: Any, state: State, played: Played, key: Key) -> Recall | None:
    """Exchange the past before some rewards; None where they are all the same.

    played: episodes in which rewards vary, `(T, B)`.
    """
    reward, there = np.asarray(played.rows.reward), np.asarray(played.there)
    arrived = there & (np.arange(len(reward)) > 0)[:, None]
    kinds = kinds_of_reward(reward, arrived & (there.sum(axis=1, keepdims=True) > 1))
    if not kinds:
        return None
    chance = np.random.default_rng(0)
    count = min(TARGETS, *(len(kind) for kind in kinds))
    targets = np.concatenate([chance.permutation(kind)[:count] for kind in kinds])
    others = [_another(chance, there[t], b) for t, b in targets]
    longest = int(targets[:, 0].max())
    lengths = np.unique(np.geomspace(1, longest, LENGTHS).round().astype(int))
    predicted = predict_rewards(agent, state, played.rows, targets, np.array(others), lengths, key)
    real = reward[tuple(targets.T)]
    if len(kinds) == 1:
        score = [_correlation(real, one) for one in predicted]
        return Recall(lengths.tolist(), score, "correlation")
    first, second = real[:count].mean(), real[count:].mean()
    right = np.abs(predicted - first) < np.abs(predicted - second)
    right[:, count:] ^= True
    return Recall(lengths.tolist(), right.mean(axis=1).tolist(), "accuracy")


def kinds_of_reward(reward: np.ndarray, there: np.ndarray) -> list[np.ndarray]:
    """Where rewards differ, as (t, b) of each kind, `(n, 2)`.

    Penalties and gains; where there are too few of either, those and no reward. One kind where
    all have the same sign but differ; none where they hardly ever do. Arguments are `(T, B)`.
    """
    signs = [np.argwhere(there & (np.sign(reward) == sign)) for sign in (-1, 1, 0)]
    kinds = [kind for kind in signs if len(kind) >= FEWEST][:2]
    if len(kinds) == 1 and reward[tuple(kinds[0].T)].std() < 1e-6:
        return []
    return kinds


def predict_rewards(
    agent: Any,
    state: State,
    rows: Row,
    targets: np.ndarray,
    others: np.ndarray,
    lengths: np.ndarray,
    key: Key,
) -> np.ndarray:
    """The mean of the reward head at each target, `(L, K)`, without its row.

    rows: `(T, B, ...)`. targets: (t, b) of each, `(K, 2)`. others: the episode of which all but
    the latest n rows before are, `(K,)`; it lasts as long. lengths: each n, `(L,)`.
    """
    time, env = targets.T
    before = int(time.max())
    at = time - before + np.arange(before + 1)[:, None]  # windows end with the targets
    begins = at == 0

    @jax.jit
    def expected(state: State, seen: PyTree) -> Array:
        model: Any = merged(agent.graphs.model, state.params.model)
        carry = agent.policy(state).init_carry(env.shape)

        def one(n: Array) -> Array:
            episode = jnp.where(at < time - n, others, env)
            window = jax.tree.map(lambda x: x[np.maximum(at, 0), episode], seen)
            return model.open_loop(*carry, *window, jnp.asarray(begins), before, key).reward[-1]

        return jax.lax.map(one, jnp.asarray(lengths))

    return np.asarray(expected(state, (rows.obs, rows.action)))


def _another(chance: np.random.Generator, there: np.ndarray, episode: int) -> int:
    """One of the other episodes that are `there: (B,)`."""
    return int(chance.choice(np.setdiff1d(np.flatnonzero(there), episode)))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's, 0 where there is none."""
    return float(np.corrcoef(x, y)[0, 1]) if min(x.std(), y.std()) > 1e-9 else 0.0


def plot_recall(curve: Recall, title: str, file: Path) -> None:
    """The score against the number of rows observed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(6, 3.6), dpi=160, layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rows, curve.score, "o-", color=COLORS[0], linewidth=2)
    guess = 0.5 if curve.measure == "accuracy" else 0.0
    axes.axhline(guess, color="0.55", linewidth=1, linestyle="--")
    axes.annotate(
        "a guess", (curve.rows[-1], guess), ha="right", va="top", color="0.4", fontsize="small"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(curve.rows, [str(n) for n in curve.rows])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(min(guess, *curve.score) - 0.08, 1.05)
    axes.set_xlabel("rows of this episode observed before the reward")
    axes.set_ylabel(f"{curve.measure} of predicted rewards")
    axes.set_title(title, loc="left", weight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    figure.savefig(file)


# ------------------------------------------------------------------------------ losses


def losses(run: RunDirectory, out: Path) -> list[Path]:
    """Draw `losses_<run>.png`: each loss and diagnostic of the world model over the training.

    A colour for each level of a hierarchy; means over seeds. Nothing is drawn for agents without
    a world model, or before one has begun to learn.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullFormatter

    rows = read_metrics(run.metrics)
    ends = "model/loss"
    models = [name.removesuffix(ends) for name in (rows[-1] if rows else ()) if name.endswith(ends)]
    rows = [row for row in rows if all(np.all(row[model + ends]) for model in models)]
    if not models or not rows:
        return []
    panels = sorted({name.split("model/")[1] for name in rows[-1] if "model/" in name})
    lines = -(-len(panels) // 3)
    figure = Figure(figsize=(11, 2.1 * lines + 0.5), dpi=120, layout="constrained")
    axes = figure.subplots(lines, 3, sharex=True, squeeze=False).ravel()
    steps = np.array([row["env_steps"] for row in rows])
    for panel, name in zip(axes, panels, strict=False):
        for model, color in zip(sorted(models), COLORS, strict=False):
            if (key := f"{model}model/{name}") in rows[-1]:
                y = np.array([row[key] for row in rows], float).mean(axis=1)
                some = np.isfinite(y)  # e.g. no row of the batch was the first of an episode
                label = model.strip("/") or None
                panel.plot(steps[some], y[some], color=color, linewidth=0.5, alpha=0.35)
                panel.plot(steps[some], smooth(y[some]), color=color, linewidth=1.5, label=label)
        drawn = np.concatenate([line.get_ydata() for line in panel.lines] or [np.ones(1)])
        if drawn.size and drawn.min() > 0 and drawn.max() > 10 * drawn.min():
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(EngFormatter(sep=" "))
        panel.set_title(name, loc="left", fontsize="small")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="0.9", linewidth=0.8)
    for panel in axes[len(panels) :]:
        panel.remove()
    if len(models) > 1:
        axes[0].legend(frameon=False, fontsize="small")
    figure.suptitle(run.path.name, x=0.01, ha="left", weight="bold")
    figure.supxlabel("environment steps per seed", fontsize="small")
    file = out / f"losses_{run.path.name}.png"
    figure.savefig(file)
    return [file]
