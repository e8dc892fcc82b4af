"""Where immutable objects are read from: the local store first, then a remote, verified.

What comes from a remote is kept. A whole object lies in the local store under its own name. A
part of one lies in a sparse file at the same offsets, under `partial/`. There is no separate map
of what such a file holds: every extent carries a checksum, a hole reads as zeros and fails it, so
"is it here?" and "is it intact?" are one question. Two processes that fill one file write the same
bytes to the same places, and a crash in the middle leaves only extents that fail.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hangar_cloud.backends.cache_limit import CacheLimit
from hangar_cloud.backends.errors import (
    CorruptDataError,
    DataNotLocalError,
    HangarError,
    ObjectNotFoundError,
    StoreError,
    TruncatedObjectError,
)
from hangar_cloud.backends.local_files import LocalFiles
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.durable_files import publish_over, temporary_sibling
from hangar_cloud.backends.store.ranges import RangeRequest

T = TypeVar("T")
Verify = Callable[[memoryview, bool], T]


@dataclass(frozen=True)
class Extent(Generic[T]):
    """A part of an object, and the check that turns its bytes into what the caller wants.

    `verify(data, fetched)` returns the wanted value or raises `CorruptDataError`; `fetched` says
    that the bytes came from a remote and are about to be kept.
    """

    path: str
    offset: int
    length: int
    verify: Verify[T]


class ObjectSource:
    """Reads immutable objects, whole or in parts, from local files or else from remotes.

    Args:
        store: folder of whole local objects, laid out as in `docs/format.md`.
        partial: folder of sparse files for parts of objects; None where nothing is ever fetched.
        remotes: stores to ask for what is not here, in order.
        offline: never ask them; what is not here raises `DataNotLocalError`.
        limit: size limit of the cache, None for no limit.
    """

    def __init__(
        self,
        store: Path,
        partial: Path | None = None,
        remotes: Callable[[], Sequence[ObjectStore]] = tuple,
        *,
        offline: bool = False,
        limit: CacheLimit | None = None,
    ) -> None:
        self.store = store
        self.partial = partial
        self.offline = offline
        self._remotes = remotes
        self._limit = limit
        self._files = LocalFiles()
        self._ahead: dict[str, tuple[int, bytes]] = {}

    def read(self, extent: Extent[T], ahead: int = 0) -> T:
        """The verified value of one extent.

        Args:
            extent: what to read.
            ahead: where it has to be fetched, fetch up to so many bytes before it too, since they are likely
                to be read next (a tree's lower nodes lie before its root). They are kept in memory until then,
                and verified and kept on disk when they are read.

        Raises:
            CorruptDataError: the bytes are damaged wherever they are.
            DataNotLocalError: they are not here, and the repository is offline or has no remote.
        """
        try:
            return self.read_local(extent)
        except (CorruptDataError, DataNotLocalError) as error:
            return self._fetch_ahead(extent, ahead, error) if ahead else self._fetch([extent], [error])[0]

    def read_many(self, extents: Sequence[Extent[T]], *, must_keep: bool = False) -> list[T]:
        """The verified values of many extents, in the order asked; what is missing is fetched in joined requests.

        Raises as `read`, and with `must_keep` StoreError where what was fetched cannot be kept.
        """
        values: list[Any] = [None] * len(extents)
        missing: list[int] = []
        reasons: list[HangarError] = []
        for i, extent in enumerate(extents):
            try:
                values[i] = self.read_local(extent)
            except (CorruptDataError, DataNotLocalError) as error:
                missing.append(i)
                reasons.append(error)
        if missing:
            for i, value in zip(missing, self._fetch([extents[i] for i in missing], reasons, must_keep), strict=True):
                values[i] = value
        return values

    def read_local(self, extent: Extent[T]) -> T:
        """The verified value of one extent from local files only.

        Raises:
            CorruptDataError: a local copy is there and damaged.
            DataNotLocalError: it is not here.
        """
        path = self.store / extent.path
        try:
            data = self._files.view(path, extent.offset, extent.length)
        except FileNotFoundError:
            return self._read_partial(extent)
        return _verified(extent, data, fetched=False)

    def is_local(self, extent: Extent[Any]) -> bool:
        """True if the extent is here and intact."""
        try:
            self.read_local(extent)
        except (CorruptDataError, DataNotLocalError):
            return False
        return True

    def read_object(self, path: str, verify: Callable[[bytes], T]) -> T:
        """A small whole object, verified; kept here when it was fetched. Raises as `read`."""
        local = self.store / path
        reason: HangarError
        try:
            return verify(local.read_bytes())
        except FileNotFoundError:
            reason = DataNotLocalError(f"{path} is not in {self.store} and no remote is configured to fetch it from")
        except CorruptDataError as error:
            reason = CorruptDataError(f"{path} in {self.store} is damaged: {error}")
        remotes = self._reachable(path, reason)
        problem: CorruptDataError | None = None
        for remote in remotes:
            try:
                data = remote.get(path)
                value = verify(data)
            except ObjectNotFoundError:
                continue
            except CorruptDataError as error:
                problem = CorruptDataError(f"{error} (as read from {remote.url})")
                problem.__cause__ = error
                continue
            with contextlib.suppress(OSError):  # a full disk is no reason not to read
                self._keep_whole(local, data)
            return value
        raise problem or self._nowhere(path, reason, remotes)

    def fetch_whole(
        self, path: str, verify: Callable[[Path], None], progress: Callable[[int], None] | None = None
    ) -> bool:
        """Make one object wholly local; False if it was so already.

        Args:
            path: the object's name.
            verify: checks the downloaded file and raises `CorruptDataError`.
            progress: called with numbers of bytes as they arrive.
        """
        local = self.store / path
        if local.exists():
            return False
        missing = DataNotLocalError(f"{path} is not in {self.store} and no remote is configured to fetch it from")
        remotes = self._reachable(path, missing)
        problem: CorruptDataError | None = None
        for remote in remotes:
            try:
                with temporary_sibling(local) as incoming:
                    remote.download(path, incoming, progress=progress)
                    verify(incoming)
                    size = incoming.stat().st_size
                    publish_over(incoming, local)
            except ObjectNotFoundError:
                continue
            except CorruptDataError as error:
                problem = CorruptDataError(f"{error} (as read from {remote.url})")
                problem.__cause__ = error
                continue
            self._drop_partial(path)
            self._account(size)
            return True
        raise problem or self._nowhere(path, missing, remotes)

    def forget(self) -> None:
        """Close every local file held open."""
        self._files.forget_all()

    def _read_partial(self, extent: Extent[T]) -> T:
        absent = DataNotLocalError(f"bytes {extent.offset}+{extent.length} of {extent.path} are not here")
        if self.partial is None:
            raise absent
        try:
            data = self._files.read(self.partial / extent.path, extent.offset, extent.length)
        except (FileNotFoundError, NotADirectoryError):
            raise absent from None
        if len(data) < extent.length or not any(data[:64]):
            raise absent
        return _verified(extent, memoryview(data), fetched=False)

    def _fetch_ahead(self, extent: Extent[T], ahead: int, reason: HangarError) -> T:
        start, blob = self._ahead.get(extent.path, (0, b""))
        end = extent.offset + extent.length
        if not start <= extent.offset <= end <= start + len(blob):
            start, blob = max(extent.offset - ahead, 0), b""

        def take(data: bytes) -> T:
            part = data[extent.offset - start : extent.offset - start + extent.length]
            value = _verified(extent, memoryview(part), fetched=True)
            self._keep_parts([(extent, part, reason)])
            return value

        if blob:
            with contextlib.suppress(CorruptDataError):  # asked for once more, if need be of another remote
                return take(blob)

        def take_wide(blobs: list[bytes]) -> T:
            value = take(blobs[0])
            self._ahead = {extent.path: (start, blobs[0])}
            return value

        return self._ask([(extent.path, start, end - start)], reason, take_wide)

    def _fetch(self, extents: Sequence[Extent[T]], reasons: Sequence[HangarError], must_keep: bool = False) -> list[T]:
        def take(blobs: list[bytes]) -> list[T]:
            values = [_verified(e, memoryview(blob), fetched=True) for e, blob in zip(extents, blobs, strict=True)]
            self._keep_parts(list(zip(extents, blobs, reasons, strict=True)), must_keep)
            return values

        try:
            return self._ask([(e.path, e.offset, e.length) for e in extents], reasons[0], take)
        except (ObjectNotFoundError, CorruptDataError):
            paths = {extent.path for extent in extents}
            if len(paths) == 1 or self.offline or len(self._remotes()) < 2:
                raise
        # No one remote has all of these objects, but each may be in some.
        values: dict[int, T] = {}
        for path in paths:
            places = [i for i, extent in enumerate(extents) if extent.path == path]
            fetched = self._fetch([extents[i] for i in places], [reasons[i] for i in places], must_keep)
            values.update(zip(places, fetched, strict=True))
        return [values[i] for i in range(len(extents))]

    def _ask(self, requests: list[RangeRequest], reason: HangarError, take: Callable[[list[bytes]], T]) -> T:
        """What `take` makes of the bytes, from the first remote that has them all and intact."""
        remotes = self._reachable(requests[0][0], reason)
        problem: CorruptDataError | None = None
        for remote in remotes:
            try:
                return take(remote.get_ranges(requests))
            except ObjectNotFoundError:
                continue
            except (CorruptDataError, TruncatedObjectError) as error:
                problem = CorruptDataError(f"{error} (as read from {remote.url})")
                problem.__cause__ = error
        raise problem or self._nowhere(requests[0][0], reason, remotes)

    def _reachable(self, path: str, reason: HangarError) -> Sequence[ObjectStore]:
        if self.offline:
            if isinstance(reason, CorruptDataError):
                raise reason
            raise DataNotLocalError(
                f"{path} is not here and the repository was opened with offline=True; open it "
                "without offline=True, or run fetch_data while there is a network"
            )
        remotes = self._remotes()
        if not remotes:
            raise reason
        return remotes

    def _nowhere(self, path: str, reason: HangarError, remotes: Sequence[ObjectStore]) -> HangarError:
        asked = ", ".join(remote.url for remote in remotes)
        if isinstance(reason, CorruptDataError):
            return CorruptDataError(f"{reason}; and {asked} has no copy of {path} to replace it")
        return ObjectNotFoundError(
            f"{path} is neither in {self.store} nor in {asked}: the repository refers to an object that is missing; "
            "if it was pushed from elsewhere, push it again"
        )

    def _keep_part(self, extent: Extent[Any], blob: bytes, reason: HangarError) -> None:
        if self.partial is None:
            return
        path = self.partial / extent.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(reason, CorruptDataError):
            self._demote(extent.path)
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            view = memoryview(blob)
            while view:
                written = os.pwrite(file, view, extent.offset + len(blob) - len(view))
                view = view[written:]
        finally:
            os.close(file)
        # Another process may have evicted the file that we have open: this is the new one.
        self._files.forget(path)
        self._account(len(blob))

    def _keep_parts(self, parts: Sequence[tuple[Extent[Any], bytes, HangarError]], must_keep: bool = False) -> None:
        """Keep what was fetched. A full or read-only disk is no reason not to read; only who asked for it to be kept
        is told."""
        try:
            for extent, blob, reason in parts:
                self._keep_part(extent, blob, reason)
        except OSError as error:
            if must_keep:
                raise StoreError(
                    f"what was fetched cannot be kept in {self.partial}: {error.strerror or error}. Free some "
                    "space, or choose another folder (cache_dir), and fetch it again; nothing is damaged"
                ) from error

    def _demote(self, path: str) -> None:
        """Take a damaged whole object for a partial one: each extent of it that is intact stays readable."""
        assert self.partial is not None
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.store / path, self.partial / path)
        self._files.forget(self.store / path)

    def _keep_whole(self, local: Path, data: bytes) -> None:
        with temporary_sibling(local) as incoming:
            incoming.write_bytes(data)
            os.replace(incoming, local)
        self._files.forget(local)
        self._account(len(data))

    def _drop_partial(self, path: str) -> None:
        if self.partial is not None:
            (self.partial / path).unlink(missing_ok=True)
            self._files.forget(self.partial / path)

    def _account(self, written: int) -> None:
        if self._limit is not None:
            for path in self._limit.added(written):
                self._files.forget(path)


def _verified(extent: Extent[T], data: memoryview, *, fetched: bool) -> T:
    try:
        if len(data) != extent.length:
            raise CorruptDataError(f"only {len(data)} of {extent.length} bytes are there")
        return extent.verify(data, fetched)
    except CorruptDataError as error:
        raise CorruptDataError(
            f"{extent.path}, bytes {extent.offset} to {extent.offset + extent.length}: {error}"
        ) from error
