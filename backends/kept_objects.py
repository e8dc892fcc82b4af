"""Keeping on this machine what was fetched: whole objects, and sparse files for parts, under a size limit."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from hangar_cloud.backends.cache_limit import CacheLimit
from hangar_cloud.backends.direct_writes import WritesPastMemory
from hangar_cloud.backends.errors import CorruptDataError, HangarError, StoreError
from hangar_cloud.backends.extents import Extent
from hangar_cloud.backends.local_files import LocalFiles
from hangar_cloud.backends.sparse_file import DataMap, PartsHere
from hangar_cloud.backends.store.durable_files import temporary_sibling, write_at

_LET_GO_SECONDS: Final = 1.0
# No more than systems take in one call.
_MOST_BLOBS: Final = 512
Part = tuple[Extent[Any], bytes | memoryview, HangarError]
"""An extent, its bytes, and why they were not here before."""


class KeptObjects:
    """What of remote objects is kept here.

    Args:
        store: folder of whole objects.
        partial: folder of sparse files for parts of objects; None where none are kept.
        limit: size limit, None for no limit.
        files: holds them open for reading.
    """

    def __init__(self, store: Path, partial: Path | None, limit: CacheLimit | None, files: LocalFiles) -> None:
        self._store = store
        self._partial = partial
        self._partial_text = str(partial)
        self._limit = limit
        self._files = files
        self._let_go_at = 0.0

    def refuse_too_much(self, size: int) -> None:
        """Raises StoreError if `size` bytes of parts of objects, which were asked to be kept, cannot fit."""
        if self._limit is not None and not self._limit.fits(size):
            raise StoreError(
                f"{size:,} bytes are asked to be kept on this machine, in a cache of at most "
                f"{self._limit.max_bytes:,}. Ask for less, or open the repository with a larger cache_size, or "
                "without one"
            )

    def keeps(self, size: int) -> bool:
        """Whether so many bytes of parts of objects would be kept."""
        return self._partial is not None and (self._limit is None or self._limit.fits(size))

    def keep_parts(
        self,
        parts: Sequence[Part],
        must_keep: bool = False,
        rewritten: Sequence[tuple[Extent[Any], bytes | memoryview]] = (),
        held: bool = False,
    ) -> None:
        """Keep what was fetched. A full or read-only disk is no reason not to read; only who asked for it to be kept
        is told.

        Args:
            parts: what was asked for.
            must_keep: whether it was asked to be kept.
            rewritten: extents, and bytes that a purge put in their place.
            held: whether who fetched it has it in memory until it is used, so that nobody reads it from here soon.
        """
        if must_keep:
            self.refuse_too_much(sum(len(part[1]) for part in parts) + sum(len(blob) for _, blob in rewritten))
        try:
            by_path: dict[str, list[Part]] = {}
            for part in parts:
                if self._limit is None or self._limit.fits(len(part[1])):
                    by_path.setdefault(part[0].path, []).append(part)
            for path, alike in by_path.items():
                self._keep_parts_of(path, alike, held)
            for extent, blob in rewritten:
                self._keep_rewritten(extent, blob)
        except OSError as error:
            if must_keep:
                raise StoreError(
                    f"what was fetched cannot be kept in {self._partial}: {error.strerror or error}. Free some "
                    "space, or choose another folder (cache_dir), and fetch it again; nothing is damaged"
                ) from error

    def rewritten(self, extent: Extent[Any]) -> bytes | None:
        """What a purge put in the place of an extent, if it was fetched; it is intact only if its check says so."""
        if self._partial is None:
            return None
        try:
            # Asked of each extent that is read, and hardly ever there: a path as text takes a fifth of the time.
            with open(f"{self._partial_text}/{extent.path}.{extent.offset}+{extent.length}", "rb") as file:
                return file.read()
        except OSError:
            return None

    def data_of(self, path: str) -> DataMap | None:
        """Where the file with parts of an object holds data, by now; None where there is no such file."""
        if self._partial is not None:
            with contextlib.suppress(OSError):
                return self._files.data_map(self._partial / path)
        return None

    def parts_of(self, path: str) -> PartsHere:
        """What is here of an object that is in parts, looked at once for a batch of its extents."""
        return PartsHere(self._any_rewritten(path), self.data_of(path))

    def keep_whole(self, path: str, data: bytes) -> None:
        """Keep a small whole object; raises OSError."""
        local = self._store / path
        self.make_room(len(data))
        with temporary_sibling(local) as incoming:
            incoming.write_bytes(data)
            os.replace(incoming, local)
        self._files.forget(local)

    def drop_parts(self, path: str) -> None:
        """Forget the parts of an object that is wholly here now."""
        if self._partial is not None:
            (self._partial / path).unlink(missing_ok=True)
            self._files.forget(self._partial / path)

    def make_room(self, size: int) -> None:
        """Evict what has to go before `size` more bytes are kept."""
        if self._limit is not None:
            for path in self._limit.make_room(size):
                self._files.forget(path)

    def let_go(self) -> None:
        """Every now and then, close files that another process evicted."""
        if self._limit is not None and time.monotonic() > self._let_go_at:
            self._let_go_at = time.monotonic() + _LET_GO_SECONDS
            self._files.forget_removed()

    def _any_rewritten(self, path: str) -> bool:
        if self._partial is None:
            return False
        folder, _, name = f"{self._partial_text}/{path}".rpartition("/")
        try:
            with os.scandir(folder) as entries:
                return any(entry.name.startswith(f"{name}.") for entry in entries)
        except FileNotFoundError:
            return False
        except OSError:  # then each extent is asked for
            return True

    def _keep_parts_of(self, name: str, parts: Sequence[Part], held: bool) -> None:
        """Keep parts of one object: its file is opened once, since they come by the hundred."""
        if self._partial is None:
            return
        self.make_room(sum(len(blob) for _, blob, _ in parts))
        path = self._partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if any(isinstance(reason, CorruptDataError) for _, _, reason in parts):
            self._demote(name)
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            if held:
                _write_held(path, file, parts)
            else:
                for offset, blobs in _neighbours(parts):
                    _write_behind_each_other(file, offset, blobs)
        finally:
            os.close(file)
        # Another process may have evicted the file that we have open: this is the new one.
        self._files.forget(path)

    def _keep_rewritten(self, extent: Extent[Any], blob: bytes | memoryview) -> None:
        """Keep it in a file of its own: it may be longer than what it stands for, and has no place between that."""
        if self._partial is None or (self._limit is not None and not self._limit.fits(len(blob))):
            return
        self.make_room(len(blob))
        path = rewritten_file(self._partial, extent.path, extent.offset, extent.length)
        with temporary_sibling(path) as incoming:
            incoming.write_bytes(blob)
            os.replace(incoming, path)

    def _demote(self, path: str) -> None:
        """Take a damaged whole object for a partial one: each extent of it that is intact stays readable."""
        assert self._partial is not None
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._store / path, self._partial / path)
        self._files.forget(self._store / path)


def _neighbours(parts: Sequence[Part]) -> Iterator[tuple[int, list[bytes | memoryview]]]:
    """What follows each other in a file, to be written at once, with its offset."""
    blobs: list[bytes | memoryview] = []
    start = end = 0
    for extent, blob, _ in sorted(parts, key=lambda part: part[0].offset):
        if blobs and (extent.offset != end or len(blobs) == _MOST_BLOBS):
            yield start, blobs
            blobs = []
        if not blobs:
            start = end = extent.offset
        blobs.append(blob)
        end += len(blob)
    if blobs:
        yield start, blobs


def _write_behind_each_other(file: int, offset: int, blobs: Sequence[bytes | memoryview]) -> None:
    """Write some bytes behind each other. Raises OSError, after which some of them may be written."""
    written = os.pwritev(file, blobs, offset) if hasattr(os, "pwritev") and len(blobs) > 1 else 0
    for blob in blobs:
        # A disk that is nearly full takes a part of them without an error, and gives it for the next.
        done = min(written, len(blob))
        write_at(file, memoryview(blob)[done:], offset + done)
        written, offset = written - done, offset + len(blob)


def _write_held(path: Path, file: int, parts: Sequence[Part]) -> None:
    """Write bytes that nobody is going to read from there soon. Raises OSError as above."""
    with WritesPastMemory(path, file) as past_memory:
        for extent, blob, _ in parts:
            if not past_memory.write(extent.offset, blob):
                write_at(file, memoryview(blob), extent.offset)


def rewritten_file(partial: Path, path: str, offset: int, length: int) -> Path:
    """The file that keeps what a purge put in the place of an extent of an object."""
    return partial / f"{path}.{offset}+{length}"


@contextlib.contextmanager
def unreadable_told(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that is there, and cannot be read, into an error of ours."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise CorruptDataError(f"{path} cannot be read ({error.strerror or error})") from error
