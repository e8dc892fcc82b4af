"""What this machine keeps beside the store, and a purge clears of the samples too: staged changes, stashes, caches."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from hangar_cloud import writer_lock
from hangar_cloud.backends.kept_objects import rewritten_file
from hangar_cloud.backends.packs import NO_PACK, pack_path
from hangar_cloud.backends.store.leftovers import remove_leftovers
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.occurrences import Hit
from hangar_cloud.catalog.records import records_path
from hangar_cloud.catalog.staging import BULK_SCRATCH, StagingArea
from hangar_cloud.catalog.staging_copy import copy_database
from hangar_cloud.catalog.staging_rebuild import rebuild
from hangar_cloud.catalog.stashes import Stashes
from hangar_cloud.errors import DirtyStagingError, WriterLockError
from hangar_cloud.storage import Storage

_DATABASE: Final = "staging.duckdb"
_SCRATCH: Final = "purge-"


@contextlib.contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A folder for what is being rewritten, removed afterwards; so are those of processes that were killed."""
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_staged(storage: Storage, digests: Iterable[bytes], scratch: Path) -> None:
    """Raises DirtyStagingError if a sample is among what is staged or stashed here and was not committed."""
    wanted = frozenset(digests)
    for folder, what in _areas(storage.root):
        with _opened(folder, scratch) as area:
            held = area.held(wanted, named=True) if area.dirty else []
        if held:
            column, key, digest = held[0]
            raise DirtyStagingError(
                f"sample {digest.hex()[:12]} is among the uncommitted changes of {what} (column {column!r}, sample "
                f"{key!r}, even if another value took its place). Nothing was purged: reset the staging area, or drop "
                "the stash, and purge again"
            )


def clear_machine(storage: Storage, hits: Iterable[Hit], gone: Iterable[str]) -> list[str]:
    """Remove what this machine keeps of the bytes of some samples, beside the store.

    Args:
        storage: of the repository.
        hits: the rows of the samples; what a cache has of them lies under the places that they name.
        gone: names of objects that held them and are no more.

    Returns:
        what could not be cleared, in words.
    """
    storage.forget()
    shutil.rmtree(storage.root / "index", ignore_errors=True)
    hits = list(hits)
    if storage.is_bucket:
        named = {records_path(hit.leaf.place.object) for hit in hits}
        named |= {pack_path(hit.row.place.pack) for hit in hits if hit.row.place is not None}
        for name in {*named, *gone}:
            for folder in ("store", "partial"):
                if not storage.reads_in_place or folder == "partial":
                    for path in (storage.root / folder / name).parent.glob(f"{name.rpartition('/')[2]}*"):
                        path.unlink(missing_ok=True)
    else:
        _punch(storage.root / "partial", hits)
    for left in storage.root.glob(f"{_SCRATCH}*"):
        if not _is_alive(left.name):
            shutil.rmtree(left, ignore_errors=True)
    remove_leftovers(storage.root, time.time())
    return [*_rebuild_areas(storage), *_rebuild_stashes(storage)]


def _punch(partial: Path, hits: Iterable[Hit]) -> None:
    """Make holes of what files of parts hold of samples; what else was in the same blocks is fetched again."""
    for hit in hits:
        place, leaf = hit.row.place, hit.leaf.place
        if place is not None and place.pack != NO_PACK:
            _zero(partial, pack_path(place.pack), place.offset, place.stored)
        else:
            _zero(partial, records_path(leaf.object), leaf.offset, leaf.length)


def _zero(partial: Path, name: str, offset: int, length: int) -> None:
    rewritten_file(partial, name, offset, length).unlink(missing_ok=True)
    path = partial / name
    try:
        file = os.open(path, os.O_WRONLY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        end = min(offset + length, os.fstat(file).st_size)
        for start in range(offset, end, 1 << 20):
            os.pwrite(file, bytes(min(1 << 20, end - start)), start)
        os.fsync(file)
    finally:
        os.close(file)


def _rebuild_areas(storage: Storage) -> Iterator[str]:
    """Databases of staging areas; the caller holds the lock of a local repository's only one."""
    if not storage.is_bucket:
        for folder in sorted(storage.root.glob("staging/*")):
            yield from _rebuilt(folder, f"staging area {folder.name}")
        return
    for area in range(writer_lock.last_area(storage.root) + 1):
        try:
            lock = writer_lock.WriterLock(storage.root, area)
        except WriterLockError:
            yield f"staging area {area} is in use by a writer; purge again once it is closed"
            continue
        try:
            yield from _rebuilt(lock.folder, f"staging area {area}")
        finally:
            lock.release()


def _rebuild_stashes(storage: Storage) -> Iterator[str]:
    stashes = Stashes(storage.root)
    with stashes.alone():
        for folder in sorted(storage.root.glob("stash/*")):
            yield from _rebuilt(folder, f"stash {folder.name!r}")


def _rebuilt(folder: Path, what: str) -> Iterator[str]:
    shutil.rmtree(folder / BULK_SCRATCH, ignore_errors=True)  # of a bulk import that died; nobody else has the lock
    if not (folder / _DATABASE).is_file():
        return
    try:
        rebuild(folder)
    except (StagingError, OSError) as error:
        yield f"{what} could not be rewritten: {error}"


def _areas(root: Path) -> Iterator[tuple[Path, str]]:
    for folder in sorted(root.glob("staging/*")):
        if (folder / _DATABASE).is_file():
            yield folder, f"staging area {folder.name}"
    for folder in sorted(root.glob("stash/*")):
        if (folder / _DATABASE).is_file():
            yield folder, f"stash {folder.name!r}"


@contextlib.contextmanager
def _opened(folder: Path, scratch: Path) -> Iterator[StagingArea]:
    """A copy of a staging area's database: a writer may have it open."""
    copy = scratch / "staging"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    copy_database(folder, copy)
    area = StagingArea(copy)
    try:
        yield area
    finally:
        area.close()
        shutil.rmtree(copy, ignore_errors=True)


def _is_alive(name: str) -> bool:
    number = name.removeprefix(_SCRATCH).partition("-")[0]
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        return True
    return True
