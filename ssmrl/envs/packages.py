"""Other people's packages: what to do where one is missing, and whose error an error was."""

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from ssmrl.errors import UsageError

EXTRAS = {
    "popgym": "ssmrl[popgym]",
    "memory_maze": "ssmrl[memory-maze]",
    "ale_py": "ssmrl[atari]",
    "cv2": "ssmrl[atari]",
    "brax": "brax",
}
"""What to install for a package, where that is not the package's own name."""


def import_package(package: str, wanted_by: str) -> Any:
    """The imported `package`, without what it says about the insides of other packages.

    Raises UsageError with the pip command where it is missing.
    """
    aside = io.StringIO()
    try:
        with quiet(), redirect_stdout(aside), redirect_stderr(aside):
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{wanted_by} needs the package {error.name}, which is not installed: "
            f"pip install '{EXTRAS.get(package.partition('.')[0], str(error.name))}'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of other people's code about each other's age."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def reported(name: str, what: str) -> Iterator[None]:
    """Turns any error of the environment `name` into a UsageError that says `what` failed."""
    try:
        yield
    except UsageError:
        raise
    except (EOFError, ConnectionError) as error:
        raise UsageError(
            f"{name} {what}: one of its processes ended without a word; was it killed, or is the "
            "memory too small for as many copies (agent.num_envs, or parallel in `ssmrl eval`)?"
        ) from error
    except Exception as error:
        raise UsageError(f"{name} {what}: {type(error).__name__}: {error}") from error
