"""Locks that a forked child finds free.

A child that is forked while another thread holds a lock (one that fetches ahead, say) has the lock, but not the thread.
"""

from __future__ import annotations

import os
import threading
from typing import Final
from weakref import WeakSet


class ForkLock:
    """A lock for work that is short and changes nothing half, as ``with turn.lock:``.

    Not ``with turn:``, since Control-C may come within methods of ours, which then leave it locked; it cannot come
    within those of Python's own lock.
    """

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.renew()
        _locks.add(self)

    def renew(self) -> None:
        """Be free, whoever held it."""
        self.lock = threading.Lock()


class ForkTurn:
    """A lock for longer work, as ``with turn.lock:``; the thread that has it may take it again.

    What the work changed half is left half in a forked child, which must refuse to go on with it.
    """

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.renew()
        _locks.add(self)

    def renew(self) -> None:
        """Be free, whoever held it."""
        self.lock = threading.RLock()


_locks: Final[WeakSet[ForkLock | ForkTurn]] = WeakSet()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
