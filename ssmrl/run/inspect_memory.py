"""`ssmrl inspect memory=NAME`: size, state, capabilities and half-lives, as text and picture."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssmrl import memory
from ssmrl.errors import UsageError
from ssmrl.memory.diagnostics import half_lives
from ssmrl.memory.diagnostics.trajectories import state_size
from ssmrl.run.inspect import IN_DIM, count, nbytes, option_lines, table

STEPS = 256  # random inputs along which half-lives are measured; longer ones are extrapolated
NEVER = 1e6  # steps; a half-life beyond it is shown as none
BAR = 40  # characters of the longest bar


class Facts(NamedTuple):
    """What is told of a memory.

    Attributes:
        name: as given on the command line.
        parameters: real numbers, for inputs of width `IN_DIM`.
        width: of the output.
        state: real numbers that the carry of one environment holds.
        state_bytes: its bytes.
        capabilities: names that the memory states of itself.
        half_lives: `(entries,)` steps, at initialisation, on random inputs.
    """

    name: str
    parameters: int
    width: int
    state: int
    state_bytes: int
    capabilities: tuple[str, ...]
    half_lives: np.ndarray


def inspect_memory(name: str, arguments: dict[str, Any], out: Path) -> RenderableType:
    """The table of a memory with its histogram of half-lives; draws the latter into `out`.

    Raises:
        UsageError: unknown memory or option, a value out of range, or a file that cannot be
            written.
    """
    facts = examine(name, arguments)
    lines = {
        "memory": name,
        "parameters": f"{facts.parameters:,} for inputs of width {IN_DIM}",
        "output": f"width {facts.width}",
        "carry": f"{facts.state:,} numbers, {facts.state_bytes:,} bytes for each environment",
        "capabilities": ", ".join(facts.capabilities) or "–",
    }
    parts: list[RenderableType] = [table(lines | option_lines("memory", name, arguments))]
    if facts.half_lives.size:
        draw(facts, out)
        parts += [Text("\nhalf-lives at initialisation"), histogram(facts.half_lives)]
        parts.append(Text(f"saved: {out}", overflow="ignore", no_wrap=True))
    return Group(*parts)


def examine(name: str, arguments: dict[str, Any]) -> Facts:
    """Makes the memory and measures it.

    Raises:
        UsageError: unknown memory or option, or a value out of range.
    """
    mem = memory.make(name, **arguments)
    key_params, key_u = jax.random.split(jax.random.key(0))
    params = jax.jit(mem.init, static_argnums=1)(key_params, IN_DIM)
    carry = jax.eval_shape(mem.init_carry)
    u = jax.random.normal(key_u, (STEPS, 1, IN_DIM))
    return Facts(
        name,
        count(params),
        mem.out_dim,
        state_size(mem),
        nbytes(carry),
        tuple(sorted(getattr(mem, "capabilities", ()))),
        half_lives(mem, params, u),
    )


def histogram(lives: np.ndarray) -> Table:
    """Numbers of entries of the state by half-life, a bar for each factor of two."""
    edges, counts = bins(lives)
    lines = Table(box=None, pad_edge=False, show_header=False)
    lines.add_column(justify="right", style="dim", no_wrap=True)
    lines.add_column(justify="right")
    lines.add_column(no_wrap=True)
    for i, number in enumerate(counts):
        label = f"{edges[i]:g} – {edges[i + 1]:g} steps"
        if i == 0:
            label = f"below {edges[1]:g} step"
        elif not np.isfinite(edges[i + 1]):
            label = "no decay"
        lines.add_row(label, str(number), "█" * round(BAR * number / max(counts)))
    return lines


def bins(lives: np.ndarray) -> tuple[list[float], list[int]]:
    """Edges 0, 1, 2, 4, ... up to the longest half-life, then inf if there are endless ones."""
    finite = lives[lives < NEVER]
    longest = max(1.0, finite.max(initial=0.0))
    edges = [0.0, *2.0 ** np.arange(int(np.floor(np.log2(longest))) + 2)]
    counts = [int(n) for n in np.histogram(finite, edges)[0]]
    if endless := lives.size - finite.size:
        return [float(e) for e in [*edges, np.inf]], [*counts, endless]
    return [float(e) for e in edges], counts


def draw(facts: Facts, out: Path) -> None:
    """The histogram of half-lives as a picture; the kind of file is that of its ending.

    Raises:
        UsageError: a file that cannot be written.
    """
    from matplotlib.figure import Figure

    edges, counts = bins(facts.half_lives)
    names = [f"{edge:g}" for edge in edges]
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(np.arange(len(counts)) + 0.5, counts, width=0.9, color="#0072B2")
    axes.set_xticks(np.arange(len(names)), ["∞" if n == "inf" else n for n in names])
    axes.set_xlabel("half-life at initialisation (steps)")
    axes.set_ylabel("entries of the state")
    axes.spines[["top", "right"]].set_visible(False)
    told = ", ".join(facts.capabilities) or "no capabilities stated"
    size = f"{facts.parameters:,} parameters, {facts.state_bytes:,} bytes of state"
    axes.set_title(f"{facts.name}: {size}\n{told}", loc="left", fontsize=10)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot draw into {out}: {error}") from error
