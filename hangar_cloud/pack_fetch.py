"""Making the packs local that samples are in: whole, or the parts that are wanted, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from hangar_cloud.backends.errors import ObjectNotFoundError
from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.progress import byte_progress
from hangar_cloud.storage import Storage
from hangar_cloud.upload import check_pack

_BATCH_BYTES: Final = 32 * 1024 * 1024
_WHOLE_SHARE: Final = 0.5
# While one is checked and flushed to the disk, others arrive.
_PACKS_AT_ONCE: Final = 4
_LOOKS_AT_ONCE: Final = 16

Places = Mapping[int, list[PackedSample]]
"""Samples by the offset of their block."""


class PackFetch:
    """Brings samples to this machine.

    Args:
        storage: of the repository.
        store: has the packs.
        most: bytes of sample data to fetch at most, None for all.
    """

    def __init__(self, storage: Storage, store: ObjectStore, most: int | None) -> None:
        self._storage = storage
        self._store = store
        self._left = most
        self._spent = False
        self._kept = 0
        self._lock = threading.Lock()

    def run(self, wanted: Mapping[bytes, Places]) -> None:
        """Fetch the samples of some packs, each verified. With a limit, in this order, until it is reached.

        Raises:
            CorruptDataError: a pack, or a part of one, arrived damaged.
            StoreError: the store has it not, or there is no room for it.
        """
        open_ = {pack: self._absent(pack, places) for pack, places in wanted.items()}
        open_ = {pack: places for pack, places in open_.items() if places}
        with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
            sizes = dict(zip(open_, pool.map(self._size, open_), strict=True))
        total = sum(min(used(places), sizes[pack] or used(places)) for pack, places in open_.items())
        with byte_progress("fetching samples", total) as progress:
            if self._left is None:
                self._run_at_once(open_, sizes, progress)
                return
            for pack, places in open_.items():
                self._fetch(pack, places, sizes[pack], progress)
                if self._spent:
                    return

    def _run_at_once(
        self, open_: Mapping[bytes, Places], sizes: Mapping[bytes, int | None], progress: Callable[[int], None]
    ) -> None:
        pool = ThreadPoolExecutor(_PACKS_AT_ONCE)
        try:
            for done in [pool.submit(self._fetch, *item, sizes[item[0]], progress) for item in open_.items()]:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _absent(self, pack: bytes, places: Places) -> Places:
        """What of a pack is not here, as far as a look at files tells."""
        storage = self._storage
        if storage.packs.is_whole(pack):
            return {}
        if storage.source.was_moved(pack_path(pack)):
            return {offset: samples for offset, samples in places.items() if not storage.packs.is_local(samples[0])}
        return places

    def _size(self, pack: bytes) -> int | None:
        """The size of a pack, None where a repack moved its contents elsewhere (or it is missing)."""
        try:
            return self._store.stat(pack_path(pack)).size
        except ObjectNotFoundError:
            return None

    def _fetch(self, pack: bytes, places: Places, size: int | None, progress: Callable[[int], None]) -> None:
        if size is not None and used(places) >= size * _WHOLE_SHARE and (self._left is None or size <= self._left):
            self._take(size)
            self._storage.source.fetch_whole(pack_path(pack), lambda file: check_pack(file, pack), progress)
            return
        batch: list[PackedSample] = []
        waiting = 0
        for offset in sorted(places):
            samples = places[offset]
            if self._storage.packs.is_local(samples[0]):
                continue
            stored = samples[0].place.stored
            if not self._take(stored):
                break
            self._refuse_to_keep(stored)
            batch += samples
            waiting += stored
            if waiting >= _BATCH_BYTES:
                self._storage.packs.fetch(batch)
                progress(waiting)
                batch, waiting = [], 0
        self._storage.packs.fetch(batch)
        progress(waiting)

    def _take(self, size: int) -> bool:
        """Whether another `size` bytes may be fetched; if not, the limit counts as reached."""
        if self._left is None:
            return True
        if size > self._left:
            self._spent = True
            return False
        self._left -= size
        return True

    def _refuse_to_keep(self, size: int) -> None:
        """Raises StoreError if another `size` bytes of parts of packs do not fit into the cache."""
        with self._lock:
            self._kept += size
            kept = self._kept
        self._storage.source.refuse_to_keep(kept)


def used(places: Places) -> int:
    """Bytes of a pack that some samples take."""
    return sum(samples[0].place.stored for samples in places.values())
