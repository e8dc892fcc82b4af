"""The object store port: what every store does, and what callers may rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hangar_cloud.backends.store.ranges import DEFAULT_JOIN_GAP, DEFAULT_MAX_JOINED, MOST_TOGETHER, RangeRequest

if TYPE_CHECKING:
    import builtins
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

Progress = Callable[[int], None]
"""Called with the number of bytes moved since the last call, possibly from another thread."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about an object, without its bytes."""

    path: str
    """Relative to the store's root."""
    size: int
    """In bytes."""
    modified: datetime
    """When it was written, in UTC, by the store's clock (to whole seconds on some stores)."""


class ObjectStore(ABC):
    """Named objects of bytes under one root URL; safe to share between threads, to pickle and to fork.

    Paths are relative to the root and ``/``-separated; InvalidPathError for ``..``, absolute, empty names and
    backslashes. Besides what each method names, all may raise BucketNotFoundError, AccessDeniedError,
    StoreUnavailableError and, for what no class of its own describes, StoreError. Writing methods raise
    ReadOnlyStoreError on a store that may not be written to. Nothing is cached.
    """

    url: str
    """The root URL without credentials, for messages; never ends in ``/``."""
    read_only: bool = False
    """Whether it is known, without asking the server, that nothing can be written."""
    can_list: bool = True
    """Whether ``list`` and ``list_children`` work; plain HTTP servers have no listings."""
    join_gap: int = DEFAULT_JOIN_GAP
    max_joined: int = DEFAULT_MAX_JOINED

    @abstractmethod
    def get(self, path: str) -> bytes:
        """Return all bytes of one object. Raises ObjectNotFoundError."""

    @abstractmethod
    def get_many(self, paths: Sequence[str]) -> builtins.list[bytes | None]:
        """Return the bytes of several small objects, read at the same time; None where there is no such object."""

    @abstractmethod
    def get_range(self, path: str, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from byte ``offset`` on.

        Raises ObjectNotFoundError, and TruncatedObjectError if the object ends earlier. A length of 0 asks
        nobody.
        """

    @abstractmethod
    def get_ranges(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        """Return the bytes of many ``(path, offset, length)``, in the order asked; duplicates are welcome.

        Ranges of one object at most ``join_gap`` bytes apart become one request of at most ``max_joined``
        bytes; requests run concurrently, within a bound. Raises what ``get_range`` raises.
        """

    def get_views(self, requests: Sequence[RangeRequest], *, together: bool = False) -> Sequence[bytes | memoryview]:
        """The same as ``get_ranges``, in memory that several may share: for what is looked at and let go.

        With ``together`` long requests are made of these ranges, as there are others beside them, and those that follow
        each other are in memory of their own each, where the store can do so.
        """
        return self.get_ranges(requests)

    def most_joined(self, together: bool) -> int:
        """Bytes above which ranges are not joined any further."""
        return max(self.max_joined, MOST_TOGETHER) if together else self.max_joined

    def get_tiles(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        """The same as ``get_ranges``, of tiles of arrays: of a bucket, TileDB may be asked for many of them."""
        return self.get_ranges(requests)

    @abstractmethod
    def put(self, path: str, data: bytes) -> None:
        """Write an object, replacing what was there; only for advisory objects that nothing depends on."""

    @abstractmethod
    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create an object unless its name is taken: True if these bytes are there now, False if others are.

        True also if somebody (we ourselves, in an attempt whose answer was lost) wrote the same bytes before.
        StoreUnavailableError means unknown: not there when last looked at; the same call may be made again.
        """

    @abstractmethod
    def upload(self, path: str, source: Path, *, progress: Progress | None = None) -> None:
        """Store the file ``source`` under a content-derived name: whole or not at all, never partly visible.

        If an object of that name and size exists already, there is nothing to do. One of another size is
        CorruptDataError.
        """

    @abstractmethod
    def download(self, path: str, target: Path, *, progress: Progress | None = None) -> None:
        """Fetch an object into the file ``target``, which appears whole (flushed to disk) or not at all.

        Raises ObjectNotFoundError; a failure leaves no file behind, and an existing ``target`` untouched.
        """

    @abstractmethod
    def stat(self, path: str) -> ObjectInfo:
        """Return size and time of one object. Raises ObjectNotFoundError."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Return whether there is such an object; False, too, if a store cannot tell that its bucket is missing."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose path starts with the text ``prefix``, however deep, in the store's own order.

        Most stores sort by path; SeaweedFS, for one, sorts folder by folder.
        Raises UnsupportedStoreError where ``can_list`` is False.
        """

    @abstractmethod
    def list_children(self, prefix: str) -> builtins.list[str]:
        """Return the sorted names of files and folders right below the folder ``prefix``; [] if it is absent.

        Raises UnsupportedStoreError where ``can_list`` is False.
        """

    @abstractmethod
    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; those that are absent already are fine."""

    @abstractmethod
    def ping(self) -> float:
        """Return the seconds that one real round trip to the store took; raises what any use would raise."""

    @abstractmethod
    def ensure_writable(self) -> None:
        """Prove, once per instance, that the second create of a name fails; ReadOnlyStoreError if it does not.

        The first write of an instance calls this by itself.
        """

    def local_path(self, path: str) -> Path | None:
        """Return the file that holds the object (whether it exists or not), on local stores; elsewhere None."""
        return None

    def close(self) -> None:  # noqa: B027 - most stores hold nothing
        """Release connections. The store may be used again and then reconnects."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"
