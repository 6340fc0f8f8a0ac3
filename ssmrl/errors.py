"""What `ssmrl` raises when the user can mend the input."""

import difflib
from collections.abc import Callable, Iterable


class UsageError(ValueError):
    """Bad input: the message says what was expected, what was got and what to do.

    The command line prints the message alone and exits with code 2.
    """


RANGES: dict[str, Callable[[float], bool]] = {
    "positive": lambda x: x > 0,
    "0 or more": lambda x: x >= 0,
    "from 0 to 1": lambda x: 0 <= x <= 1,
}
"""Ranges of numbers by what a message calls them; no number is in none."""


def check_range(owner: str, options: object, expected: str, names: Iterable[str]) -> None:
    """Raise UsageError unless those attributes of `options` are None or in that range of `RANGES`.

    owner: what stands before the name in the message, e.g. "agent.".
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not RANGES[expected](value):
            raise UsageError(f"{owner}{name} must be {expected}, got {value}")


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The `most` names of `known` that look most like `name`, best first (case ignored)."""
    spelled = {k.lower(): k for k in known}
    return [
        spelled[m] for m in difflib.get_close_matches(name.lower(), spelled, n=most, cutoff=0.4)
    ]


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """The error for a `name` that is none of the `known` ones of its `kind`.

    Example: `unknown("memory", "s4", ["s5", "gru"])` reads
    "unknown memory 's4'; nearest: 's5'; known: gru, s5".
    """
    known = sorted(known)
    parts = [f"unknown {kind} {name!r}"]
    if close := nearest(name, known):
        parts.append("nearest: " + ", ".join(repr(c) for c in close))
    if len(known) <= 30:
        parts.append("known: " + ", ".join(known))
    if hint:
        parts.append(hint)
    return UsageError("; ".join(parts))
