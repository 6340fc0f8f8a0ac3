"""Whether a replay fits, and the files of one that lies on disk, `runs/<name>/replay/`.

An agent whose replay lies there has a `disk`, a `ssmrl.replay.Disk`. Only training opens it: a
run is evaluated and reported without its replay.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from omegaconf import DictConfig

from ssmrl.errors import UsageError
from ssmrl.replay import check_fits, device_memory, readable
from ssmrl.run.directory import RunDirectory
from ssmrl.run.trained import identity
from ssmrl.shapes import PyTree


def check(config: DictConfig, agent: Any) -> None:
    """Refuse what can be seen to be impossible before there is a folder.

    Raises:
        UsageError: several seeds on one disk, or too little space, on the device for all seeds.
    """
    if not (disk := getattr(agent, "disk", None)):
        size = config.seeds * getattr(agent, "replay_bytes", 0)
        check_fits(size, device_memory(), f"lower seeds={config.seeds} or agent.replay_size")
        return
    if config.seeds > 1:
        raise UsageError(
            f"a replay on disk serves one seed, got seeds={config.seeds}: train each seed as a "
            "run of its own (seed=...), or set agent.replay_place=device"
        )
    disk.check_space(Path(config.root), _updates(config))


def begin(
    run: RunDirectory,
    config: DictConfig,
    agent: Any,
    state: PyTree | None,
    say: Callable[[str], None],
) -> None:
    """Open the files of the rows of `state`, or make them where there is no state yet.

    Raises:
        UsageError: they are not those of the state, or there is too little space.
    """
    if not (disk := getattr(agent, "disk", None)):
        return
    updates, owner = _updates(config), identity(config)
    if state is None:
        disk.create(run.replay, updates, owner)
    else:
        head, size = jax.device_get((state.replay.head[0], state.replay.size[0]))
        disk.reopen(run.replay, updates, owner, head, size)
    say(f"{run.replay} takes {readable(disk.nbytes)}, rows to resume from included")


def flush(agent: Any) -> None:
    """Have the rows on the disk that a checkpoint is about to rely on."""
    if disk := getattr(agent, "disk", None):
        disk.flush()


def _updates(config: DictConfig) -> int:
    """How many updates ago the oldest checkpoint may be that a resumed run goes on from."""
    return int(config.checkpoint_every * config.keep_checkpoints)
