"""What all remote stores share: one filesystem per process, retries, concurrency, and the create that never lies."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hangar_cloud.backends.errors import (
    HangarError,
    ObjectNotFoundError,
    ReadOnlyStoreError,
    TruncatedObjectError,
    UnsupportedStoreError,
    redact_url,
)
from hangar_cloud.backends.store.bounded import gather_bounded
from hangar_cloud.backends.store.creating import create_object, prove_creates
from hangar_cloud.backends.store.driving import drive
from hangar_cloud.backends.store.durable_files import disk_errors_told, publish_over, temporary_sibling
from hangar_cloud.backends.store.explaining import Advice, explain, safe_cause
from hangar_cloud.backends.store.held_driver import Held, close_all
from hangar_cloud.backends.store.in_flight import REQUESTS
from hangar_cloud.backends.store.paths import check_path, check_prefix, folder_prefix
from hangar_cloud.backends.store.port import ObjectInfo, ObjectStore, Progress
from hangar_cloud.backends.store.ranges import JoinedRange, RangeRequest, check_range, join_ranges
from hangar_cloud.backends.store.retry import Fault, RetryPolicy, with_retries
from hangar_cloud.backends.store.transfer import download_object, upload_object
from hangar_cloud.backends.store.vfs import VfsRanges
from hangar_cloud.backends.store.withheld import Withheld, plain_options

if TYPE_CHECKING:
    import builtins
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence

_BUCKET_ACTIONS = frozenset({"reach", "list", "write", "write to", "create"})
"""What needs no object to be there, so that "not found" can only mean the bucket."""
_Result = TypeVar("_Result")
_Bytes = TypeVar("_Bytes", bytes, "bytes | memoryview")

Page = tuple[list[ObjectInfo], list[str], str | None]
"""Objects, names of folders (with ``delimiter``), and the token of the next page."""


def _fill(results: list[Any], parts: Iterable[tuple[int, bytes | memoryview]]) -> None:
    for index, part in parts:
        results[index] = part


class RemoteStore(ObjectStore):
    """An object store over one driver: an fsspec filesystem, used on fsspec's event loop, or one that blocks.

    Subclasses send single requests (the ``_``-methods that are abstract here) and say what their driver's
    exceptions mean; retrying, joining, bounding, proving and explaining happen here.

    retry: when to try again. concurrency: requests in flight per call. part_bytes: size of the parts in which
    big objects move.
    """

    advice: Advice
    package: str
    """The driver's name on PyPI."""
    driven: bool = False
    """Whether the driver blocks, so that each thread sends its own requests, without an event loop."""

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        *,
        retry: RetryPolicy | None = None,
        concurrency: int = 16,
        part_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self.storage_options = dict(storage_options or {})
        self.retry = retry or RetryPolicy()
        self.concurrency = concurrency
        self.part_bytes = part_bytes
        self._root = url.rstrip("/")
        self.url = redact_url(self._root)
        self._withheld = Withheld((url, self.storage_options), (self.url, plain_options(self.storage_options)))
        self._vfs = VfsRanges()
        self._proven = False
        self._held: dict[int, Held] = {}
        # The drivers' own finalizers are noisy, and gcsfs's touches the event loop from the wrong thread.
        weakref.finalize(self, close_all, self._held, self._close_filesystem, self.driven)

    # What a driver does: one request each, raising the driver's own exceptions.

    @abstractmethod
    def _make_filesystem(self) -> Any:
        """Return a new, uncached filesystem."""

    @abstractmethod
    def _classify(self, error: BaseException) -> Fault:
        """Return what an exception of the driver means."""

    @abstractmethod
    async def _read(self, path: str, offset: int | None, length: int) -> bytes:
        """Return the whole object (offset None), or at most ``length`` bytes from ``offset`` on."""

    async def _read_pieces(self, path: str, offset: int, lengths: Sequence[int]) -> Sequence[bytes | memoryview]:
        """Return at most so many bytes from ``offset`` on, read-only: all of them in such pieces, or else in one."""
        return [await self._read(path, offset, sum(lengths))]

    @abstractmethod
    async def _write(self, path: str, data: bytes, *, create: bool) -> None:
        """Write an object; with ``create`` fail with an EXISTS fault, atomically, if the name is taken."""

    @abstractmethod
    async def _write_parts(self, path: str, source: Path, size: int, progress: Progress | None) -> None:
        """Write a big object from a file, visible only when whole."""

    @abstractmethod
    async def _describe(self, path: str) -> ObjectInfo:
        """Return size and time of an object."""

    @abstractmethod
    async def _list_page(self, prefix: str, *, delimiter: bool, token: str | None) -> Page:
        """Return one page of the objects whose path starts with ``prefix``."""

    @abstractmethod
    async def _remove(self, paths: Sequence[str]) -> None:
        """Delete objects, absent ones too."""

    @abstractmethod
    async def _round_trip(self) -> None:
        """Ask the server for as little as possible."""

    async def _prove(self) -> None:
        """Raise ReadOnlyStoreError unless a second create of one name fails."""
        await prove_creates(self)

    @staticmethod
    async def _close_filesystem(filesystem: Any) -> None:
        """Close the connections of a filesystem."""

    # The port.

    def get(self, path: str) -> bytes:
        check_path(path)
        return self._run(self._attempt("read", path, lambda: self._read(path, None, 0)))

    def get_many(self, paths: Sequence[str]) -> builtins.list[bytes | None]:
        operations = [self._reader_or_none(check_path(path)) for path in paths]
        return self._run(gather_bounded(operations, self.concurrency))

    def _reader_or_none(self, path: str) -> Callable[[], Awaitable[bytes | None]]:
        async def read() -> bytes | None:
            try:
                return await self._attempt("read", path, lambda: self._read(path, None, 0))
            except ObjectNotFoundError:
                return None

        return read

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        check_path(path)
        check_range(path, offset, length)
        return self._run(self._read_exactly(path, offset, length)) if length else b""

    def get_ranges(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        results = [b""] * len(requests)
        self._read_plan([self._slicer(joined, results) for joined in self._joined(requests)])
        return results

    def get_views(self, requests: Sequence[RangeRequest], *, together: bool = False) -> Sequence[bytes | memoryview]:
        results: builtins.list[bytes | memoryview] = [b""] * len(requests)
        self._read_plan([self._viewer(joined, results) for joined in self._joined(requests, together)])
        return results

    def _joined(self, requests: Sequence[RangeRequest], together: bool = False) -> builtins.list[JoinedRange]:
        for path in {path for path, _, _ in requests}:
            check_path(path)
        return join_ranges(requests, join_gap=self.join_gap, max_joined=self.most_joined(together))

    def _read_plan(self, operations: Sequence[Callable[[], Awaitable[None]]]) -> None:
        if operations:
            self._run(gather_bounded(operations, self.concurrency))

    def get_tiles(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        return self._vfs.get_tiles(self, self._root, requests, lambda: self._run(self._vfs_settings()))

    async def _vfs_settings(self) -> dict[str, str] | None:
        """What TileDB has to be told to read here as the driver does; None where it cannot be."""
        return None

    def _slicer(self, joined: JoinedRange, results: builtins.list[bytes]) -> Callable[[], Awaitable[None]]:
        async def read() -> None:
            _fill(results, joined.slices(await self._read_exactly(joined.path, joined.offset, joined.length)))

        return read

    def _viewer(self, joined: JoinedRange, results: builtins.list[bytes | memoryview]) -> Callable[[], Awaitable[None]]:
        async def read() -> None:
            _fill(results, joined.views(await self._read_all_pieces(joined.path, joined.offset, joined.lengths)))

        return read

    async def _read_all_pieces(self, path: str, offset: int, lengths: Sequence[int]) -> Sequence[bytes | memoryview]:
        """As many bytes as these lengths make, in such pieces or in one, read-only."""
        pieces = await self._attempt("read", path, lambda: self._read_pieces(path, offset, lengths))
        return pieces if len(pieces) > 1 else [self._exact(pieces[0], path, offset, sum(lengths))]

    async def _read_exactly(self, path: str, offset: int, length: int) -> bytes:
        data = await self._attempt("read", path, lambda: self._read(path, offset, length))
        return self._exact(data, path, offset, length)

    def _exact(self, data: _Bytes, path: str, offset: int, length: int) -> _Bytes:
        if len(data) < length:
            raise TruncatedObjectError(
                f"{self._place(path)} ends after {offset + len(data)} bytes, but bytes {offset} to "
                f"{offset + length} were "
                "asked for: the object is cut short. Fetch or write it again from a copy that is whole."
            )
        # A server that ignores Range headers sends the object from its start.
        return data if len(data) == length else data[offset : offset + length]

    def put(self, path: str, data: bytes) -> None:
        check_path(path)
        self.ensure_writable()
        self._run(self._attempt("write", path, lambda: self._write(path, data, create=False)))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        check_path(path)
        self.ensure_writable()
        return self._run(create_object(self, path, data))

    def upload(self, path: str, source: Path, *, progress: Progress | None = None) -> None:
        check_path(path)
        self.ensure_writable()
        self._run(upload_object(self, path, Path(source), progress))

    def download(self, path: str, target: Path, *, progress: Progress | None = None) -> None:
        check_path(path)
        with disk_errors_told(Path(target)), temporary_sibling(Path(target)) as temporary:
            with open(temporary, "xb", buffering=0) as stream:
                self._run(download_object(self, path, stream, progress))
                os.fsync(stream.fileno())
            publish_over(temporary, Path(target))

    def stat(self, path: str) -> ObjectInfo:
        check_path(path)
        return self._run(self._attempt("look up", path, lambda: self._describe(path)))

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except ObjectNotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        self._require_listing()
        return (info for objects, _ in self._pages(prefix, delimiter=False) for info in objects)

    def list_children(self, prefix: str) -> builtins.list[str]:
        folder = folder_prefix(prefix)
        self._require_listing()
        names: set[str] = set()
        for objects, folders in self._pages(folder, delimiter=True):
            names.update(info.path[len(folder) :] for info in objects)
            names.update(folders)
        return sorted(names)

    def _pages(self, prefix: str, *, delimiter: bool) -> Iterator[tuple[builtins.list[ObjectInfo], builtins.list[str]]]:
        token: str | None = None
        while True:
            current = token

            def page(current: str | None = current) -> Awaitable[Page]:
                return self._list_page(prefix, delimiter=delimiter, token=current)

            objects, folders, token = self._run(self._attempt("list", prefix, page))
            yield objects, folders
            if token is None:
                return

    def _require_listing(self) -> None:
        if not self.can_list:
            raise UnsupportedStoreError(
                f"{self.url} cannot be listed: plain HTTP servers have no listings. Name the object, or use "
                "the bucket's own URL."
            )

    def delete(self, paths: Iterable[str]) -> None:
        named = [check_path(path) for path in paths]
        self._require_writes()
        if named:
            self._run(self._attempt("delete", named[0], lambda: self._remove(named)))

    def ping(self) -> float:
        self._filesystem()
        started = time.perf_counter()
        self._run(self._attempt("reach", "", self._round_trip))
        return time.perf_counter() - started

    def ensure_writable(self) -> None:
        if self._proven:
            return
        self._require_writes()
        self._run(self._prove())
        self._proven = True

    def _require_writes(self) -> None:
        if self.read_only:
            raise ReadOnlyStoreError(
                f"{self.url} is read-only: this kind of store cannot create objects safely. Write to the "
                "bucket's own URL instead, or clone it into a folder and write there."
            )

    def close(self) -> None:
        held = self._held.pop(os.getpid(), None)
        if held is not None and held.filesystem is not None:
            self._run(self._close_filesystem(held.filesystem))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "withheld": self._withheld,
            "retry": self.retry,
            "concurrency": self.concurrency,
            "part_bytes": self.part_bytes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        url, options = state.pop("withheld").value
        self.__init__(url, options, **state)  # type: ignore[misc]

    # How requests are made.

    def _filesystem(self) -> Any:
        # A lock that another thread held while this process was forked stays locked in the child, so each
        # process has its own; setdefault is atomic.
        held = self._held.setdefault(os.getpid(), Held())
        if held.filesystem is None:
            with held.lock:
                if held.filesystem is None:
                    held.filesystem = self._new_filesystem()
        return held.filesystem

    def _new_filesystem(self) -> Any:
        try:
            return self._make_filesystem()
        except ImportError as error:
            raise UnsupportedStoreError(
                f"Cannot open {self.url}: its driver is not installed. Run: pip install {self.package}"
            ) from error
        except Exception as error:  # noqa: BLE001 - told in words of ours
            raise self._explained(error, "open", "") from self._cause(error)

    def _run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            self._filesystem()
        except BaseException:
            coroutine.close()
            raise
        if self.driven:
            return drive(coroutine)
        from fsspec.asyn import get_loop

        loop = get_loop()
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _attempt(self, action: str, path: str, operation: Callable[[], Awaitable[_Result]]) -> _Result:
        async def bounded() -> _Result:
            async with REQUESTS.one_of_loop():
                return await operation()

        try:
            return await with_retries(operation if self.driven else bounded, self._classify_any, self.retry)
        except Exception as error:  # noqa: BLE001 - told in words of ours
            raise self._explained(error, action, path) from self._cause(error)

    def _classify_any(self, error: BaseException) -> Fault:
        return Fault.PERMANENT if isinstance(error, HangarError) else self._classify(error)

    def _explained(self, error: BaseException, action: str, path: str) -> HangarError:
        fault = self._classify_any(error)
        if fault is Fault.ABSENT and action in _BUCKET_ACTIONS:
            fault = Fault.NO_BUCKET
        if fault is Fault.PERMANENT and action == "open":
            fault = Fault.NOT_ASKED
        place = self._place(path)
        return explain(fault, action=action, place=place, advice=self.advice, error=error, options=self.storage_options)

    def _cause(self, error: BaseException) -> BaseException:
        return safe_cause(error, self.storage_options)

    def _place(self, path: str) -> str:
        return f"{self.url}/{path}" if path else self.url
