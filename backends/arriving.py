"""Blocks that another thread is fetching right now: who wants one waits, and does not fetch it twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from hangar_cloud.backends.arenas import BlockName


class Arriving:
    """The blocks on their way, and by whom. Safe to use from many threads; in a forked child nothing is on its way."""

    def __init__(self) -> None:
        self._coming: dict[BlockName, tuple[threading.Event, int, int]] = {}

    @contextmanager
    def bringing(self, names: Collection[BlockName]) -> Iterator[None]:
        """Whoever wants these blocks meanwhile waits until the block ends, however it does."""
        over = threading.Event()
        mine = over, threading.get_ident(), os.getpid()
        for name in names:
            self._coming.setdefault(name, mine)
        try:
            yield
        finally:
            for name in names:
                if self._coming.get(name) is mine:
                    del self._coming[name]
            over.set()

    def wait(self, names: Iterable[BlockName]) -> None:
        """Wait for those of some blocks that another thread is bringing."""
        if not self._coming:
            return
        for name in names:
            over, thread, process = self._coming.get(name, (None, 0, 0))
            if over is not None and thread != threading.get_ident() and process == os.getpid():
                over.wait()

    def has(self, name: BlockName) -> bool:
        """Whether a block is on its way."""
        return name in self._coming
