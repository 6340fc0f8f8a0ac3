"""Memory tasks as environments, `probe/<name>`: what can a *policy* with this memory do?

`make("probe/Copy", length=100)`: the keywords are the options of the task (see
`ssmrl.memory.diagnostics.tasks`). The same definition makes the sequences that a memory alone
is tested on.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

from ssmrl.envs.probe.env import Probe
from ssmrl.memory.diagnostics.tasks import TASKS, Task

__all__ = ["ENVIRONMENTS", "Probe"]


class _Factory:
    """Makes the environment of a task; takes the task's options as keywords, by name."""

    def __init__(self, task: Callable[..., Task]) -> None:
        self.task = task
        self.__signature__ = signature(task)  # what the registry reads the keywords from

    def __call__(self, **options: Any) -> Probe:
        return Probe(self.task(**options))


def _title(name: str) -> str:
    return "AAStar" if name == "aa_star" else name.title().replace("_", "")


ENVIRONMENTS: dict[str, _Factory] = {_title(name): _Factory(task) for name, task in TASKS.items()}
"""Every task by its name in capitals: `flip_flop` is `FlipFlop`."""
