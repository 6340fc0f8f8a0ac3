"""Rows of a replay in files that are mapped into memory: for images that no device can hold.

A step of training writes and reads them from inside its compiled program, through callbacks to
the host. Which rows these are is decided on the device by `ssmrl.replay.ring`, as for a ring
that lies there: both places give the same batches bit for bit.

The files are no part of a checkpoint, they outlive it: beyond the rows that may be drawn there
are spare ones, so many that no row of a checkpoint that is kept is overwritten before newer
ones have taken its place. Going on from such a checkpoint therefore finds all of its rows.
"""

import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax
import numpy as np
from jax.experimental import io_callback

from ssmrl.errors import UsageError
from ssmrl.replay.memory import nbytes, readable
from ssmrl.shapes import TB, Array, B, PyTree

OWNER = "owner.json"


class Files(NamedTuple):
    """What is open: a file for each leaf of a row, `(B, rows, ...)`, and one of their numbers.

    written: `(B,)` int64, the number after that of the newest row of each environment.
    """

    leaves: list[np.memmap]
    written: np.memmap


@jax.tree_util.register_static
class Disk:
    """The rows of one replay; row i of an environment lies in slot i modulo all slots.

    It stands where a ring on the device has its arrays (see `ssmrl.replay.Ring`); being no
    array, it is left out of checkpoints. Nothing is made before `create` or `reopen`.

    Args:
        row: one row of one environment, arrays or `jax.ShapeDtypeStruct`s.
        capacity: rows of each environment that may be drawn.
        num_envs: B.
        per_update: rows that an update writes for each environment at most.
    """

    def __init__(self, row: PyTree, capacity: int, num_envs: int, per_update: int) -> None:
        self.row, self.capacity, self.num_envs = row, capacity, num_envs
        self.per_update = per_update
        self.files: Files | None = None

    # ------------------------------------------------------------------ files

    def slots(self, updates: int) -> int:
        """Rows to set aside for each environment where states of `updates` ago may come back."""
        return self.capacity + updates * self.per_update

    def check_space(self, folder: Path, updates: int) -> None:
        """Refuse files that the disk of `folder`, which may not exist yet, has no room for.

        Raises:
            UsageError: it has too little free space.
        """
        size = nbytes(self.row, self.slots(updates), self.num_envs)
        there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if size > free:
            raise UsageError(
                f"the replay needs {readable(size)} on disk, but {there} has {readable(free)} "
                "left; lower agent.replay_size or choose a folder on another disk: root=..."
            )

    def create(self, folder: Path, updates: int, owner: Mapping[str, Any]) -> None:
        """Make the files in `folder`, whose content goes away, and open them.

        Args:
            folder: theirs alone.
            updates: how many updates ago the oldest state may be that is gone on from.
            owner: what the rows belong to, as JSON holds it.

        Raises:
            UsageError: the disk has too little free space.
        """
        if folder.exists():
            shutil.rmtree(folder)
        self.check_space(folder, updates)
        folder.mkdir(parents=True)
        (folder / OWNER).write_text(json.dumps(dict(owner), indent=2) + "\n")
        shape = self.num_envs, self.slots(updates)
        leaves = [_made(folder / name, (*shape, *x.shape), x.dtype) for name, x in _named(self.row)]
        self.files = Files(leaves, _made(folder / "written.npy", shape[:1], np.int64))

    def reopen(
        self, folder: Path, updates: int, owner: Mapping[str, Any], head: B, size: B
    ) -> None:
        """Open the files that hold the rows of a state to go on from.

        Args:
            folder: as given to `create`.
            updates: as for `create`.
            owner: as given to `create`.
            head: of the state's ring.
            size: of the state's ring.

        Raises:
            UsageError: files are missing, of other shapes, of another owner, or have lost rows.
        """
        if not (folder / OWNER).is_file() or json.loads((folder / OWNER).read_text()) != owner:
            raise _refusal(folder, f"{OWNER} that names {dict(owner)}")
        slots = None
        leaves = []
        for name, x in _named(self.row):
            file = _opened(folder / name)
            slots = slots or file.shape[1:2]
            expected = (self.num_envs, *slots, *x.shape)
            if file.shape != expected or file.dtype != x.dtype:
                raise _refusal(folder, f"{name} of {x.dtype}{list(expected)}")
            leaves.append(file)
        files = Files(leaves, _opened(folder / "written.npy"))
        rows = leaves[0].shape[1]
        first = np.asarray(head, np.int64) - np.asarray(size)
        if (files.written < head).any() or (files.written > first + rows).any():
            raise _refusal(folder, "all rows of the checkpoint")
        if rows < self.slots(updates):
            most = (rows - self.capacity) // self.per_update
            raise UsageError(
                f"{folder} has spare rows for {most} updates, but checkpoint_every * "
                f"keep_checkpoints is {updates}: lower one of them"
            )
        self.files = files

    @property
    def nbytes(self) -> int:
        """Bytes of the files, spare rows included."""
        return sum(file.nbytes for file in self._files().leaves)

    def flush(self) -> None:
        """Have all rows written so far on the disk before going on."""
        jax.effects_barrier()
        for file in (*self._files().leaves, self._files().written):
            file.flush()

    # ------------------------------------------------------------------ rows, when traced

    def put(self, rows: PyTree, number: TB, valid: TB) -> None:
        """Write the `valid` ones of `rows`, `(n, B, ...)`; number: int32 `(n, B)`."""
        self._files()
        io_callback(self._put, None, jax.tree.leaves(rows), number, valid, ordered=True)

    def take(self, number: Array, env: B) -> PyTree:
        """The rows of `number`, `(length, batch)`, and environments `env`: `(length, batch, ...)`.

        Both int32.
        """
        self._files()
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*number.shape, *x.shape), x.dtype), self.row
        )
        leaves = io_callback(self._take, jax.tree.leaves(like), number, env, ordered=True)
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    # ------------------------------------------------------------------ rows, on the host

    def _put(self, rows: list[Array], number: TB, valid: TB) -> None:
        files = self._files()
        at, env = np.nonzero(np.asarray(valid))
        numbers = np.asarray(number)[at, env]
        slot = numbers % files.leaves[0].shape[1]
        for file, new in zip(files.leaves, rows, strict=True):
            file[env, slot] = np.asarray(new)[at, env]
        np.maximum.at(files.written, env, numbers + 1)

    def _take(self, number: Array, env: B) -> list[np.ndarray]:
        leaves, column = self._files().leaves, np.asarray(env)
        slot = np.asarray(number) % leaves[0].shape[1]
        return [file[column, slot] for file in leaves]

    def _files(self) -> Files:
        if self.files is None:
            raise UsageError("a replay on disk has to be given a folder first: `create`, `reopen`")
        return self.files


def _named(row: PyTree) -> list[tuple[str, Any]]:
    """The leaves of a row and the names of their files: `obs.npy`, `obs.image.npy`."""
    path_name = partial(jax.tree_util.keystr, simple=True, separator=".")
    leaves = jax.tree_util.tree_leaves_with_path(row)
    return [(f"{quote(path_name(path), safe='')}.npy", leaf) for path, leaf in leaves]


def _made(file: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """A new file of zeros, its blocks set aside: a disk that is full later does no harm.

    Without that the system would end the process at the first page that it cannot write.
    """
    made = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        try:
            with file.open("r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
        except OSError as e:
            raise UsageError(
                f"the disk of {file} does not give the {readable(made.nbytes)} it needs "
                f"({e.strerror}): free some space, or lower agent.replay_size"
            ) from e
    return made


def _opened(file: Path) -> np.memmap:
    try:
        return np.lib.format.open_memmap(file, mode="r+")
    except (OSError, ValueError) as e:
        raise _refusal(file.parent, file.name) from e


def _refusal(folder: Path, expected: str) -> UsageError:
    return UsageError(
        f"{folder} is not the replay that this run wrote: expected {expected}; put its files "
        "back, or train anew under another name=..."
    )
