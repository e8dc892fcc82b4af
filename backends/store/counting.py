"""A store that counts what passes through it."""

from __future__ import annotations

import builtins
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hangar_cloud.backends.store.port import ObjectInfo, ObjectStore, Progress
from hangar_cloud.backends.store.ranges import RangeRequest, join_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class CountingStore(ObjectStore):
    """Passes everything on to ``inner`` and counts it.

    requests: how many by kind: ``get``, ``get_range``, ``put``, ``put_if_absent``, ``upload``, ``download``,
        ``stat``, ``list``, ``list_children``, ``delete``, ``ping``. ``get_many`` counts as one ``get`` per
        path, ``get_ranges`` as one ``get_range`` per request after joining, ``exists`` as ``stat``. A large
        upload, download or listing
        counts as one, and the probe and retries not at all: to count those, put a proxy before the server.
    bytes_received, bytes_sent: bytes of object content.

    Thread-safe. Pickling keeps ``inner`` and starts new counts.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.url = inner.url
        self.read_only = inner.read_only
        self.can_list = inner.can_list
        self.join_gap = inner.join_gap
        self.max_joined = inner.max_joined
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.bytes_received = 0
        self.bytes_sent = 0

    def reset(self) -> None:
        """Set all counts to zero."""
        with self._lock:
            self.requests.clear()
            self.bytes_received = 0
            self.bytes_sent = 0

    def _count(self, kind: str, number: int = 1, *, received: int = 0, sent: int = 0) -> None:
        with self._lock:
            self.requests[kind] += number
            self.bytes_received += received
            self.bytes_sent += sent

    def get(self, path: str) -> bytes:
        self._count("get")
        data = self.inner.get(path)
        self._count("get", 0, received=len(data))
        return data

    def get_many(self, paths: Sequence[str]) -> builtins.list[bytes | None]:
        self._count("get", len(paths))
        results = self.inner.get_many(paths)
        self._count("get", 0, received=sum(len(data) for data in results if data is not None))
        return results

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        self._count("get_range", 1 if length else 0)
        data = self.inner.get_range(path, offset, length)
        self._count("get_range", 0, received=len(data))
        return data

    def get_tiles(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        plan = join_ranges(requests, join_gap=self.join_gap, max_joined=self.max_joined)
        self._count("get_range", len(plan))
        results = self.inner.get_tiles(requests)
        self._count("get_range", 0, received=sum(joined.length for joined in plan))
        return results

    def get_views(self, requests: Sequence[RangeRequest], *, together: bool = False) -> Sequence[bytes | memoryview]:
        plan = join_ranges(requests, join_gap=self.join_gap, max_joined=self.most_joined(together))
        self._count("get_range", len(plan))
        results = self.inner.get_views(requests, together=together)
        self._count("get_range", 0, received=sum(joined.length for joined in plan))
        return results

    def get_ranges(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        plan = join_ranges(requests, join_gap=self.join_gap, max_joined=self.max_joined)
        self._count("get_range", len(plan))
        results = self.inner.get_ranges(requests)
        self._count("get_range", 0, received=sum(joined.length for joined in plan))
        return results

    def put(self, path: str, data: bytes) -> None:
        self._count("put", sent=len(data))
        self.inner.put(path, data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        self._count("put_if_absent", sent=len(data))
        return self.inner.put_if_absent(path, data)

    def upload(self, path: str, source: Path, *, progress: Progress | None = None) -> None:
        self._count("upload", sent=Path(source).stat().st_size)
        self.inner.upload(path, source, progress=progress)

    def download(self, path: str, target: Path, *, progress: Progress | None = None) -> None:
        self._count("download")
        self.inner.download(path, target, progress=progress)
        self._count("download", 0, received=Path(target).stat().st_size)

    def stat(self, path: str) -> ObjectInfo:
        self._count("stat")
        return self.inner.stat(path)

    def exists(self, path: str) -> bool:
        self._count("stat")
        return self.inner.exists(path)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._count("list")
        return self.inner.list(prefix)

    def list_children(self, prefix: str) -> builtins.list[str]:
        self._count("list_children")
        return self.inner.list_children(prefix)

    def delete(self, paths: Iterable[str]) -> None:
        named = builtins.list(paths)
        self._count("delete", len(named))
        self.inner.delete(named)

    def ping(self) -> float:
        self._count("ping")
        return self.inner.ping()

    def ensure_writable(self) -> None:
        self.inner.ensure_writable()

    def local_path(self, path: str) -> Path | None:
        return self.inner.local_path(path)

    def close(self) -> None:
        self.inner.close()

    def __getstate__(self) -> dict[str, ObjectStore]:
        return {"inner": self.inner}

    def __setstate__(self, state: dict[str, ObjectStore]) -> None:
        self.__init__(state["inner"])  # type: ignore[misc]
