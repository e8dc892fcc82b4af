"""What a repository really holds, read past every cache and without fetching or repairing anything.

`ObjectSource` hides damage where it can, by fetching again. An integrity check wants to see it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hangar_cloud.backends.errors import (
    BucketNotFoundError,
    CorruptDataError,
    HangarError,
    ObjectNotFoundError,
    StoreError,
    TruncatedObjectError,
)
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
    has them. `sparse` bytes are from a file of parts: those that fail their check are simply not here.
    """

    data: bytes | None
    error: HangarError | None = None
    sparse: bool = False


class HeldObjects:
    """Objects of one store, with what a local repository knows of those that it does not hold.

    Args:
        store: where the repository is: a local store, or the bucket itself.
        partial: store of sparse files with parts of remote objects; None where there are none.
        remotes: gives the stores that may hold what is not here; asked only whether they do.
        asking: False if remotes must not be asked; everything absent then counts as being there.
    """

    def __init__(
        self,
        store: ObjectStore,
        partial: ObjectStore | None = None,
        remotes: Callable[[], Sequence[ObjectStore]] = tuple,
        *,
        asking: bool = True,
    ) -> None:
        self.store = store
        self._partial = partial
        self._remotes = remotes
        self._asking = asking
        self._infos: dict[str, ObjectInfo | None] = {}
        self._absent: dict[str, HangarError | None] = {}
        self.unasked: set[str] = set()

    def info(self, path: str) -> ObjectInfo | None:
        """Size and time of a whole object, None where it is not here."""
        if path not in self._infos:
            try:
                self._infos[path] = self.store.stat(path)
            except ObjectNotFoundError:
                self._infos[path] = None
        return self._infos[path]

    def survey(self, folder: str) -> None:
        """Learn about every object of a folder at once, where the store can list."""
        if self.store.can_list:
            self._infos.update((info.path, info) for info in self.store.list(folder))

    def read_each(self, requests: Sequence[RangeRequest]) -> list[Held]:
        """Bytes of many ranges, each answered for itself, in the order asked."""
        answers: list[Held | None] = [self._without_reading(request) for request in requests]
        open_ = [i for i, answer in enumerate(answers) if answer is None]
        try:
            for i, data in zip(open_, self.store.get_ranges([requests[i] for i in open_]), strict=True):
                answers[i] = Held(data)
        except StoreError as error:
            if not concerns_object(error):
                raise
            for i in open_:
                answers[i] = self._read_one(requests[i])
        return [answer for answer in answers if answer is not None]

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

    def absence(self, path: str) -> HangarError | None:
        """What is wrong with an object being absent: None if a remote has it, or could not be asked."""
        if path not in self._absent:
            self._absent[path] = self._ask(path)
        return self._absent[path]

    def _without_reading(self, request: RangeRequest) -> Held | None:
        path, offset, length = request
        info = self.info(path)
        if info is None:
            part = self.read_part(path, offset, length)
            return Held(None, self.absence(path)) if part is None else Held(part, sparse=True)
        # Looked at first: no buffer is made for what a damaged record asks for.
        if offset + length > info.size:
            wanted = f"bytes {offset} to {offset + length} are wanted"
            return Held(None, TruncatedObjectError(f"{path} has {info.size} bytes, {wanted}"))
        return None

    def _read_one(self, request: RangeRequest) -> Held:
        try:
            return Held(self.store.get_range(*request))
        except StoreError as error:
            if not concerns_object(error):
                raise
            return Held(None, error)

    def _ask(self, path: str) -> HangarError | None:
        remotes = self._remotes() if self._asking else []
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
        return ObjectNotFoundError(f"{path} is not in {self.store.url}{asked}")
