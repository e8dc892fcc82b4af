"""Blocks that another thread is fetching right now: who wants one waits, and does not fetch it twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from hangar_cloud.backends.arenas import BlockName

Bringer = tuple[threading.Event, int, int]
"""Set when it has ended; the thread and the process that do it."""


class Arriving:
    """The blocks on their way, and by whom. Safe to use from many threads; in a forked child nothing is on its way."""

    def __init__(self) -> None:
        self._coming: dict[BlockName, Bringer] = {}

    @contextmanager
    def bringing(self, names: Collection[BlockName]) -> Iterator[list[BlockName]]:
        """Those of some blocks that nobody else brings. Who wants them waits until the block ends, however it does.

        Whoever waits inside of the block for others, who may wait for these, waits forever.
        """
        over = threading.Event()
        mine = over, threading.get_ident(), os.getpid()
        # All of them are given up in the end: Control-C may come before it is known which were taken, and callers take
        # theirs out of what they gave.
        asked = list(names)
        try:
            yield [name for name in asked if self._take(name, mine)]
        finally:
            for name in asked:
                if self._coming.get(name) is mine:
                    del self._coming[name]
            over.set()

    def _take(self, name: BlockName, mine: Bringer) -> bool:
        held = self._coming.setdefault(name, mine)
        if held is mine or held[1:] == mine[1:]:
            return True
        if held[2] == mine[2]:
            return False
        # The thread that was bringing it is in the process that this one was forked from.
        self._coming[name] = mine
        return True

    def wait(self, names: Iterable[BlockName]) -> None:
        """Wait for those of some blocks that another thread is bringing."""
        if not self._coming:
            return
        for name in names:
            over, thread, process = self._coming.get(name, (None, 0, 0))
            if over is not None and thread != threading.get_ident() and process == os.getpid():
                over.wait()
