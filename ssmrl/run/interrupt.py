"""Ctrl-C and SIGTERM ask a run to stop at the next update; a second one ends it at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def requested(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether to stop; the old handlers are back afterwards.

    Outside the main thread, where Python delivers no signals, it never says so.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        say("stopping after this update (once more to stop at once)")

    for number in old:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
