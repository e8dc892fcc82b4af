"""The driver that a store holds in each process, and how it is let go of."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

from hangar_cloud.backends.store.driving import drive

_log = logging.getLogger(__name__)
_CLOSE_SECONDS: Final = 1.0


class Held:
    """The filesystem of one process. Never dropped in a forked child: closing it there would hang on a dead loop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.filesystem: Any = None


def close_all(held: dict[int, Held], close: Callable[[Any], Coroutine[Any, Any, None]], driven: bool) -> None:
    """Close this process's driver, without an error and within a second.

    Args:
        held: drivers by process.
        close: closes one.
        driven: whether that blocks, and needs no event loop.
    """
    mine = held.pop(os.getpid(), None)
    if mine is None or mine.filesystem is None:
        return
    try:
        if driven:
            drive(close(mine.filesystem))
            return
        from fsspec.asyn import get_loop, iothread

        closing = asyncio.run_coroutine_threadsafe(close(mine.filesystem), get_loop())
        if iothread[0] is not threading.current_thread():
            closing.result(_CLOSE_SECONDS)
    except Exception as error:  # noqa: BLE001 - nobody is left to tell
        # Not what it says: a driver's exception may quote a signed URL.
        _log.debug("closing a filesystem failed: %s", type(error).__name__)
