"""Moving whole files to and from a remote store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hangar_cloud.backends.errors import CorruptDataError, ObjectNotFoundError
from hangar_cloud.backends.store.bounded import gather_bounded
from hangar_cloud.backends.store.driving import in_thread
from hangar_cloud.backends.store.durable_files import write_at
from hangar_cloud.backends.store.retry import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from io import FileIO
    from pathlib import Path

    from hangar_cloud.backends.store.port import Progress
    from hangar_cloud.backends.store.remote import RemoteStore


async def upload_object(store: RemoteStore, path: str, source: Path, progress: Progress | None) -> None:
    """Store the file ``source``; an object of the same name and size counts as stored already.

    Raises CorruptDataError if there is one of another size.
    """
    size = os.stat(source).st_size
    if size <= store.part_bytes:
        stored = await _create_small(store, path, source)
    else:
        # One look is cheap beside sending everything again.
        stored = not await _present(store, path, size)
        if stored:
            await store._write_parts(path, source, size, progress)
            return
    if not stored and not await _present(store, path, size):
        raise ObjectNotFoundError(f"{store._place(path)} was deleted while it was uploaded. Upload it again.")
    if progress is not None:
        progress(size)


async def _create_small(store: RemoteStore, path: str, source: Path) -> bool:
    data = await in_thread(source.read_bytes)

    async def write() -> bool:
        try:
            await store._write(path, data, create=True)
        except Exception as error:
            if store._classify_any(error) is Fault.EXISTS:
                return False
            raise
        return True

    return await store._attempt("write", path, write)


async def _present(store: RemoteStore, path: str, size: int) -> bool:
    try:
        info = await store._attempt("look up", path, lambda: store._describe(path))
    except ObjectNotFoundError:
        return False
    if info.size != size:
        raise CorruptDataError(
            f"{store._place(path)} exists with {info.size} bytes, but the file to store under that name has "
            f"{size}. "
            "One of the two is damaged: verify the repository before writing again."
        )
    return True


async def download_object(store: RemoteStore, path: str, stream: FileIO, progress: Progress | None) -> None:
    """Write all bytes of an object into ``stream`` (unbuffered, of a file), several parts at a time."""
    info = await store._attempt("look up", path, lambda: store._describe(path))

    def part(offset: int) -> Callable[[], Awaitable[None]]:
        async def fetch() -> None:
            data, *_ = await store._read_all_pieces(path, offset, [min(store.part_bytes, info.size - offset)])
            # At a place, since other threads write other parts.
            write_at(stream.fileno(), data, offset)
            if progress is not None:
                progress(len(data))

        return fetch

    parts = [part(offset) for offset in range(0, info.size, store.part_bytes)]
    if parts:
        await gather_bounded(parts, store.concurrency)


async def read_part(source: Path, offset: int, length: int) -> bytes:
    """Return ``length`` bytes of a local file from ``offset`` on, without holding up the event loop."""

    def read() -> bytes:
        with open(source, "rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read(length)

    return await in_thread(read)
