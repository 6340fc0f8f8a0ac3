"""The folder of a run: its files, its lock, and what is written down about its making."""

import contextlib
import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ssmrl
from ssmrl.errors import UsageError, nearest

PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "orbax-checkpoint", "numpy")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


class RunDirectory:
    """The paths of a run, `runs/<name>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.meta = path / "meta.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.replay = path / "replay"
        self.report = path / "report"
        self.tensorboard = path / "tensorboard"

    @classmethod
    def create(cls, root: str | Path, name: str) -> "RunDirectory":
        """A new folder `root/name`.

        Raises:
            UsageError: there is something in it already.
        """
        path = Path(root) / name
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"{path} exists already: continue that run with `ssmrl resume {path}`, "
                "or give this one another name: name=..."
            )
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def find(cls, run: str | Path, root: str | Path = "runs") -> "RunDirectory":
        """An existing run by its path, or by its name in `root`.

        Raises:
            UsageError: no such run, with the nearest names.
        """
        for path in (Path(run), Path(root) / run):
            if (path / "config.yaml").is_file():
                return cls(path)
        known = [p.parent.name for p in Path(root).glob("*/config.yaml")]
        close = nearest(Path(run).name, known)
        hint = f"; nearest in {root}: {', '.join(close)}" if close else ""
        raise UsageError(f"no run at {str(run)!r}: expected the folder of a run{hint}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the system lets go of it when the process ends.

        Raises:
            UsageError: another process holds it.
        """
        with open(self.path / ".lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                file.seek(0)
                raise UsageError(
                    f"{self.path} is in use by process {file.read().strip() or 'unknown'}: "
                    "wait for it or stop it (Ctrl-C saves), or train under another name=..."
                ) from e
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def add_session(self, update: int, compile_seconds: float) -> None:
        """Write to `meta.json` that a process went on from `update`; the first describes itself."""
        meta = self.read_meta() or describe_process()
        now = time.strftime(TIME_FORMAT)
        session = {"began": now, "update": update, "compile_seconds": round(compile_seconds, 2)}
        write_json(self.meta, meta | {"sessions": [*meta.get("sessions", []), session]})

    def read_meta(self) -> dict[str, Any]:
        """What `meta.json` says; empty if there is none."""
        if not self.meta.exists():
            return {}
        meta: dict[str, Any] = json.loads(self.meta.read_text())
        return meta


def describe_process() -> dict[str, Any]:
    """Versions, commit, device and command of this process."""
    import jax

    devices = jax.devices()
    return {
        "created": time.strftime(TIME_FORMAT),
        "command": shlex.join(["ssmrl", *sys.argv[1:]]),
        "commit": commit(),
        "device": f"{len(devices)} x {devices[0].device_kind}, {os.cpu_count()} CPU cores",
        "versions": {"ssmrl": ssmrl.__version__, "python": sys.version.split()[0]}
        | {name: _version(name) for name in PACKAGES},
    }


def commit() -> str | None:
    """The commit of the checkout that this package is run from, `+` if it was changed since."""
    folder = Path(ssmrl.__file__).parent

    def git(*args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not just a folder inside a checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_json(file: Path, content: Any) -> None:
    """Write JSON so that the file is never half of it."""
    aside = file.with_name(f".{file.name}")
    aside.write_text(json.dumps(content, indent=2) + "\n")
    aside.replace(file)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
