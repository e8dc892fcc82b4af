"""One bound on the requests of a process that are under way at once, whoever sends them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

DEFAULT_REQUESTS: Final = 64


class InFlight:
    """Lets so many through at once. A new limit holds for whoever comes next.

    Args:
        limit: how many, at least 1.
    """

    def __init__(self, limit: int = DEFAULT_REQUESTS) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self.limit = limit
        # Those that were under way when a process was forked are not under way in the child.
        os.register_at_fork(after_in_child=self._begin_anew)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait until one more may be under way; it is, during the block."""
        with self._changed:
            while self._under_way >= self.limit:
                self._changed.wait()
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def set_limit(self, limit: int) -> None:
        """Let so many through from now on."""
        with self._changed:
            self.limit = limit
            self._changed.notify_all()

    def _begin_anew(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0


REQUESTS: Final = InFlight()
