"""Objects as files below a folder."""

from __future__ import annotations

import os
import secrets
import stat
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from hangar_cloud.backends.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CorruptDataError,
    HangarError,
    ObjectNotFoundError,
    ReadOnlyStoreError,
    StoreError,
    TruncatedObjectError,
)
from hangar_cloud.backends.store.durable_files import (
    flush_folder,
    open_regular,
    publish_new,
    publish_over,
    read_regular,
    temporary_sibling,
    write_flushed,
)
from hangar_cloud.backends.store.paths import OWN_PREFIX, PROBE_PREFIX, check_path, check_prefix, folder_prefix
from hangar_cloud.backends.store.port import ObjectInfo, ObjectStore, Progress
from hangar_cloud.backends.store.ranges import RangeRequest, check_range

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Iterator, Sequence

_COPY_BYTES = 4 * 1024 * 1024
# What is larger is read in ranges: the size of a sparse file says nothing of what it cost to make.
_MAX_WHOLE = 256 * 1024 * 1024


class LocalStore(ObjectStore):
    """One file per object below ``root``, which the first write creates.

    Files are finished and flushed under a temporary name and then linked to their own, so nobody ever sees
    part of one; a crash can only leave temporary files, which nothing reads or lists.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(os.path.abspath(os.fspath(root)))
        self.url = str(self.root)
        self._proven = False

    def local_path(self, path: str) -> Path:
        return self.root.joinpath(*check_path(path).split("/"))

    def get(self, path: str) -> bytes:
        file = self.local_path(path)
        with self._explained("read", path):
            return read_regular(file, _MAX_WHOLE)

    def get_many(self, paths: Sequence[str]) -> builtins.list[bytes | None]:
        return [self._get_or_none(path) for path in paths]

    def _get_or_none(self, path: str) -> bytes | None:
        try:
            return self.get(path)
        except ObjectNotFoundError:
            return None

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        return self.get_ranges([(path, offset, length)])[0]

    def get_ranges(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        results = [b""] * len(requests)
        by_path: dict[str, builtins.list[int]] = {}
        for index, (path, offset, length) in enumerate(requests):
            check_range(path, offset, length)
            if length:
                by_path.setdefault(path, []).append(index)
        for path, indices in by_path.items():
            file = self.local_path(path)
            with self._explained("read", path), os.fdopen(open_regular(file), "rb", buffering=0) as stream:
                for index in indices:
                    results[index] = self._read_exactly(stream.fileno(), *requests[index])
        return results

    def _read_exactly(self, descriptor: int, path: str, offset: int, length: int) -> bytes:
        # A buffer is made for what is there, however much a record asks for.
        there = max(os.fstat(descriptor).st_size - offset, 0)
        data = _read_at(descriptor, offset, min(length, there)) if there else b""
        while len(data) < length:
            more = _read_at(descriptor, offset + len(data), length - len(data)) if len(data) < there else b""
            if not more:
                raise TruncatedObjectError(
                    f"{self.url}/{path} has {os.fstat(descriptor).st_size} bytes, but bytes {offset} to "
                    f"{offset + length} were asked for: the file is cut short. Fetch it again from a remote "
                    "that has it."
                )
            data += more
        return data

    def put(self, path: str, data: bytes) -> None:
        target = self.local_path(path)
        self.ensure_writable()
        # Not flushed, as nothing depends on it: after a power cut an older or a damaged one is as good as none.
        with self._explained("write", path), temporary_sibling(target) as temporary:
            temporary.write_bytes(data)
            os.replace(temporary, target)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        target = self.local_path(path)
        self.ensure_writable()
        with self._explained("create", path):
            if not target.exists():
                with temporary_sibling(target) as temporary:
                    write_flushed(temporary, data)
                    if publish_new(temporary, target):
                        return True
            same = read_regular(target) == data
            if same:
                # Who wrote it may have been killed before flushing the name, and we now vouch for it.
                flush_folder(target.parent)
            return same

    def upload(self, path: str, source: Path, *, progress: Progress | None = None) -> None:
        target = self.local_path(path)
        self.ensure_writable()
        size = os.stat(source).st_size
        with self._explained("write", path):
            if not target.exists():
                with temporary_sibling(target) as temporary:
                    _copy_flushed(Path(source), temporary, progress)
                    if publish_new(temporary, target):
                        return
            present = target.stat().st_size
        if present != size:
            raise CorruptDataError(
                f"{self.url}/{path} exists with {present} bytes, but the file to store under that name has "
                f"{size}. "
                "One of the two is damaged: verify the repository before writing again."
            )

    def download(self, path: str, target: Path, *, progress: Progress | None = None) -> None:
        source = self.local_path(path)
        self.stat(path)
        with self._explained("copy", path), temporary_sibling(Path(target)) as temporary:
            _copy_flushed(source, temporary, progress)
            publish_over(temporary, Path(target))

    def stat(self, path: str) -> ObjectInfo:
        file = self.local_path(path)
        with self._explained("look up", path):
            status = file.stat()
            if not file.is_file():
                raise FileNotFoundError(file)
        return ObjectInfo(path, status.st_size, _utc(status.st_mtime))

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except ObjectNotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        folder = prefix.rpartition("/")[0]
        return self._walk(f"{folder}/" if folder else "", prefix, set())

    def _walk(self, folder: str, prefix: str, seen: set[tuple[int, int]]) -> Iterator[ObjectInfo]:
        with self._explained("list", folder):
            # Links may lead in circles.
            status = (self.root / folder).stat() if (self.root / folder).is_dir() else None
            if status is None or (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(self._entries(folder), key=lambda entry: entry[0])
        for name, entry in entries:
            path = folder + name
            if path.endswith("/"):
                if path.startswith(prefix) or prefix.startswith(path):
                    yield from self._walk(path, prefix, seen)
            elif path.startswith(prefix):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # deleted since the folder was read
                    continue
                if not stat.S_ISREG(status.st_mode):
                    continue
                yield ObjectInfo(path, status.st_size, _utc(status.st_mtime))

    def _entries(self, folder: str) -> builtins.list[tuple[str, os.DirEntry[str]]]:
        """Names right below ``folder``, those of folders ending in ``/`` so that they sort as their contents do."""
        try:
            with os.scandir(self.root / folder) as found:
                return [
                    (f"{entry.name}/" if entry.is_dir() else entry.name, entry)
                    for entry in found
                    if not entry.name.startswith(OWN_PREFIX)
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def list_children(self, prefix: str) -> builtins.list[str]:
        folder = folder_prefix(prefix)
        with self._explained("list", folder):
            return sorted(name.removesuffix("/") for name, _ in self._entries(folder))

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            file = self.local_path(path)
            with self._explained("delete", path):
                file.unlink(missing_ok=True)

    def ping(self) -> float:
        started = time.perf_counter()
        with self._explained("open", ""):
            if not self.root.is_dir():
                raise BucketNotFoundError(
                    f"There is no folder {self.url}. Check the path; a repository is made there by init or "
                    "the first push."
                )
            os.scandir(self.root).close()
        return time.perf_counter() - started

    def ensure_writable(self) -> None:
        if self._proven:
            return
        probe = self.root / f"{PROBE_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        with self._explained("write to", ""), temporary_sibling(probe) as temporary:
            temporary.touch()
            try:
                proven = publish_new(temporary, probe) and self._second_fails(probe)
            finally:
                probe.unlink(missing_ok=True)
        if not proven:
            raise ReadOnlyStoreError(
                f"{self.url} is on a filesystem where creating a file twice does not fail, so two writers "
                "could "
                "overwrite each other: nothing was written. Use a folder on an ordinary local disk."
            )
        self._proven = True

    def _second_fails(self, probe: Path) -> bool:
        with temporary_sibling(probe) as temporary:
            temporary.touch()
            return not publish_new(temporary, probe)

    def __getstate__(self) -> dict[str, object]:
        return {"root": str(self.root)}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    @contextmanager
    def _explained(self, action: str, path: str) -> Iterator[None]:
        """Turn the operating system's errors into ours."""
        place = f"{self.url}/{path}".removesuffix("/")
        try:
            yield
        except HangarError:
            raise
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ObjectNotFoundError(
                f"Cannot {action} {place}: there is no such object. Check the name, or fetch it from a remote."
            ) from error
        except PermissionError as error:
            raise AccessDeniedError(
                f"Cannot {action} {place}: the operating system refused ({error.strerror}). "
                "Check the owner and permissions of the folder."
            ) from error
        except OSError as error:
            raise StoreError(
                f"Cannot {action} {place}: {error.strerror or error}. Check the disk and its free space."
            ) from error


def _read_at(descriptor: int, offset: int, length: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, length)


def _copy_flushed(source: Path, target: Path, progress: Progress | None) -> None:
    with open(source, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:
        while block := reader.read(_COPY_BYTES):
            # On a disk that is nearly full, less may be written than was asked for, without an error.
            view = memoryview(block)
            while view:
                view = view[writer.write(view) :]
            if progress is not None:
                progress(len(block))
        os.fsync(writer.fileno())


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=timezone.utc)
