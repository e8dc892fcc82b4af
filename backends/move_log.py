"""Reading a store's log of moves, and ranges of objects wherever they were moved to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import xxhash

from hangar_cloud.backends.errors import CorruptDataError, ObjectNotFoundError, PurgedBytesError
from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.moves import Move, Moves, Spot, moves_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.durable_files import read_regular
from hangar_cloud.backends.store.ranges import RangeRequest

Decode = Callable[[bytes, int], list[Move]]
"""Turns the bytes of the entry of that number into moves; raises CorruptDataError."""

_FIRST_LOOK: Final = 2
_MOST_AT_ONCE: Final = 64
_PARALLEL: Final = 8
_MAX_ENTRY_BYTES: Final = 64 * 1024 * 1024
_LOOKS: Final = 8


class Fetched(NamedTuple):
    """Bytes that were asked for, or `rewritten` ones that a purge put in their place."""

    data: bytes | memoryview
    rewritten: bool = False


class MoveLog:
    """The moves of one store, as far as they were needed so far. Safe to share between threads.

    Args:
        decode: of the entries' format.

    `moves` are those that are known; `next` is the number of the entry that was not there when last looked for;
    `problem` is what is wrong with an entry that could not be read.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._lock = ForkLock()
        self.moves = Moves()
        self.next = 0
        self.problem: CorruptDataError | None = None

    def refresh(self, read: Callable[[Sequence[str]], Sequence[bytes | None]]) -> bool:
        """Read the entries that came since; whether there were any.

        Args:
            read: gives the bytes of objects, None where there is no such object.
        """
        with self._lock.lock:
            before, window = self.next, _FIRST_LOOK
            while True:
                numbers = range(self.next, self.next + window)
                for number, text in zip(numbers, read([moves_path(n) for n in numbers]), strict=True):
                    if text is None:
                        return self.next > before
                    self._take(number, text)
                window = min(window * 2, _MOST_AT_ONCE)

    def read_all(self, store: ObjectStore) -> Moves:
        """All moves of a store, for what must not overlook one.

        Raises:
            CorruptDataError: an entry is damaged, or one before others is missing.
        """
        self.refresh(store.get_many)
        if self.problem is not None:
            raise self.problem
        if store.can_list:
            names = {name for name in store.list_children("moves") if name >= moves_path(self.next)[len("moves/") :]}
            if names and not self.refresh(store.get_many):
                raise CorruptDataError(
                    f"{moves_path(self.next)} is missing at {store.url}, though there is {min(names)}: where bytes "
                    "were moved to is not known. Bring it back from a copy of the repository"
                )
        if self.problem is not None:
            raise self.problem
        return self.moves

    def _take(self, number: int, text: bytes) -> None:
        try:
            self.moves.add(number, self._decode(text, number))
        except CorruptDataError as error:
            self.problem = self.problem or error
        self.next = number + 1


class MoveLogs:
    """The logs of moves of the stores that one repository reads.

    Args:
        decode: of the entries' format; None where nothing is ever moved.
    """

    def __init__(self, decode: Decode | None = None) -> None:
        self._decode = decode
        self._logs: dict[str, MoveLog] = {}

    def of(self, url: str) -> MoveLog | None:
        """The log of the store at a URL (or folder)."""
        if self._decode is None:
            return None
        log = self._logs.get(url)
        return self._logs.setdefault(url, MoveLog(self._decode)) if log is None else log

    def knows(self, path: str) -> bool:
        """Whether anything of an object is known to have been moved in any of the stores."""
        return any(path in log.moves for log in list(self._logs.values()))

    def forget(self) -> None:
        """Read all logs anew when they are needed next."""
        self._logs.clear()

    def get_ranges(
        self,
        store: ObjectStore,
        requests: Sequence[RangeRequest],
        least: int | None = None,
        *,
        tiles: bool = False,
        together: bool = False,
    ) -> list[Fetched]:
        """Bytes of ranges of a store's objects, in the order asked, wherever they lie by now.

        A store without moves is asked as if there were no such thing; with them known, ranges are asked for at once
        where they should be.

        Args:
            store: to ask.
            requests: ranges by their names of old.
            least: how many bytes at the end of each range are enough, if the rest is not there; None for all.
            tiles: these are tiles of arrays.
            together: as in `ObjectStore.get_views`.

        Raises:
            ObjectNotFoundError: some are nowhere.
            CorruptDataError: they may have been moved, but the log is damaged; or what was put in the place of a
                rewritten extent is.
            PurgedBytesError: some are gone for good.
        """
        log = self.of(store.url)
        if log is None:
            return [Fetched(data) for data in _asked(store, requests, tiles, together)]
        spots = [log.moves.spots(*request, least)[0] for request in requests]
        known: set[str] = set()
        for _ in range(_LOOKS):
            try:
                return _read(store, requests, spots, tiles, together)
            except ObjectNotFoundError as error:
                came = log.refresh(store.get_many)
                if not log.moves.count:
                    raise log.problem or error from error
                if not came:  # what was there at the last look is not any more
                    known = set()
                choices = [log.moves.spots(*request, least) for request in requests]
                known, absent = _look(store, choices, known)
                chosen = [next((s for s in c if s.path is None or s.path not in absent), None) for c in choices]
                if None in chosen:
                    raise log.problem or error from error
                spots = [spot for spot in chosen if spot is not None]
        raise ObjectNotFoundError(f"objects of {store.url} vanished as fast as they were looked up; try again")

    def moved_in_folder(self, folder: Path, path: str) -> bool:
        """Whether something of an object was moved elsewhere in a local store. Raises CorruptDataError."""
        log = self.of(os.fspath(folder))
        if log is None:
            return False
        self._refresh_in_folder(log, folder)
        return path in log.moves

    def spots_in_folder(self, folder: Path, path: str, offset: int, length: int) -> list[Spot]:
        """Where else in a local store a range may be, whose object is not there; the best first."""
        log = self.of(os.fspath(folder))
        if log is None:
            return []
        self._refresh_in_folder(log, folder)
        if path in log.moves:
            return [spot for spot in log.moves.spots(path, offset, length) if spot.path != path]
        if log.problem is not None:
            raise log.problem
        return []

    @staticmethod
    def _refresh_in_folder(log: MoveLog, folder: Path) -> None:
        # Asked for each extent that is in no whole file: entries are numbered, so the next one tells.
        if os.path.lexists(f"{folder}/{moves_path(log.next)}"):
            log.refresh(lambda names: [_read_or_none(folder / name) for name in names])


def _asked(
    store: ObjectStore, requests: Sequence[RangeRequest], tiles: bool, together: bool
) -> Sequence[bytes | memoryview]:
    return store.get_tiles(requests) if tiles else store.get_views(requests, together=together)


def _read(
    store: ObjectStore, requests: Sequence[RangeRequest], spots: Sequence[Spot], tiles: bool, together: bool
) -> list[Fetched]:
    ranges = []
    for (path, offset, length), spot in zip(requests, spots, strict=True):
        if spot.path is None:
            raise PurgedBytesError(f"bytes {offset} to {offset + length} of {path} were purged")
        ranges.append((spot.path, spot.offset, spot.length))
    found = []
    for data, spot in zip(_asked(store, ranges, tiles, together), spots, strict=True):
        check_rewritten(data, spot)
        found.append(Fetched(data, spot.checksum is not None))
    return found


def check_rewritten(data: bytes | memoryview, spot: Spot) -> None:
    """Raises CorruptDataError if these are not the bytes that were put in the place of others."""
    if spot.checksum is not None and xxhash.xxh3_64_intdigest(data) != spot.checksum:
        end = spot.offset + spot.length
        raise CorruptDataError(f"{spot.path}, bytes {spot.offset} to {end}, written by a purge, are damaged")


def _look(store: ObjectStore, choices: Iterable[Sequence[Spot]], known: set[str]) -> tuple[set[str], set[str]]:
    """Which of the objects that ranges may lie in are there, and which are not."""
    names = {spot.path for spots in choices for spot in spots if spot.path is not None}
    asked = sorted(names - known)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        there = {name for name, found in zip(asked, pool.map(store.exists, asked), strict=True) if found}
    return known | there, set(asked) - there


def _read_or_none(file: Path) -> bytes | None:
    try:
        return read_regular(file, _MAX_ENTRY_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CorruptDataError(f"{file} cannot be read ({error.strerror or error})") from error
