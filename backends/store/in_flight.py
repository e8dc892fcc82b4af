"""One bound on the requests of a process that are under way at once, whoever sends them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

DEFAULT_REQUESTS: Final = 64
_LOOK_SECONDS: Final = 0.005


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
        if hasattr(os, "register_at_fork"):
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
            self._leave()

    @asynccontextmanager
    async def one_of_loop(self) -> AsyncIterator[None]:
        """As `one`, without holding up an event loop."""
        while not self._enter():
            await asyncio.sleep(_LOOK_SECONDS)
        try:
            yield
        finally:
            self._leave()

    def set_limit(self, limit: int) -> None:
        """Let so many through from now on."""
        with self._changed:
            self.limit = limit
            self._changed.notify_all()

    def _enter(self) -> bool:
        with self._changed:
            if self._under_way >= self.limit:
                return False
            self._under_way += 1
            return True

    def _leave(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify()

    def _begin_anew(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0


REQUESTS: Final = InFlight()
