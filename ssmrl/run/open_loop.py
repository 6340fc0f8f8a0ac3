"""What a world model expects to see, next to what came: strips, animations and plots.

The first rows of an episode are observed, so they show reconstructions; the others are imagined
from the recorded actions alone. Everything here is NumPy, time-major: truth and prediction are
`(T, B, ...)`, and `there: (T, B)` tells which rows belong to the episode.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssmrl.envs.contract import Box, Space
from ssmrl.nets.leaves import bounds, leaves, take_apart
from ssmrl.run.levels import picture
from ssmrl.run.report import COLORS
from ssmrl.shapes import PyTree

SHOWN = 3  # episodes in a strip
PLOTTED = 8  # numbers of an observation
ROWS = ("truth", "prediction", "|difference|")
WIDTH = 480  # of an animation, at least, in pixels
MILLISECONDS = 400  # of each of its steps


class OpenLoopRows(NamedTuple):
    """Episodes from their beginnings: `context` rows observed, the rest imagined.

    truth, predicted: elements of the observation space, `(T, B, ...)`. there: `(T, B)` bool.
    """

    truth: PyTree
    predicted: PyTree
    there: np.ndarray
    context: int


def is_picture(space: Space) -> bool:
    """Whether people should see it as a picture: three axes, of uint8 or of numbers in 0 to 1."""
    if not isinstance(space, Box) or len(space.shape) != 3:
        return False
    low, high = bounds(space)
    return bool(space.dtype == np.uint8 or (low >= 0 and high <= 1))


def draw(space: Space, rows: OpenLoopRows, out: Path, stem: str) -> list[Path]:
    """Draw each leaf of the observations: a strip and an animation of pictures, else a plot.

    Episodes that reach furthest are shown, the first ones of these. Files are `<stem>.png` and
    `<stem>.gif` in `out`, followed by the name of the leaf where there are several.
    """
    parts = leaves(space)
    truth, predicted = take_apart(space, rows.truth), take_apart(space, rows.predicted)
    order = np.argsort(-rows.there.sum(axis=0), kind="stable")
    files = []
    for name, leaf in parts.items():
        file = out / (stem if len(parts) == 1 else f"{stem}_{name.replace('/', '_')}")
        both = np.asarray(truth[name]), np.asarray(predicted[name])
        if is_picture(leaf):
            chosen = order[:SHOWN]
            seen, expected = (x[:, chosen] for x in both)
            tiles = compare(leaf, seen, expected, rows.there[:, chosen])
            files += [file.with_name(file.name + end) for end in (".png", ".gif")]
            strip(tiles, rows.context, files[-2])
            animate(tiles, rows.context, files[-1])
        else:
            length = rows.there[:, order[0]].sum()
            one = [x[:length, order[0]].reshape(length, -1).astype(float) for x in both]
            files.append(file.with_name(file.name + ".png"))
            plot(one[0], one[1], rows.context, files[-1])
    return files


def errors(space: Space, rows: OpenLoopRows) -> dict[str, dict[str, list[float]]]:
    """Squared error of each leaf, as a share of the variance of what came, by row.

    `predicted`: of the model. `unchanged`: of a guess that nothing changes after the context.
    There are as many rows as the longest episode has, T at most.
    """
    there = rows.there[rows.there.any(axis=1)]
    truth, predicted = take_apart(space, rows.truth), take_apart(space, rows.predicted)
    found = {}
    for name in leaves(space):
        x, y = (np.asarray(part[name], float)[: len(there)] for part in (truth, predicted))
        last = np.minimum(np.arange(len(there)), rows.context - 1)
        variance = max(np.var(x[there], axis=0).mean(), 1e-12)
        found[name] = {
            guess: [
                float(np.square(x[t] - z[t])[there[t]].mean() / variance) for t in range(len(x))
            ]
            for guess, z in (("predicted", y), ("unchanged", x[last]))
        }
    return found


# ------------------------------------------------------------------------------ pictures


def compare(space: Box, truth: np.ndarray, predicted: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Tiles `(B, 3, T, height, width, 3)`, from 0 to 1: the rows of `ROWS`, white where the
    episode is over."""
    x, y = in_colours(space, truth), in_colours(space, predicted)
    distance = 1 - np.abs(x - y).mean(axis=-1, keepdims=True)
    tiles = np.stack([x, y, np.broadcast_to(distance, x.shape)])
    tiles = np.where(there[..., None, None, None], tiles, 1.0)
    return np.moveaxis(tiles, 2, 0)


def in_colours(space: Box, x: np.ndarray) -> np.ndarray:
    """Pictures `(*B, height, width, channels)` as `(*B, height, width, 3)`, from 0 to 1.

    Grey and coloured uint8 images are as they are; of others each channel is a layer of ink.
    """
    if x.dtype == np.uint8:
        low, high = bounds(space)
        x = (x.astype(float) - low) / (high - low)
        if x.shape[-1] in (1, 3):
            return np.broadcast_to(x, (*x.shape[:-1], 3))
    inked = [picture(one) for one in x.reshape(-1, *x.shape[-3:])]
    return np.stack(inked).reshape(*x.shape[:-1], 3)


def mosaic(tiles: np.ndarray, gap: int) -> np.ndarray:
    """Tiles `(rows, columns, height, width, 3)` as one picture, with lines between them."""
    around = ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0))
    tiles = np.pad(tiles, around, constant_values=0.85)
    rows, columns, height, width, _ = tiles.shape
    return tiles.swapaxes(1, 2).reshape(rows * height, columns * width, 3)


def strip(tiles: np.ndarray, context: int, file: Path) -> None:
    """A column for every step, a panel for every episode; tiles as `compare` makes them."""
    from matplotlib.figure import Figure

    episodes, kinds, steps, height, width, _ = tiles.shape
    gap = max(1, width // 16)
    size = (0.55 * steps + 1, (0.55 * kinds * height / width + 0.35) * episodes + 0.3)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    for panel, rows in zip(figure.subplots(episodes, squeeze=False).ravel(), tiles, strict=True):
        panel.imshow(mosaic(rows, gap), interpolation="nearest")
        columns = (np.arange(steps) + 0.5) * (width + gap)
        panel.set_xticks(columns, [f"{t:+d}" if t > 0 else f"{t}" for t in _steps(steps, context)])
        panel.set_yticks((np.arange(kinds) + 0.5) * (height + gap), ROWS)
        panel.axvline(context * (width + gap) - (gap + 1) / 2, color=COLORS[1], linewidth=2)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    figure.suptitle(
        "observed up to step 0, then imagined from the actions alone", fontsize="medium"
    )
    figure.savefig(file)


def animate(tiles: np.ndarray, context: int, file: Path) -> None:
    """The same as a GIF, episodes side by side; the bar on top turns orange at the seam."""
    from PIL import Image

    width = tiles.shape[-2]
    gap = max(1, width // 16)
    frames = []
    for t in range(tiles.shape[2]):
        frame = mosaic(tiles[:, :, t].swapaxes(0, 1), gap)
        bar = np.empty((gap * 2, *frame.shape[1:]))
        bar[:] = np.array(tuple(bytes.fromhex(COLORS[t >= context][1:]))) / 255
        pixels = (np.concatenate([bar, frame]) * 255).round().astype(np.uint8)
        scale = -(-WIDTH // pixels.shape[1])
        frames.append(Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1)))
    frames[0].save(
        file, save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, optimize=True
    )


# ------------------------------------------------------------------------------ numbers


def plot(truth: np.ndarray, predicted: np.ndarray, context: int, file: Path) -> None:
    """A small plot for each of the numbers `(T, F)` of an episode, those that vary most."""
    from matplotlib.figure import Figure

    chosen = np.sort(np.argsort(-truth.std(axis=0), kind="stable")[:PLOTTED])
    lines = -(-len(chosen) // 2)
    figure = Figure(figsize=(9, 1.6 * lines + 0.8), dpi=120, layout="constrained")
    panels = figure.subplots(lines, 2, sharex=True, squeeze=False).ravel()
    time = _steps(len(truth), context)
    for panel, number in zip(panels, chosen, strict=False):
        panel.plot(time, truth[:, number], color="0.3", label=ROWS[0])
        panel.plot(time, predicted[:, number], "--", color=COLORS[1], label=ROWS[1])
        panel.axvline(0.5, color="0.7", linewidth=1)
        panel.set_title(f"number {number}", loc="left", fontsize="small")
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(chosen) :]:
        panel.remove()
    panels[0].legend(frameon=False, fontsize="small")
    figure.supxlabel("step; imagined from 1 on", fontsize="small")
    figure.savefig(file)


def _steps(steps: int, context: int) -> Sequence[Any]:
    """Number of each row, 0 for the last one observed."""
    return range(1 - context, steps - context + 1)
