"""What `ssmrl` raises when the user can mend the input."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Bad input: the message says what was expected, what was got and what to do.

    The command line prints the message alone and exits with code 2.
    """


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
