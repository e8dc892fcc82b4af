"""The moments at which a process can die: before and after everything it does to a disk or a store.

Only for a forked child that ends in `os._exit`: what is put in place here is never taken away again.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog import staging

KILLED: Final = 86
"""The exit status of a process that died where it was told to."""

_READING: Final = ("get", "get_many", "get_range", "get_ranges", "stat", "exists", "list", "list_children")
_WRITING: Final = ("put", "put_if_absent", "upload", "download", "delete")
_ON_DISK: Final = ("link", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "ftruncate")
_STATEMENTS: Final = ("INSERT", "DELETE", "COMMIT", "CREATE")
_CREATING: Final = os.O_CREAT | os.O_TRUNC


class Moments:
    """Counts the moments that a process comes by, and ends it at one of them.

    Each is a pair: what happens there, and how many changes were made to a disk or store before. Between two moments
    of as many changes nothing happened that the next process could see.

    Args:
        last: number of the moment to die at, from 0; None for none.
    """

    def __init__(self, last: int | None = None) -> None:
        self._last = last
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._changes = 0
        self.passed: list[tuple[str, int]] = []

    def at(self, what: str, *, changed: bool = False) -> None:
        """One of the moments. `changed` if something has just been made, moved or removed."""
        with self._lock:
            self._changes += changed
            self.passed.append((what, self._changes))
            if len(self.passed) - 1 == self._last:
                os._exit(KILLED)

    def watch(self) -> None:
        """Take note, from now on, of all that this process does to disks and stores."""
        self._watch_stores()
        for name in _ON_DISK:
            self._wrap(os, name, name, changes=True)
        self._wrap(os, "fsync", "fsync", changes=False)
        if hasattr(os, "fdatasync"):
            self._wrap(os, "fdatasync", "fdatasync", changes=False)
        self._write_in_halves()
        self._watch_new_files()
        self._watch_staging()

    def _wrap(self, owner: Any, name: str, what: str, *, changes: bool) -> None:
        step = getattr(owner, name)

        @functools.wraps(step)
        def watched(*arguments: Any, **options: Any) -> Any:
            self.at(f"before {what}")
            result = step(*arguments, **options)
            self.at(f"after {what}", changed=changes)
            return result

        setattr(owner, name, watched)

    def _watch_stores(self) -> None:
        # A store may call another of its own operations, or a store that it stands before: one step, not two.
        for kind in _subclasses(ObjectStore):
            for name in (*_READING, *_WRITING):
                if name in vars(kind) and not getattr(vars(kind)[name], "__isabstractmethod__", False):
                    setattr(kind, name, self._outermost(vars(kind)[name], name))

    def _outermost(self, operation: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(operation)
        def watched(*arguments: Any, **options: Any) -> Any:
            if getattr(self._inside, "store", False):
                return operation(*arguments, **options)
            self._inside.store = True
            try:
                self.at(f"before {name}")
                result = operation(*arguments, **options)
                if name == "list":  # which does its work when it is iterated
                    result = iter(list(result))
                self.at(f"after {name}", changed=name in _WRITING)
                return result
            finally:
                self._inside.store = False

        return watched

    def _write_in_halves(self) -> None:
        write = os.pwrite

        def watched(file: int, data: Any, offset: int) -> int:
            view = memoryview(data)
            half = len(view) // 2
            self.at("before pwrite")
            written = write(file, view[:half], offset) if half else 0
            self.at("in the middle of pwrite", changed=True)
            if written == half:
                written += write(file, view[half:], offset + half)
            self.at("after pwrite", changed=True)
            return written

        os.pwrite = watched

    def _watch_new_files(self) -> None:
        def heard(event: str, arguments: tuple[Any, ...]) -> None:
            # What is written through a file object shows in the next moment; until it is opened, it is not there.
            if event == "open" and isinstance(arguments[2], int) and arguments[2] & _CREATING:
                self.at("before a file is made", changed=True)

        sys.addaudithook(heard)

    def _watch_staging(self) -> None:
        area: Any = staging.StagingArea
        execute = area._execute

        def watched(self_: Any, sql: str, *arguments: Any) -> Any:
            word = sql.split(maxsplit=1)[0]
            if word not in _STATEMENTS:
                return execute(self_, sql, *arguments)
            self.at(f"before {word}")
            result = execute(self_, sql, *arguments)
            self.at(f"after {word}", changed=word == "COMMIT" or self_._depth == 0)
            return result

        area._execute = watched
        self._wrap(area, "close", "closing the staging area", changes=True)
        # DuckDB writes by itself when it opens and closes a database.
        self._wrap(area, "open", "opening the staging area", changes=True)


def _subclasses(kind: type) -> list[type]:
    return [kind, *(found for child in kind.__subclasses__() for found in _subclasses(child))]
