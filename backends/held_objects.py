"""What a repository really holds, read past every cache and without fetching or repairing anything.

`ObjectSource` hides damage where it can, by fetching again. An integrity check wants to see it.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hangar_cloud.backends.errors import (
    BucketNotFoundError,
    CorruptDataError,
    HangarError,
    ObjectNotFoundError,
    PurgedBytesError,
    StoreError,
    TruncatedObjectError,
)
from hangar_cloud.backends.move_log import MoveLogs, check_rewritten
from hangar_cloud.backends.moves import Spot
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.port import ObjectInfo
from hangar_cloud.backends.store.ranges import RangeRequest


def concerns_object(error: BaseException | None) -> bool:
    """Whether an error speaks of an object (gone, cut short, on a bad spot of the disk) and not of the way to it."""
    while error is not None:
        if isinstance(error, (ObjectNotFoundError, TruncatedObjectError, CorruptDataError)):
            return True
        if isinstance(error, OSError) and error.errno == errno.EIO:
            return True
        error = error.__cause__
    return False


class Held(NamedTuple):
    """The answer to one request for bytes.

    `data` is None where they are not here. `error` then says why they cannot be read, and is None where a remote
    has them. `sparse` bytes are from a file of parts: those that fail their check are simply not here. `rewritten`
    ones were put in the place of others by a purge, and are intact as such.
    """

    data: bytes | None
    error: HangarError | None = None
    sparse: bool = False
    rewritten: bool = False


class HeldObjects:
    """Objects of one store, with what a local repository knows of those that it does not hold.

    Args:
        store: where the repository is: a local store, or the bucket itself.
        partial: store of sparse files with parts of remote objects; None where there are none.
        remotes: gives the stores that may hold what is not here; asked only whether they do.
        asking: False if remotes must not be asked; everything absent then counts as being there.
        fetching: read what is not here as a whole from the remotes, as if it were here; nothing is kept. Parts are
            looked at where no remote has it.
        moves: knows where objects were moved to; by default nothing ever is.

    `unasked` are the absent objects about which some remote gave no answer.
    """

    def __init__(
        self,
        store: ObjectStore,
        partial: ObjectStore | None = None,
        remotes: Callable[[], Sequence[ObjectStore]] = tuple,
        *,
        asking: bool = True,
        fetching: bool = False,
        moves: MoveLogs | None = None,
    ) -> None:
        self._store = store
        self._moves = moves or MoveLogs()
        self._fresh: set[str] = set()
        self._partial = partial
        self._fetching = fetching
        self._remotes = remotes
        self._asking = asking
        self._infos: dict[str, ObjectInfo | None] = {}
        self._absent: dict[str, HangarError | None] = {}
        self._elsewhere: dict[str, ObjectStore] = {}
        self.unasked: set[str] = set()

    def info(self, path: str) -> ObjectInfo | None:
        """Size and time of a whole object, None where it cannot be read."""
        if path not in self._infos:
            try:
                self._infos[path] = self._store.stat(path)
            except ObjectNotFoundError:
                self._infos[path] = self._info_elsewhere(path) if self._fetching else None
        return self._infos[path]

    def store_of(self, path: str) -> ObjectStore:
        """The store that an object with an `info` is read from."""
        return self._elsewhere.get(path, self._store)

    def origin(self, path: str) -> str:
        """Where an object was read from, to go behind a message; empty where that is the repository itself."""
        return f" (as read from {self._elsewhere[path].url})" if path in self._elsewhere else ""

    def survey(self, folder: str) -> None:
        """Learn about every object of a folder at once, where the store can list."""
        if self._store.can_list:
            self._infos.update((info.path, info) for info in self._store.list(folder))

    def read_each(self, requests: Sequence[RangeRequest]) -> list[Held]:
        """Bytes of many ranges, each answered for itself, in the order asked."""
        spots = [self.locate(*request) for request in requests]
        answers: list[Held | None] = [self._without_reading(spot) for spot in spots]
        by_store: dict[ObjectStore, list[int]] = {}
        for i, spot in enumerate(spots):
            if answers[i] is None and spot.path is not None:
                by_store.setdefault(self.store_of(spot.path), []).append(i)
        for store, open_ in by_store.items():
            ranges = [(spots[i].path or "", spots[i].offset, spots[i].length) for i in open_]
            for i, answer in zip(open_, _read_all(store, ranges), strict=True):
                answers[i] = _checked(answer, spots[i])
        return [answer for answer in answers if answer is not None]

    def locate(self, path: str, offset: int, length: int) -> Spot:
        """Where bytes are that records or commits say are at a place: there, or where that was moved to.

        If they are nowhere, it is where they should be.
        """
        spots = self._spots(self._store, path, offset, length)
        found = next((spot for spot in spots if spot.path is None or self.info(spot.path) is not None), None)
        if found is not None:
            return found
        for remote in self._remotes() if self._fetching else ():
            for spot in self._spots(remote, path, offset, length):
                if spot.path is None or self.info(spot.path) is not None:
                    return spot
        return spots[0]

    def read_part(self, path: str, offset: int, length: int) -> bytes | None:
        """Bytes of a file of parts, None where they are not there (or are a hole)."""
        if self._partial is None:
            return None
        try:
            if offset + length > self._partial.stat(path).size:
                return None
            data = self._partial.get_range(path, offset, length)
        except ObjectNotFoundError:
            return None
        return data if any(data[:64]) else None

    def has_parts(self, path: str) -> bool:
        """Whether parts of an object are here."""
        return self._partial is not None and self._partial.exists(path)

    def absence(self, path: str, ranges: Iterable[tuple[int, int]] = ()) -> HangarError | None:
        """What is wrong with an object being absent: None if a remote has it, or could not be asked.

        Args:
            path: its name.
            ranges: offsets and lengths of all that is wanted of it; a remote that moved these elsewhere has them.
        """
        if path not in self._absent:
            self._absent[path] = self._ask(path)
        error = self._absent[path]
        wanted = list(ranges) if error is not None else []
        return None if any(self._moved_all(remote, path, wanted) for remote in self._asked()) else error

    def is_moved(self, path: str) -> bool:
        """Whether something of an object lies elsewhere in the store, or in a remote, by now."""
        for store in (self._store, *self._asked()):
            self._spots(store, path, 0, 0)
            log = self._moves.of(store.url)
            if log is not None and any(store.exists(target) for target in log.moves.targets(path)):
                return True
        return False

    def _spots(self, store: ObjectStore, path: str, offset: int, length: int) -> list[Spot]:
        log = self._moves.of(store.url)
        if log is None:
            return [Spot(path, offset, length)]
        if store.url not in self._fresh:
            self._fresh.add(store.url)
            log.refresh(store.get_many)
        return log.moves.spots(path, offset, length)

    def _moved_all(self, store: ObjectStore, path: str, ranges: Sequence[tuple[int, int]]) -> bool:
        """Whether a store, though it lacks an object, has what is wanted of it in others."""
        found = [self._spots(store, path, offset, length)[0] for offset, length in ranges]
        targets = {spot.path for spot in found if spot.path is not None}
        return bool(found) and path not in targets and all(store.exists(target) for target in targets)

    def _asked(self) -> Sequence[ObjectStore]:
        return self._remotes() if self._asking else ()

    def _without_reading(self, spot: Spot) -> Held | None:
        path, offset, length, _ = spot
        if path is None:
            return Held(None, PurgedBytesError("they were purged"))
        info = self.info(path)
        if info is None:
            part = self.read_part(path, offset, length)
            return Held(None, self.absence(path, [(offset, length)])) if part is None else Held(part, sparse=True)
        # Looked at first: no buffer is made for what a damaged record asks for.
        if offset + length > info.size:
            wanted = f"bytes {offset} to {offset + length} are wanted"
            return Held(None, TruncatedObjectError(f"{path} has {info.size} bytes, {wanted}"))
        return None

    def _info_elsewhere(self, path: str) -> ObjectInfo | None:
        for remote in self._remotes():
            with contextlib.suppress(StoreError):
                info = remote.stat(path)
                self._elsewhere[path] = remote
                return info
        return None

    def _ask(self, path: str) -> HangarError | None:
        remotes = self._asked()
        silent = not self._asking
        for remote in remotes:
            try:
                remote.stat(path)
                return None
            except (ObjectNotFoundError, BucketNotFoundError):
                continue
            except StoreError:
                silent = True
        if silent:
            self.unasked.add(path)
            return None
        asked = "".join(f", nor in {remote.url}" for remote in remotes)
        return ObjectNotFoundError(f"{path} is not in {self._store.url}{asked}")


def _read_all(store: ObjectStore, requests: Sequence[RangeRequest]) -> list[Held]:
    """Bytes of ranges of one store. Raises StoreError where it does not answer."""
    try:
        return [Held(data) for data in store.get_ranges(requests)]
    except StoreError as error:
        if not concerns_object(error):
            raise
        return [_read_one(store, request) for request in requests]


def _checked(held: Held, spot: Spot) -> Held:
    """An answer, told from what stands in for other bytes."""
    if held.data is None or spot.checksum is None:
        return held
    try:
        check_rewritten(held.data, spot)
    except CorruptDataError as error:
        return Held(None, error)
    return held._replace(rewritten=True)


def _read_one(store: ObjectStore, request: RangeRequest) -> Held:
    try:
        return Held(store.get_range(*request))
    except StoreError as error:
        if not concerns_object(error):
            raise
        return Held(None, error)
