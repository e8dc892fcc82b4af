"""Open local files, kept few: memory maps of finished objects, descriptors of growing ones."""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakSet

from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.sparse_file import DataMap
from hangar_cloud.backends.store.durable_files import open_regular

_OPEN_LIMIT: Final = 256


class _Descriptor:
    """A descriptor that closes with its last user, so that no thread reads a reused number."""

    def __init__(self, path: Path) -> None:
        self.number = open_regular(path)

    def __del__(self) -> None:
        number = getattr(self, "number", None)
        if number is not None:
            os.close(number)


class MapUser(Protocol):
    """Who holds memory maps for longer than a call, and so has to be told when to let go of one."""

    def drop_map(self, owner: Any) -> None:
        """Let go of a memory map."""


class LocalFiles:
    """Reads byte ranges of local files; safe to use from many threads.

    Finished objects are immutable, so they are memory-mapped and handed out as read-only views.
    Growing files (sparse cache files, staging packs) are read by `pread`.

    `map_users` are told of each map that is dropped: while one is held, its file takes room on the disk though it was
    removed, and a descriptor.
    """

    def __init__(self) -> None:
        self.map_users: WeakSet[MapUser] = WeakSet()
        self._maps: OrderedDict[Path, memoryview] = OrderedDict()
        self._descriptors: OrderedDict[Path, _Descriptor] = OrderedDict()
        self._lock = ForkLock()

    def view(self, path: Path, offset: int, length: int) -> memoryview:
        """A read-only view of a finished object; shorter than `length` where the file ends.

        Raises:
            FileNotFoundError: there is no such file.
        """
        mapped = self._maps.get(path)
        if mapped is None:
            mapped = self._map(path)
        return mapped[max(offset, 0) : max(offset + length, 0)]

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Bytes of a file that still grows; shorter than `length` where the file ends.

        Raises:
            FileNotFoundError: there is no such file.
        """
        descriptor = self._descriptor(path)
        # The length comes from a record: no buffer is made for more than the file has.
        length = min(length, os.fstat(descriptor.number).st_size - offset)
        if offset < 0 or length <= 0:
            return b""
        data = os.pread(descriptor.number, length, offset)
        while len(data) < length:
            # One call reads at most 2 GiB.
            more = os.pread(descriptor.number, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def data_map(self, path: Path) -> DataMap:
        """Which parts of a sparse file hold data, by now. Raises FileNotFoundError if there is no such file."""
        return DataMap(self._descriptor(path))

    def forget(self, path: Path) -> None:
        """Drop what is held open of a file that was removed or replaced."""
        with self._lock.lock:
            dropped = self._maps.pop(path, None)
            self._descriptors.pop(path, None)
        if dropped is not None:
            self._tell([dropped])

    def forget_removed(self) -> None:
        """Drop what is held open of files that somebody removed: until then their bytes stay on the disk."""
        with self._lock.lock:
            held = [*self._maps, *self._descriptors]
        for path in held:
            if not path.exists():
                self.forget(path)

    def forget_all(self) -> None:
        """Drop everything held open."""
        with self._lock.lock:
            dropped = list(self._maps.values())
            self._maps.clear()
            self._descriptors.clear()
        self._tell(dropped)

    def _descriptor(self, path: Path) -> _Descriptor:
        with self._lock.lock:
            descriptor = self._descriptors.get(path)
            if descriptor is None:
                descriptor = self._descriptors[path] = _Descriptor(path)
                while len(self._descriptors) > _OPEN_LIMIT:
                    self._descriptors.popitem(last=False)
        return descriptor

    def _tell(self, dropped: list[memoryview]) -> None:
        for user in list(self.map_users):
            for mapped in dropped:
                user.drop_map(mapped.obj)

    def _map(self, path: Path) -> memoryview:
        number = open_regular(path)
        try:
            size = os.fstat(number).st_size
            mapped = memoryview(mmap.mmap(number, 0, access=mmap.ACCESS_READ)) if size else memoryview(b"")
        finally:
            os.close(number)
        dropped = []
        with self._lock.lock:
            self._maps[path] = mapped
            while len(self._maps) > _OPEN_LIMIT:
                dropped.append(self._maps.popitem(last=False)[1])
        self._tell(dropped)
        return mapped
