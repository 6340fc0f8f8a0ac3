"""What a run shows while it trains: a live panel on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssmrl.run.logging import Row

SHOWN = (
    "length",
    "policy_loss",
    "value_loss",
    "entropy",
    "kl",
    "clip_fraction",
    "grad_norm",
    "learning_rate",
)
PLAIN_SECONDS = 5.0  # between two plain lines
CHART_ROWS = 5
WIDEST = 100  # columns of the panel
BLOCKS = " ▁▂▃▄▅▆▇█"


class Display:
    """Shows the progress of a run; use it as a context manager.

    Args:
        title: of the panel.
        total_steps: environment steps of each seed at the end.
        seeds: how many train side by side.
        target: return at which the run stops early, if any.
        console: where to; its kind decides between panel and lines.
    """

    def __init__(
        self,
        title: str,
        total_steps: int,
        seeds: int = 1,
        target: float | None = None,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console()
        self.title, self.target = title, target
        self.total_steps, self.seeds = total_steps, seeds
        self.steps = self.start_steps = 0
        self.begin = self._printed = time.monotonic()
        self.compile_seconds: float | None = None
        self.history: list[float] = []
        self.row: Row = {}
        self.message = ""
        self._live: Live | None = None

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self._live = Live(get_renderable=self.panel, console=self.console, refresh_per_second=4)
            self._live.start()
        else:
            self.say(f"{self.title}: compiling")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        elif self.row:
            self._print_line()

    def start(self, steps: int, compile_seconds: float) -> None:
        """Begin to count time: the program is compiled and `steps` of each seed are done."""
        self.compile_seconds = compile_seconds
        self.steps = self.start_steps = steps
        self.begin = time.monotonic()
        if not self._live:
            self.say(f"compiled in {compile_seconds:.1f} s")

    def update(self, row: Row, moving: float) -> None:
        """Show one more update, and the moving mean return after it."""
        self.row, self.steps = row, row["env_steps"]
        if math.isfinite(moving):
            self.history.append(moving)
        if not self._live and time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._print_line()

    def say(self, message: str) -> None:
        """Print a line, above the panel if there is one."""
        self.console.print(message, highlight=False, soft_wrap=True)

    def note(self, message: str) -> None:
        """Show a message in the panel until the end; print it where there is none."""
        self.message = message
        if not self._live:
            self.say(message)

    def panel(self) -> Panel:
        """The whole display at this moment."""
        progress = min(self.steps / self.total_steps, 1.0)
        head = Table.grid(padding=(0, 2), expand=True)
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        head.add_row(
            ProgressBar(total=1.0, completed=progress, complete_style="cyan"),
            Text.assemble(
                (f"{progress:4.0%}", "bold cyan"),
                f"  {si(self.steps)} of {si(self.total_steps)} steps",
                (f" × {self.seeds} seeds" if self.seeds > 1 else "", "dim"),
            ),
        )
        parts: list[RenderableType] = [head, self._timing(), Text()]
        if self.history:
            parts += [self._chart(), Text()]
        parts.append(self._numbers())
        if self.message:
            parts += [Text(), Text(self.message, style="yellow")]
        return Panel(
            Group(*parts),
            title=f"[bold]{self.title}",
            border_style="dim",
            padding=(0, 2),
            width=self._width(),
        )

    def _width(self) -> int:
        """Room is left for the ^C that a terminal echoes: a wrapped line would break the panel."""
        return min(self.console.width - 2, WIDEST)

    def _speed(self) -> float:
        """Environment steps of all seeds per second, since this process began to train."""
        elapsed = time.monotonic() - self.begin
        return (self.steps - self.start_steps) * self.seeds / elapsed if elapsed else 0.0

    def _left(self) -> str:
        speed = self._speed()
        return clock(max(self.total_steps - self.steps, 0) * self.seeds / speed) if speed else "–"

    def _timing(self) -> Text:
        so_far = clock(time.monotonic() - self.begin)
        if self.compile_seconds is None:
            return Text(f"compiling for {so_far}", "dim")
        return Text.assemble(
            (f"{si(self._speed())} steps/s", "bold"),
            (f"   {so_far} so far, {self._left()} left", "dim"),
            (f"   update {self.row['update']}" if self.row else "", "dim"),
            (f"   compiled in {self.compile_seconds:.1f} s", "dim"),
        )

    def _chart(self) -> Table:
        """The moving mean return against time, with its value and its range beside it."""
        width = max(self._width() - 34, 16)
        low, high = min(self.history), max(self.history)
        rows = chart(self.history, width, CHART_ROWS)
        now = [("return ", "dim"), (f"{self.history[-1]:.3f}", "bold green")]
        beside = [Text.assemble(*now), Text(f"best {high:.3f}", "dim")]
        if self.target is not None:
            beside.append(Text(f"stop {self.target:.3f}", "dim"))
        beside += [Text()] * (CHART_ROWS - len(beside))
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", width=8)
        for i, (line, side) in enumerate(zip(rows, beside, strict=True)):
            label = {0: f"{high:.2f}", CHART_ROWS - 1: f"{low:.2f}"}.get(i, "")
            table.add_row(Text(label, "dim"), Text(line, "cyan"), side)
        return table

    def _numbers(self) -> Table:
        grid = Table.grid(padding=(0, 2), expand=True)
        cells = [
            Text.assemble((f"{name.replace('_', ' ')} ", "dim"), number(mean(self.row[name])))
            for name in SHOWN
            if name in self.row
        ]
        for i in range(0, len(cells), 4):
            grid.add_row(*cells[i : i + 4])
        return grid

    def _print_line(self) -> None:
        self._printed = time.monotonic()
        value = f"{self.history[-1]:.3f}" if self.history else "–"
        losses = "  ".join(
            f"{name} {number(mean(self.row[name]))}"
            for name in ("policy_loss", "value_loss", "entropy")
            if name in self.row
        )
        self.console.print(
            f"update {self.row['update']:<5} {si(self.steps)} of {si(self.total_steps)} steps "
            f"({min(self.steps / self.total_steps, 1):.0%})  {si(self._speed())} steps/s  "
            f"left {self._left()}  return {value}  {losses}",
            highlight=False,
            soft_wrap=True,
        )


def chart(values: Sequence[float], width: int, rows: int) -> list[str]:
    """A filled curve of block characters: `rows` lines of `width`, top first.

    Each column is the mean of its share of `values`; the lowest column still shows a trace.
    """
    columns = [
        values[
            i * len(values) // width : max(
                (i + 1) * len(values) // width, i * len(values) // width + 1
            )
        ]
        for i in range(width)
    ]
    means = [sum(c) / len(c) for c in columns]
    low, high = min(means), max(means)
    levels = [1 + round((m - low) / ((high - low) or 1.0) * (rows * 8 - 1)) for m in means]
    return [
        "".join(BLOCKS[min(max(level - 8 * row, 0), 8)] for level in levels)
        for row in reversed(range(rows))
    ]


def mean(values: Sequence[float | None]) -> float:
    """The mean of what is known of `values`; NaN if nothing is."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else math.nan


def number(value: float) -> str:
    """Three significant digits, a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.3g}"


def si(value: float) -> str:
    """1234567 as `1.23 M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
