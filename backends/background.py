"""Work that nobody waits for: a few threads for the whole process, that end when there is nothing to do."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_THREADS: Final = 5
_log = logging.getLogger(__name__)


class Background:
    """Does work in the order in which it was handed in, a few at a time; safe to use from many threads.

    Args:
        most: how many at a time.

    Threads end when nothing is left, and do not keep a process from ending. In a forked child it starts empty.
    """

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    def submit(self, work: Callable[[], None]) -> bool:
        """Have `work` done. What it raises is logged, without its words, at the level of debugging.

        Returns:
            False if it will not be done: an interpreter that ends starts no threads.
        """
        with self._lock:
            if self._running < self._most:
                try:
                    threading.Thread(target=self._go_on, name="hangar-background", daemon=True).start()
                except RuntimeError:
                    return False
                self._running += 1
            self._waiting.append(work)
            return True

    def _go_on(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                work = self._waiting.popleft()
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whoever needs the result asks again, and is told then
                _log.debug("work in the background failed: %s", type(error).__name__)
            del work  # not kept alive while there is nothing to do


BACKGROUND: Final = Background()
"""The one of this process: what it bounds, it bounds for all repositories and checkouts together."""
