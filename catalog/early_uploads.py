"""Uploading packs that are full while more is being written, so that the commit waits for the last of them only."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from hangar_cloud.backends.store import ObjectStore

_AT_ONCE: Final = 2


class EarlyUploads:
    """Sends packs to a store in the background, two at a time; none of it is an error, it can all be sent again.

    Args:
        store: the bucket.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, Path]] = deque()
        self._running: set[str] = set()
        self._sent: dict[str, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, name: str, file: Path) -> None:
        """Send a pack when it is its turn."""
        with self._lock:
            self._waiting.append((name, file))
        self._go_on()

    def finish(self, name: str) -> bool:
        """Wait for a pack that is on its way; whether it is there now. Says so once, and then no longer knows it."""
        with self._lock:
            self._waiting = deque(item for item in self._waiting if item[0] != name)
            sent = self._sent.pop(name, None)
        return sent is not None and sent.exception() is None

    def stop(self) -> None:
        """Send nothing more, and wait for what is on its way: its file may go after this."""
        with self._lock:
            self._waiting.clear()
            sent, self._sent = list(self._sent.values()), {}
            pool, self._pool = self._pool, None
        wait(sent)
        if pool is not None:
            pool.shutdown()

    def _go_on(self) -> None:
        # Queued here and not in the pool, which at the end of the process would wait for all of its queue.
        with self._lock:
            while self._waiting and len(self._running) < _AT_ONCE:
                name, file = self._waiting.popleft()
                self._pool = self._pool or ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hangar-upload")
                self._running.add(name)
                self._sent[name] = self._pool.submit(self._send, name, file)

    def _send(self, name: str, file: Path) -> None:
        try:
            self._store.upload(name, file)
        finally:
            with self._lock:
                self._running.discard(name)
            # The interpreter may be about to end, and then takes no more work.
            with contextlib.suppress(RuntimeError):
                self._go_on()
