"""Checkpoints that are whole or not there: written aside, hashed, then renamed into place.

`checkpoints/<update>/` holds the arrays (Orbax) and `manifest.json`: the update, what the
state belongs to, shape and dtype of every leaf, size and SHA-256 of every file. Nothing is
pickled, and nothing is restored that does not match its manifest.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.shapes import PyTree

MANIFEST = "manifest.json"


class Corrupt(Exception):
    """A checkpoint whose files are not those that were written."""


def save(folder: Path, update: int, state: PyTree, identity: Mapping[str, Any], keep: int) -> Path:
    """Write `state` as the checkpoint of `update`, then drop all but the `keep` latest.

    Args:
        folder: `<run>/checkpoints`; only one process may write there (see `RunDirectory`).
        update: number of updates behind the state. Checkpoints of later updates go away:
            they are of a line that a resumed run has left.
        state: pytree of arrays; typed PRNG keys and every dtype of jax are fine.
        identity: what the state belongs to (agent, memory, environment, seeds).
        keep: at least 1.
    """
    import orbax.checkpoint as orbax

    folder = folder.resolve()  # Orbax takes absolute paths only
    folder.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(folder)
    aside, final = folder / f".{update}", folder / str(update)
    arrays = {name: _to_host(leaf) for name, leaf in _named(state) if leaf.size}
    orbax.PyTreeCheckpointer().save(aside / "arrays", arrays)
    manifest = {
        "update": update,
        "identity": dict(identity),
        "leaves": _describe(state),
        "files": {str(f.relative_to(aside)): _fingerprint(f) for f in _files(aside)},
    }
    sealed = {"sha256": _seal(manifest)} | manifest
    (aside / MANIFEST).write_text(json.dumps(sealed, indent=1))
    for file in _files(aside):
        _sync(file)
    _sync(aside)
    if final.exists():
        final.rename(folder / f".replaced-{update}")
    aside.rename(final)
    _sync(folder)
    kept = [u for u in updates(folder) if u <= update][-keep:]
    for old in set(updates(folder)) - set(kept):
        shutil.rmtree(folder / str(old))
    _remove_unfinished(folder)
    return final


def restore_latest(
    folder: Path,
    like: PyTree,
    identity: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> tuple[int, PyTree]:
    """The latest whole checkpoint: its update and its state, on the default device.

    Args:
        folder: `<run>/checkpoints`.
        like: pytree of arrays or `jax.ShapeDtypeStruct` that the state must match.
        identity: as given to `save`.
        say: is told of every checkpoint that has to be skipped.

    Raises:
        UsageError: no checkpoint is whole, or it belongs to something else.
    """
    for update in reversed(updates(folder)):
        try:
            manifest = verify(folder / str(update))
        except Corrupt as e:
            say(f"checkpoint {update} is damaged ({e}): trying the one before")
            continue
        _check_same("identity", manifest["identity"], dict(identity), update)
        _check_same("leaf", manifest["leaves"], _describe(like), update)
        return update, _read(folder / str(update), like)
    raise UsageError(f"no whole checkpoint in {folder}: start a new run with `ssmrl train`")


def updates(folder: Path) -> list[int]:
    """The updates of which `folder` has a checkpoint, whole or not, ascending."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(path.name) for path in found if path.name.isdigit())


def verify(checkpoint: Path) -> dict[str, Any]:
    """The manifest of `checkpoint`, once every file has been found to be as it says.

    Raises:
        Corrupt: a file is missing, truncated or changed.
    """
    try:
        manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text())
        seal = manifest.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError) as e:
        raise Corrupt(f"{MANIFEST} cannot be read") from e
    if seal != _seal(manifest):
        raise Corrupt(f"{MANIFEST} is changed")
    for name, expected in manifest["files"].items():
        file = checkpoint / name
        if not file.is_file():
            raise Corrupt(f"{name} is missing")
        if _fingerprint(file) != expected:
            raise Corrupt(f"{name} is truncated or changed")
    return manifest


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(".*"):
        shutil.rmtree(path)


def _read(checkpoint: Path, like: PyTree) -> PyTree:
    import orbax.checkpoint as orbax

    arrays = orbax.PyTreeCheckpointer().restore(checkpoint.resolve() / "arrays")
    leaves = []
    for name, leaf in _named(like):
        if not leaf.size:
            leaves.append(jnp.zeros(leaf.shape, leaf.dtype))
        elif _is_key(leaf):
            data = jnp.array(arrays[name]["key"])
            leaves.append(jax.random.wrap_key_data(data, impl=str(arrays[name]["impl"])))
        else:
            leaves.append(jnp.array(arrays[name], copy=True))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: PyTree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path), leaf


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _to_host(leaf: Any) -> Any:
    if _is_key(leaf):
        return {
            "key": np.asarray(jax.random.key_data(leaf)),
            "impl": str(jax.random.key_impl(leaf)),
        }
    return np.asarray(leaf)


def _describe(tree: PyTree) -> dict[str, str]:
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in _named(tree)}


def _check_same(kind: str, saved: dict[str, Any], wanted: dict[str, Any], update: int) -> None:
    """Raise a UsageError that names the first entry in which the two differ."""
    for name in [*wanted, *saved]:
        if saved.get(name) != wanted.get(name):
            raise UsageError(
                f"checkpoint {update} does not belong to this configuration: {kind} {name} "
                f"expected {wanted.get(name, 'nothing')}, got {saved.get(name, 'nothing')}; "
                "use the configuration it was trained with, or start a new run"
            )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fingerprint(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _seal(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest itself."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Have the system write file or folder to the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
