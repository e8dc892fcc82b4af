"""Objects in this process's memory, on fsspec's ``memory://``: for tests and experiments."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hangar_cloud.backends.errors import CorruptDataError, ObjectNotFoundError, TruncatedObjectError
from hangar_cloud.backends.store.durable_files import publish_over, temporary_sibling, write_flushed
from hangar_cloud.backends.store.paths import check_path, check_prefix, folder_prefix, is_own_name
from hangar_cloud.backends.store.port import ObjectInfo, ObjectStore, Progress
from hangar_cloud.backends.store.ranges import RangeRequest, check_range

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Iterator, Sequence

# fsspec's memory files share one read position and one dictionary between all threads of the process.
_lock = threading.RLock()


class MemoryStore(ObjectStore):
    """Objects below ``memory://<root>``, shared by every such store in the process and lost with it.

    A forked process sees what was there when it forked and then goes its own way.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") if url.rstrip("/") != "memory:" else "memory://"
        self._root = "/" + url.removeprefix("memory://").strip("/")

    def get(self, path: str) -> bytes:
        with _lock:
            return bytes(self._file(path).getvalue())

    def get_many(self, paths: Sequence[str]) -> builtins.list[bytes | None]:
        # Another thread may delete one between two looks.
        with _lock:
            return [self.get(path) if self.exists(path) else None for path in paths]

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        check_path(path)
        check_range(path, offset, length)
        if not length:
            return b""
        with _lock:
            data = bytes(self._file(path).getbuffer()[offset : offset + length])
            size = int(self._file(path).size)
        if len(data) < length:
            raise TruncatedObjectError(
                f"{self.url}/{path} has {size} bytes, but bytes {offset} to {offset + length} were asked "
                "for: "
                "the object is cut short. Write it again."
            )
        return data

    def get_ranges(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        return [self.get_range(*request) for request in requests]

    def put(self, path: str, data: bytes) -> None:
        name = self._name(path)
        with _lock:
            _filesystem().pipe_file(name, bytes(data))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        with _lock:
            if self.exists(path):
                return self.get(path) == data
            self.put(path, data)
            return True

    def upload(self, path: str, source: Path, *, progress: Progress | None = None) -> None:
        data = Path(source).read_bytes()
        if not self.put_if_absent(path, data) and self.stat(path).size != len(data):
            raise CorruptDataError(
                f"{self.url}/{path} exists with another size than the {len(data)} bytes to store under that "
                "name. "
                "One of the two is damaged: verify the repository before writing again."
            )
        if progress is not None:
            progress(len(data))

    def download(self, path: str, target: Path, *, progress: Progress | None = None) -> None:
        data = self.get(path)
        with temporary_sibling(Path(target)) as temporary:
            write_flushed(temporary, data)
            publish_over(temporary, Path(target))
        if progress is not None:
            progress(len(data))

    def stat(self, path: str) -> ObjectInfo:
        with _lock:
            return self._describe(path, self._file(path))

    def exists(self, path: str) -> bool:
        name = self._name(path)
        with _lock:
            return name in _filesystem().store

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        base = f"{self._root.rstrip('/')}/"
        with _lock:
            found = [
                self._describe(name[len(base) :], file)
                for name, file in _filesystem().store.items()
                if name.startswith(base + prefix) and not is_own_name(name)
            ]
        return iter(sorted(found, key=lambda info: info.path))

    def list_children(self, prefix: str) -> builtins.list[str]:
        folder = folder_prefix(prefix)
        return sorted({info.path[len(folder) :].partition("/")[0] for info in self.list(folder)})

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            name = self._name(path)
            with _lock:
                _filesystem().store.pop(name, None)

    def ping(self) -> float:
        started = time.perf_counter()
        _filesystem()
        return time.perf_counter() - started

    def ensure_writable(self) -> None:
        """Nothing to prove: a lock of this process stands for the server."""

    def _name(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{check_path(path)}"

    def _file(self, path: str) -> Any:
        try:
            return _filesystem().store[self._name(path)]
        except KeyError as error:
            raise ObjectNotFoundError(
                f"There is no object {self.url}/{path}. Check the name; memory:// is emptied when its process ends."
            ) from error

    def _describe(self, path: str, file: Any) -> ObjectInfo:
        modified: datetime = file.modified
        return ObjectInfo(path, int(file.getbuffer().nbytes), modified.astimezone(timezone.utc))


def _filesystem() -> Any:
    from fsspec.implementations.memory import MemoryFileSystem

    return MemoryFileSystem()
