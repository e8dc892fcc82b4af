"""Putting Control-C off while a library runs that loses it, or dies of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put what Control-C does off until the block has ended; for blocks of moments.

    DuckDB asks Python for signals in the midst of a statement, and turns the KeyboardInterrupt into an error of its
    own ("Query interrupted"). One that is raised while DuckDB is imported ends the process (SIGABRT).
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[-1])
