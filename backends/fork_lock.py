"""Locks that a forked child finds free.

A child that is forked while another thread holds a lock (one that fetches ahead, say) has the lock, but not the thread.
"""

from __future__ import annotations

import itertools
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


class ForkLocks:
    """So many may be at some work at once, as ``with locks.next():``; who takes turns with whom is left to chance.

    Not a semaphore, whose methods are not Python's own: Control-C may come within them.

    Args:
        count: of them.
    """

    __slots__ = ("_locks", "_numbers")

    def __init__(self, count: int) -> None:
        self._locks = [ForkLock() for _ in range(count)]
        self._numbers = itertools.count()

    def next(self) -> threading.Lock:
        """One of them."""
        return self._locks[next(self._numbers) % len(self._locks)].lock


_locks: Final[WeakSet[ForkLock | ForkTurn]] = WeakSet()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
