"""Where immutable objects are read from: the local store first, then a remote, verified.

What comes from a remote is kept. A whole object lies in the local store under its own name. A
part of one lies in a sparse file at the same offsets, under `partial/`. There is no separate map
of what such a file holds: every extent carries a checksum, a hole reads as zeros and fails it, so
"is it here?" and "is it intact?" are one question. Two processes that fill one file write the same
bytes to the same places, and a crash in the middle leaves only extents that fail.

An object that is gone may have been moved (`backends/moves.py`): in the local store, and in each remote by itself.
What is kept of it stays under the name, and at the offset, that it was asked for by.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from hangar_cloud.backends.absent_objects import damaged_there, kept_from_asking, not_here, nowhere
from hangar_cloud.backends.cache_limit import CacheLimit
from hangar_cloud.backends.errors import (
    CorruptDataError,
    DataNotLocalError,
    HangarError,
    ObjectNotFoundError,
    PurgedBytesError,
    TruncatedObjectError,
    without_frames,
)
from hangar_cloud.backends.extents import Extent, Verify, verified
from hangar_cloud.backends.kept_objects import KeptObjects, unreadable_told
from hangar_cloud.backends.local_files import LocalFiles, MapUser
from hangar_cloud.backends.move_log import Fetched, MoveLogs, check_rewritten
from hangar_cloud.backends.sparse_file import HOLE_BYTES, PartsHere
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.durable_files import disk_errors_told, publish_over, read_regular, temporary_sibling
from hangar_cloud.backends.store.ranges import RangeRequest

__all__ = ["Extent", "ObjectSource", "Verify"]

_MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
_MOST_PATHS: Final = 4096
T = TypeVar("T")


class ObjectSource:
    """Reads immutable objects, whole or in parts, from local files or else from remotes.

    Args:
        store: folder of whole local objects, laid out as in `docs/format.md`.
        partial: folder of sparse files for parts of objects; None where nothing is ever fetched.
        remotes: stores to ask for what is not here, in order.
        offline: never ask them; what is not here raises `DataNotLocalError`.
        limit: size limit of the cache, None for no limit.
        moves: knows where objects were moved to; by default nothing ever is.
    """

    def __init__(
        self,
        store: Path,
        partial: Path | None = None,
        remotes: Callable[[], Sequence[ObjectStore]] = tuple,
        *,
        offline: bool = False,
        limit: CacheLimit | None = None,
        moves: MoveLogs | None = None,
    ) -> None:
        self.store = store
        self.partial = partial
        self.offline = offline
        self._remotes = remotes
        self._files = LocalFiles()
        self._kept = KeptObjects(store, partial, limit, self._files)
        self._moves = moves or MoveLogs()
        self._ahead: dict[str, tuple[int, bytes]] = {}
        self._paths: dict[str, tuple[Path, Path]] = {}

    def read(self, extent: Extent[T], ahead: int = 0) -> T:
        """The verified value of one extent.

        Args:
            extent: what to read.
            ahead: where it has to be fetched, fetch up to so many bytes before it too, since they are likely to be read
                next (a tree's lower nodes lie before its root). They are verified, and kept on disk, when they are.

        Raises:
            CorruptDataError: the bytes are damaged wherever they are.
            DataNotLocalError: they are not here, and the repository is offline or has no remote.
        """
        try:
            return self.read_local(extent)
        except (CorruptDataError, DataNotLocalError) as error:
            reason: HangarError = without_frames(error)
        return self._fetch_ahead(extent, ahead, reason) if ahead else self._fetch([extent], [reason])[0]

    def read_many(self, extents: Sequence[Extent[T]], *, must_keep: bool = False, tiles: bool = False) -> list[T]:
        """The verified values of many extents, in the order asked; what is missing is fetched in joined requests.

        Raises as `read`, and with `must_keep` StoreError where what was fetched cannot be kept. `tiles` says that these
        are tiles of an array.
        """
        values: list[Any] = [None] * len(extents)
        missing: list[int] = []
        reasons: list[HangarError] = []
        in_parts: dict[str, PartsHere] = {}
        for i, extent in enumerate(extents):
            try:
                here = in_parts.get(extent.path)
                values[i] = self.read_local(extent) if here is None else self._read_partial(extent, here)
            except (CorruptDataError, DataNotLocalError) as error:
                missing.append(i)
                reasons.append(without_frames(error))
                # Looked for once: there may be hundreds of extents of one object.
                if extent.path not in in_parts and self._is_in_parts(extent.path):
                    in_parts[extent.path] = self._kept.parts_of(extent.path)
        if missing:
            fetched = self._fetch([extents[i] for i in missing], reasons, must_keep, tiles)
            for i, value in zip(missing, fetched, strict=True):
                values[i] = value
        return values

    def fetch(self, extents: Sequence[Extent[T]], held: bool = False) -> list[T]:
        """As `read_many`, for what is known not to be here: it is not looked for. `held` as in `keep_parts`."""
        reason = not_here(extents[0].path, self.store)
        return self._fetch(extents, [reason] * len(extents), held=held)

    def lies_in_one_piece(self, path: str) -> bool:
        """Whether nothing is known of an object, or of parts of it, lying elsewhere by now.

        If so, ranges over several of its extents may be read too.
        """
        whole = os.path.lexists(self._places(path)[0])
        return whole or not (self._moves.knows(path) or self.was_moved(path) or self._kept.parts_of(path).rewritten)

    def read_local(self, extent: Extent[T]) -> T:
        """The verified value of one extent from local files only.

        Raises:
            CorruptDataError: a local copy is there and damaged.
            DataNotLocalError: it is not here.
        """
        self._kept.let_go()
        path = self._places(extent.path)[0]
        try:
            with unreadable_told(path):
                read = self._files.read if extent.once else self._files.view
                data = memoryview(read(path, extent.offset, extent.length))
        except (FileNotFoundError, NotADirectoryError):
            return self._read_moved(extent)
        return verified(extent, data, fetched=False)

    def is_local(self, extent: Extent[Any]) -> bool:
        """True if the extent is here and intact."""
        try:
            self.read_local(extent)
        except (CorruptDataError, DataNotLocalError):
            return False
        return True

    def seem_local(self, path: str, spans: Sequence[tuple[int, int]]) -> list[bool]:
        """Whether extents (offset, length) of an object are here, told without verifying them: a hint."""
        if os.path.exists(self._places(path)[0]):
            return [True] * len(spans)
        there = self._kept.data_of(path)
        return [False] * len(spans) if there is None else there.seem_to_hold(spans)

    def read_object(self, path: str, verify: Callable[[bytes], T]) -> T:
        """A small whole object, verified; kept here when it was fetched. Raises as `read`."""
        local = self.store / path
        reason: HangarError
        try:
            with unreadable_told(local):
                text = read_regular(local, _MAX_OBJECT_BYTES)
            return verify(text)
        except (FileNotFoundError, NotADirectoryError):
            reason = not_here(path, self.store)
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
                problem = damaged_there(error, remote)
                continue
            self.keep_whole(path, data)
            return value
        raise problem or nowhere(path, self.store, remotes, reason)

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
        missing = not_here(path, self.store)
        remotes = self._reachable(path, missing)
        problem: CorruptDataError | None = None
        for remote in remotes:
            try:
                with disk_errors_told(local), temporary_sibling(local) as incoming:
                    remote.download(path, incoming, progress=progress)
                    verify(incoming)
                    self._kept.make_room(incoming.stat().st_size)
                    publish_over(incoming, local)
            except ObjectNotFoundError:
                continue
            except CorruptDataError as error:
                problem = damaged_there(error, remote)
                continue
            self._kept.drop_parts(path)
            return True
        raise problem or nowhere(path, self.store, remotes, missing)

    def tell_of_maps(self, user: MapUser) -> None:
        """Have `user` told when a memory map that it may hold should go; until it is garbage itself."""
        self._files.map_users.add(user)

    def let_go(self) -> None:
        """Every now and then, close files that another process evicted; reading does so too."""
        self._kept.let_go()

    def keep_whole(self, path: str, data: bytes) -> None:
        """Keep a small whole object that was verified, if there is room for it."""
        with contextlib.suppress(OSError):  # a full disk is no reason not to read
            self._kept.keep_whole(path, data)

    def was_moved(self, path: str) -> bool:
        """Whether a local object that is not here was moved elsewhere in the local store, or some of it was."""
        return self._moves.moved_in_folder(self.store, path)

    def keeps(self, size: int) -> bool:
        """Whether the cache can hold so many bytes of parts of objects."""
        return self._kept.keeps(size)

    def refuse_to_keep(self, size: int) -> None:
        """Raises StoreError if the cache cannot hold `size` bytes of parts of objects, which were asked to be kept."""
        self._kept.refuse_too_much(size)

    def forget(self) -> None:
        """Close every local file held open."""
        self._files.forget_all()
        self._ahead.clear()

    def _is_in_parts(self, path: str) -> bool:
        """Whether an object is not here as a whole, nor was moved in the local store."""
        return not os.path.lexists(self._places(path)[0]) and not self.was_moved(path)

    def _places(self, path: str) -> tuple[Path, Path]:
        """Where an object is as a whole, and where parts of it are. Made once: thousands of extents are in one pack."""
        found = self._paths.get(path)
        if found is None:
            if len(self._paths) >= _MOST_PATHS:
                self._paths.clear()
            found = self._paths[path] = self.store / path, (self.partial or self.store) / path
        return found

    def _read_moved(self, extent: Extent[T]) -> T:
        """An extent whose object is not here: where the local store moved it to, else from a file of parts."""
        for spot in self._moves.spots_in_folder(self.store, extent.path, extent.offset, extent.length):
            if spot.path is None:
                raise PurgedBytesError(f"bytes {extent.offset}+{extent.length} of {extent.path} were purged")
            try:
                with unreadable_told(self.store / spot.path):
                    data = self._files.view(self.store / spot.path, spot.offset, spot.length)
                check_rewritten(data, spot)
                return verified(extent, data, fetched=False, rewritten=spot.checksum is not None)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except CorruptDataError:
                with contextlib.suppress(CorruptDataError, DataNotLocalError):
                    return self._read_partial(extent)
                raise
        return self._read_partial(extent)

    def _read_partial(self, extent: Extent[T], here: PartsHere | None = None) -> T:
        rewritten = self._kept.rewritten(extent) if here is None or here.rewritten else None
        if rewritten is not None:
            with contextlib.suppress(CorruptDataError):
                return verified(extent, memoryview(rewritten), fetched=True, rewritten=True)
        absent = DataNotLocalError(f"bytes {extent.offset}+{extent.length} of {extent.path} are not here")
        if self.partial is None:
            raise absent
        if here is not None and (here.data is None or not here.data.may_hold(extent.offset, extent.length)):
            raise absent
        try:
            _, path = self._places(extent.path)
            with unreadable_told(path):
                data = self._files.read(path, extent.offset, extent.length)
        except (FileNotFoundError, NotADirectoryError):
            raise absent from None
        if len(data) < extent.length or not any(data[:HOLE_BYTES]):
            raise absent
        return verified(extent, memoryview(data), fetched=False)

    def _fetch_ahead(self, extent: Extent[T], ahead: int, reason: HangarError) -> T:
        start, blob = self._ahead.get(extent.path, (0, b""))
        end = extent.offset + extent.length
        if not start <= extent.offset <= end <= start + len(blob):
            start, blob = max(extent.offset - ahead, 0), b""

        def take(data: bytes, start: int) -> T:
            part = data[extent.offset - start : extent.offset - start + extent.length]
            value = verified(extent, memoryview(part), fetched=True)
            self._kept.keep_parts([(extent, part, reason)])
            return value

        if blob:
            with contextlib.suppress(CorruptDataError):  # asked for once more, if need be of another remote
                return take(blob, start)

        def take_wide(blobs: list[Fetched]) -> T:
            (found, rewritten), *_ = blobs
            data = bytes(found)
            if rewritten:
                value = verified(extent, memoryview(data), fetched=True, rewritten=True)
                self._kept.keep_parts((), rewritten=[(extent, data)])
                return value
            first = end - len(data)  # less than was asked for, where only this was moved
            value = take(data, first)
            self._ahead = {extent.path: (first, data)}
            return value

        return self._ask([(extent.path, start, end - start)], reason, take_wide, extent.length)

    def _fetch(
        self,
        extents: Sequence[Extent[T]],
        reasons: Sequence[HangarError],
        must_keep: bool = False,
        tiles: bool = False,
        held: bool = False,
    ) -> list[T]:
        def take(blobs: list[Fetched]) -> list[T]:
            answers = list(zip(extents, blobs, reasons, strict=True))
            values = [verified(e, memoryview(b.data), fetched=True, rewritten=b.rewritten) for e, b, _ in answers]
            rewritten = [(e, b.data) for e, b, _ in answers if b.rewritten]
            parts = [(e, b.data, why) for e, b, why in answers if not b.rewritten]
            self._kept.keep_parts(parts, must_keep, rewritten, held)
            return values

        try:
            return self._ask(
                [(e.path, e.offset, e.length) for e in extents], reasons[0], take, tiles=tiles, together=held
            )
        except (ObjectNotFoundError, CorruptDataError):
            paths = {extent.path for extent in extents}
            if len(paths) == 1 or self.offline or len(self._remotes()) < 2:
                raise
        # No one remote has all of these objects, but each may be in some.
        values: dict[int, T] = {}
        for path in paths:
            places = [i for i, extent in enumerate(extents) if extent.path == path]
            fetched = self._fetch([extents[i] for i in places], [reasons[i] for i in places], must_keep, tiles, held)
            values.update(zip(places, fetched, strict=True))
        return [values[i] for i in range(len(extents))]

    def _ask(
        self,
        requests: list[RangeRequest],
        reason: HangarError,
        take: Callable[[list[Fetched]], T],
        least: int | None = None,
        tiles: bool = False,
        together: bool = False,
    ) -> T:
        """What `take` makes of the bytes, from the first remote that has them all (or the `least` last ones) intact."""
        remotes = self._reachable(requests[0][0], reason)
        problem: CorruptDataError | None = None
        for remote in remotes:
            try:
                return take(self._moves.get_ranges(remote, requests, least, tiles=tiles, together=together))
            except ObjectNotFoundError:
                continue
            except (CorruptDataError, TruncatedObjectError) as error:
                problem = damaged_there(error, remote)
        raise problem or nowhere(requests[0][0], self.store, remotes, reason)

    def _reachable(self, path: str, reason: HangarError) -> Sequence[ObjectStore]:
        if self.offline:
            if isinstance(reason, CorruptDataError):
                raise reason
            raise kept_from_asking(path)
        remotes = self._remotes()
        if not remotes:
            raise reason
        return remotes
