"""Writes docs/memories.md from the registry and from what results/memories holds.

`python scripts/memory_table.py` from anywhere; a memory without results has dashes.
"""

import inspect
import json
from pathlib import Path
from typing import Any

from ssmrl.memory import MEMORIES, make

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "results/memories", ROOT / "docs/memories.md"
WIDTH = 64
ENOUGH = 0.95

HEAD = f"""# Memories

Every name below works as `ssmrl train memory=NAME` and `ssmrl.memory.make("NAME")`, with the
options that `ssmrl inspect memory=NAME` lists, and passes the same contract suite. Written by
`scripts/memory_table.py` from the registry and from `results/memories`, which
`scripts/memories.sh` makes.

State: bytes carried per sequence at width {WIDTH}. Step: one step of 16 sequences; scan: forward
and backward over 1024 steps of 16 sequences; as many times as fast as `lax.scan` of the
memory's own step ("loop") and as memax's implementation at the same size of state. Return: on
fresh episodes of `popgym/RepeatPreviousEasy` after 0.5 M steps with the options of
`ssmrl train`, mean of three seeds; least: the last return in training of the weakest seed;
steps/s of all three together, learning included, on one core that often had other work too.

Certified by `scripts/capabilities.py`: "made" are parameters set by hand that answer every
question of 300-step episodes, and numbers the worst seed's share of right answers after a short
training, on episodes four times as long as those of the training. ✓ 0.95 and more; ~ 0.95 and
more at the length of the training alone; ✗ neither, with the same training as those that can.
± with `negative_eigs`.

Who does not reach 0.95 in 0.5 M steps, and why: `mlp` remembers nothing, and the beliefs of `hmm`,
over 64 hidden states, cannot hold four cards of four kinds. `gla` and `gateloop` hardly leave
chance: they store outer products under keys made of the present card alone, and only their decay
and phase tell the card of four steps ago from its neighbours. `linear_attention`, `retnet`, `rwkv5`
and `rwkv6` store in the same way and learn slowly, as do the delta rules: all were still rising at
the end. So were `ema`, whose decays cannot be complex and only blur the past, `ffm`, `hippo_legs`,
which keeps the whole episode at one resolution, `linear_cde`, `hippo_fout`, `kalman`, `hiss`,
`elman` and `lstm`.

| name | state | capabilities | certified | step µs | scan ms | × loop | × memax | return | least |\
 steps/s |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def cells(name: str) -> list[str]:
    """The row of one memory."""
    memory = make(name, features=WIDTH, layers=1)
    bench = _read(RESULTS / f"{name}.bench.json", [{}])[0]
    run = _read(RESULTS / name / "summary.json", [{}])[0]
    shown = lambda row, key: "–" if row.get(key) is None else f"{row[key]:g}"  # noqa: E731
    returns = run.get("final_return_per_seed")
    return [
        f"[{name}](#{name})",
        str(memory.state_bytes),
        ", ".join(sorted(memory.capabilities)),
        certified(name),
        shown(bench, "step_us"),
        shown(bench, "forward_backward_ms"),
        shown(bench, "x_loop"),
        shown(bench, "x_memax"),
        "–" if run.get("evaluation_return") is None else f"{run['evaluation_return']:.3f}",
        f"{min(returns):.3f}" if returns else "–",
        shown(run, "steps_per_second"),
    ]


def certified(name: str) -> str:
    """What constructions and trainings of one memory showed."""
    shown = []
    for row in _read(RESULTS / "capabilities.json", []):
        if row["memory"] == name:
            least = [min(scores) for scores in row["scores"].values()]
            sign = "✓" if least[-1] >= ENOUGH else "~" if least[0] >= ENOUGH else "✗"
            how = "made" if row["how"] == "made" else f"{least[-1]:.2f}"
            shown.append(f"{row['task']}{'±' * bool(row['options'])} {sign} {how}")
    return ", ".join(shown) or "–"


def description(name: str) -> str:
    """Recurrence and source, as the docstrings tell them."""
    cls = MEMORIES[name]
    module = (inspect.getmodule(cls).__doc__ or "").strip().split("\n\n")[0]  # type: ignore[union-attr]
    own = inspect.cleandoc(cls.__doc__ or "").split("\n\nAttributes")[0]
    return f"## {name}\n\n*{' '.join(module.split())}*\n\n{own}\n"


def page() -> str:
    """The whole page."""
    rows = ["| " + " | ".join(cells(name)) + " |" for name in sorted(MEMORIES)]
    return HEAD + "\n".join([*rows, "", *map(description, sorted(MEMORIES))])


def _read(path: Path, missing: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else missing


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.relative_to(ROOT))
