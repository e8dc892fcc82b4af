"""What a writer does about a garbage collection in the same bucket, before and after it moves a pointer."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from hangar_cloud.backends.errors import StoreError, StoreUnavailableError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog import condemned
from hangar_cloud.catalog.clock import passing_seconds
from hangar_cloud.catalog.condemned import GcState, Keep

_PARALLEL: Final = 8
_ROUNDS: Final = 10
_POLL_SECONDS: Final = (0.1, 0.5)

T = TypeVar("T")
C = TypeVar("C", str, None)


class Watch:
    """Tells whether objects that a new pointer will reach are safe from being deleted.

    Args:
        store: the bucket; None where a lock keeps collections out (a local repository): then all is safe.
    """

    def __init__(self, store: ObjectStore | None) -> None:
        self._store = store
        self._done: int | None = None
        self._lists: dict[int, frozenset[str]] = {}
        self._over: set[int] = set()
        self._looked = 0.0
        self._keeps: list[str] = []
        self._lost: list[str] = []
        self.purges: frozenset[str] = frozenset()
        """Changes when samples were purged: then what is about to be stored has to be compared with the tombstones."""

    def start(self) -> None:
        """Call before looking which objects are there already: what is deleted after this is noticed."""
        if self._store is not None and self._done is None:
            self._store.ensure_writable()
            state = condemned.look(self._store)
            self._done, self.purges = state.done, frozenset(state.purges)

    @property
    def watching(self) -> bool:
        """False where nothing can vanish."""
        return self._store is not None

    @property
    def late(self) -> bool:
        """Whether a collection may have missed a pointer that was moved just now."""
        return self._store is not None and passing_seconds() - self._looked > condemned.SETTLE_SECONDS / 2

    @property
    def stale(self) -> bool:
        """Whether it is too late to begin to move a pointer without asking again."""
        return self._store is not None and passing_seconds() - self._looked > condemned.SETTLE_SECONDS / 4

    def announce(self, names: Collection[str], commit: str | None) -> None:
        """Ask every collection, until `close`, to spare objects, and what a commit reaches."""
        if self._store is not None:
            path = condemned.new_keep_path()
            self._keeps.append(path)
            self._store.put_if_absent(path, Keep(frozenset(names), commit).encode())

    def safe(self, names: Collection[str], commit: str | None) -> bool:
        """Whether all these objects are there and stay, for a pointer that is moved at once.

        Args:
            names: every object that was made, or found to be there, for the pointer's sake.
            commit: that the pointer will be at; None where what is moved refers to objects alone.

        Returns:
            False if some are gone, or samples were purged meanwhile: make them again, and ask again.
        """
        if self._store is None:
            return True
        state, waited = self._calm_state(self._store, frozenset(names), commit)
        unnoticed = waited or self._lost or state.done != self._done
        self._done = state.done
        # What was lost is looked for again: not everything can be made again.
        self._lost = self.missing(names) if unnoticed else []
        known, self.purges = self.purges, frozenset(state.purges)
        return not self._lost and self.purges <= known

    def missing(self, names: Collection[str]) -> list[str]:
        """Those of the objects that are not in the bucket."""
        store = self._store
        if store is None or not names:
            return []
        ordered = sorted(names)
        with ThreadPoolExecutor(min(_PARALLEL, len(ordered))) as pool:
            return [name for name, there in zip(ordered, pool.map(store.exists, ordered), strict=True) if not there]

    def complaint(self) -> str:
        """What to say where objects vanish time and again."""
        return (
            f"{', '.join(self._lost[:3]) or 'what was just uploaded'} vanished from the bucket time and again: a "
            "garbage collection removed what nothing referred to any more, and it cannot be made again here. Nothing "
            "here was lost; look whether the branches and commits that you started from are still there, and try again"
        )

    def close(self) -> None:
        """Take back what was asked of collections, once the pointer was moved (or given up)."""
        if self._store is not None and self._keeps:
            with contextlib.suppress(StoreError):  # a collection removes it some day
                self._store.delete(self._keeps)
        self._keeps.clear()

    def _calm_state(self, store: ObjectStore, names: frozenset[str], commit: str | None) -> tuple[GcState, bool]:
        """What lies below `gc/` when nothing there will delete any of these; and whether that took waiting."""
        waited = kept = False
        while True:
            self._looked = passing_seconds()
            state = condemned.look(store)
            doomed = [number for number in state.open if number not in self._over and names & self._condemned(number)]
            sweeping = [number for number in doomed if number in state.sweeps]
            if sweeping:
                self._wait(store, sweeping)
                waited = True
            elif doomed and not kept:
                self.announce(names & frozenset[str]().union(*map(self._condemned, doomed)), commit)
                kept = True
            else:
                return state, waited

    def _condemned(self, number: int) -> frozenset[str]:
        assert self._store is not None
        if number not in self._lists:
            path = condemned.list_path(number)
            text = self._store.get_many([path])[0]
            if text is None:  # over since it was listed
                return frozenset()
            self._lists[number] = condemned.decode_list(text, path)
        return self._lists[number]

    def _wait(self, store: ObjectStore, numbers: list[int]) -> None:
        """Until these deletions are over, by announcement or by time."""
        latest = passing_seconds() + condemned.LEASE_SECONDS
        while passing_seconds() < latest:
            time.sleep(random.uniform(*_POLL_SECONDS))
            state = condemned.look(store)
            if not any(number in state.open for number in numbers):
                return
        self._over.update(numbers)


def land(
    watch: Watch,
    publish: Callable[[], tuple[Collection[str], C]],
    move: Callable[[C], T],
    again: Callable[[], object] | None = None,
) -> T:
    """Publish, and move a pointer to what was published; nothing of it can be lost to a collection.

    Args:
        watch: of the store.
        publish: makes what is missing; gives the names of all objects that the pointer depends on, and its commit
            (None if there is none: an entry of the log of moves refers to objects alone).
        move: moves the pointer to that commit.
        again: makes once more what is missing of the commit that the pointer was moved to; by default `publish`.

    Raises:
        StoreUnavailableError: objects vanished time and again.
    """
    try:
        watch.start()
        names, commit = settle(watch, publish)
        moved = move(commit)
        if not watch.late:
            return moved
        for _ in range(_ROUNDS):
            if watch.safe(names, commit):
                return moved
            (again or publish)()
        raise StoreUnavailableError(watch.complaint())
    finally:
        watch.close()


def settle(watch: Watch, publish: Callable[[], tuple[Collection[str], C]]) -> tuple[Collection[str], C]:
    """Publish until all of it is there and stays, for the moment; gives what `publish` gave. Otherwise as `land`."""
    for _ in range(_ROUNDS):
        names, commit = publish()
        if watch.safe(names, commit) and not (watch.stale and not watch.safe(names, commit)):
            return names, commit
    raise StoreUnavailableError(watch.complaint())
