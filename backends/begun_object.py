"""One small object whose fetching begins before it is known that it is wanted."""

from __future__ import annotations

import os
from concurrent.futures import Future
from functools import partial
from typing import Final

from hangar_cloud.backends.background import BACKGROUND
from hangar_cloud.backends.store import ObjectStore

_NOBODY: Final = ""


class BegunObject:
    """At most one object at a time; what is not wanted in the end is waited for by nobody, and its errors are nobody's.

    Args:
        store: where it is.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._begun: tuple[str, int, Future[bytes | None]] = (_NOBODY, 0, Future())

    def begin(self, path: str) -> None:
        """Begin to fetch an object in the background."""
        future: Future[bytes | None] = Future()
        self._begun = (path, os.getpid(), future)
        BACKGROUND.submit(partial(_fetch, self._store, path, future))

    def take(self, path: str) -> bytes | None:
        """The object's bytes, waited for if it was begun; None if it was not, or could not be fetched."""
        begun, process, future = self._begun
        # A forked child has not the thread that fetches, and who finds it not begun yet is quicker without.
        if begun != path or process != os.getpid() or future.cancel():
            return None
        self._begun = (_NOBODY, 0, future)
        return None if future.exception() is not None else future.result()


def _fetch(store: ObjectStore, path: str, future: Future[bytes | None]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(store.get_many([path])[0])
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for, and there alone
        future.set_exception(error)
