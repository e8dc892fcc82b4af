"""Many ranges of bucket objects at once, through TileDB's VFS: in native code, beside Python's event loop.

It asks for an object's size first, twice, so few ranges are better asked for by the driver. Whatever it cannot do, the
driver does: it is only ever tried, with the credentials that the driver uses, and after a failure it is left alone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from hangar_cloud.backends.store.paths import check_path
from hangar_cloud.backends.store.port import ObjectStore
from hangar_cloud.backends.store.ranges import JoinedRange, RangeRequest, join_ranges

_log = logging.getLogger(__name__)
_PARALLEL: Final = 8
LEAST_RANGES: Final = 16
"""Fewer than so many requests are better sent by the driver."""

_TUNED: Final = {
    # Trying again is the driver's business, which knows what it is worth.
    "vfs.s3.connect_max_tries": "1",
    "vfs.s3.connect_timeout_ms": "5000",
    "vfs.s3.request_timeout_ms": "30000",
    "vfs.gcs.request_timeout_ms": "30000",
}
Settings = Mapping[str, str]
"""TileDB's names and values; with credentials, so they are kept in memory alone."""


class _Attempt(NamedTuple):
    """What came of it: the bytes of each request, in order; or the settings with which it failed, if it was tried."""

    data: list[bytes] | None = None
    failed: Settings | None = None


class VfsRanges:
    """Ranges of the objects of one bucket, by TileDB. Safe to share between threads and to fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[int, Settings, Any] | None = None
        self._useless: list[Settings] = []
        self._kept: list[Any] = []
        self.read_bytes = 0

    def get_tiles(
        self, store: ObjectStore, root: str, requests: Sequence[RangeRequest], find: Callable[[], Settings | None]
    ) -> list[bytes]:
        """The bytes of many ranges, in the order asked. Raises as `ObjectStore.get_ranges`.

        Args:
            store: reads what TileDB does not.
            root: its URL.
            requests: ranges of its objects.
            find: gives where and as whom TileDB is to read; None if it cannot be told.
        """
        plan = join_ranges(requests, join_gap=store.join_gap, max_joined=store.max_joined)
        if len(plan) < LEAST_RANGES:
            return store.get_ranges(requests)
        attempt = self._try(root, plan, find)
        if attempt.data is None:
            found = store.get_ranges(requests)
            if attempt.failed is not None:
                # The driver did it, so it is not the object that is missing.
                self._useless.append(attempt.failed)
            return found
        results = [b""] * len(requests)
        for joined, blob in zip(plan, attempt.data, strict=True):
            for index, part in joined.slices(blob):
                results[index] = part
        return results

    def _try(self, root: str, plan: Sequence[JoinedRange], find: Callable[[], Settings | None]) -> _Attempt:
        settings: Settings | None = None
        try:
            urls = {joined.path: f"{root}/{check_path(joined.path)}" for joined in plan}
            settings = find()
            if settings is None or settings in self._useless:
                return _Attempt()
            found = _read_all(self._vfs(settings), urls, plan)
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver says it better
            # Not what it says: it may quote what it was told.
            _log.debug("TileDB cannot read from the bucket: %s", type(error).__name__)
            return _Attempt(failed=settings)
        self.read_bytes += sum(map(len, found))
        return _Attempt(found)

    def _vfs(self, settings: Settings) -> Any:
        from hangar_cloud.backends.tiledb_arrays import open_vfs

        with self._lock:
            if self._made is None or self._made[:2] != (os.getpid(), settings):
                # What a parent process made must not be destroyed in a forked child: its threads are not there.
                self._kept.append(self._made)
                self._made = (os.getpid(), settings, open_vfs({**_TUNED, **settings}))
            return self._made[2]


def _read_all(vfs: Any, urls: Mapping[str, str], plan: Sequence[JoinedRange]) -> list[bytes]:
    groups = _groups(plan)
    found: dict[JoinedRange, bytes] = {}
    with ThreadPoolExecutor(len(groups)) as pool:
        for group, datas in zip(
            groups, pool.map(lambda group: _read_group(vfs, urls[group[0].path], group), groups), strict=True
        ):
            found.update(zip(group, datas, strict=True))
    if any(len(data) != joined.length for joined, data in found.items()):
        raise EOFError
    return [found[joined] for joined in plan]


def _groups(plan: Sequence[JoinedRange]) -> list[list[JoinedRange]]:
    """Requests of one object each, for as many threads: each opens the object once."""
    by_path: dict[str, list[JoinedRange]] = {}
    for joined in plan:
        by_path.setdefault(joined.path, []).append(joined)
    share = -(-len(plan) // _PARALLEL)
    return [ranges[i : i + share] for ranges in by_path.values() for i in range(0, len(ranges), share)]


def _read_group(vfs: Any, url: str, group: Sequence[JoinedRange]) -> list[bytes]:
    with vfs.open(url, "rb") as file:
        found = []
        for joined in group:
            file.seek(joined.offset)
            found.append(bytes(file.read(joined.length)))
        return found
