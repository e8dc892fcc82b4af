"""One worker process of a bulk import: reads items, stores samples in packs of its own, and sends their rows."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, Final

from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.bulk.item_reader import ItemReader, ItemSample
from hangar_cloud.bulk.messages import Claim, Done, Failed, Item, Packs, Ready, Rows, Setup
from hangar_cloud.bulk.scratch_log import ScratchLog
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.errors import InvalidSampleError
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.errors import BulkImportError

AT_FILE: Final = "at"
"""File in a worker's folder that has the number of the item it is about (8 bytes): told when it died there."""
LATE: Final = "late"
"""Folder in a worker's folder for samples that the calling process writes in the end."""
_LATE_OPTIONS: Final = {"codec": "lz4"}
_FLUSH_BYTES: Final = 4 * 1024 * 1024
_FLUSH_SAMPLES: Final = 32_768
_MOST_PENDING: Final = 4 * _FLUSH_BYTES
_UPLOADS: Final = 2
_TELL_SECONDS: Final = 0.2


def run(connection: Connection[Any, Any], lifeline: int) -> None:
    """Work until there are no more items, and end with the process that started this one.

    Args:
        connection: to that process.
        lifeline: the reading end of a pipe that nobody writes to; it is at its end when that process is gone.
    """
    threading.Thread(target=_die_with, args=(lifeline,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, EOFError):  # it is gone, or has given up
        try:
            Worker(connection, connection.recv()).work()
        except BaseException as error:  # noqa: BLE001 - told to the process that waits for an answer
            connection.send(_failed(error))


class Worker:
    """Reads items and writes their samples.

    Args:
        connection: to the process that hands them out.
        setup: what to work on.
    """

    def __init__(self, connection: Connection[Any, Any], setup: Setup) -> None:
        self._connection = connection
        self._setup = setup
        self._process = os.getpid()
        self._columns = setup.columns
        self._log = ScratchLog(setup.folder, setup.first_pack, setup.pack_step)
        storage = setup.storage
        self._writer = SampleWriter(
            self._log,
            storage.index,
            storage.has_pack,
            lambda entry: None,  # the index was completed before this process was started
            storage.nodes if storage.is_bucket else None,
            storage.moved_packs.holders,
            storage.purged,
            self._claim,
        )
        self._late_log = ScratchLog(setup.folder / LATE, setup.first_pack, setup.pack_step)
        nothing = DigestIndex(setup.folder / LATE / "index")
        self._late = SampleWriter(self._late_log, nothing, lambda pack: False, lambda entry: None)
        self._reader = ItemReader(setup.columns, setup.udf)
        self._pending: dict[str, dict[RowKey, ItemSample]] = {name: {} for name in setup.columns}
        self._bytes = dict.fromkeys(setup.columns, 0)
        self._uploads: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(_UPLOADS)
        self._done = 0
        self._told = time.monotonic()

    def work(self) -> None:
        """Until there are no more items. Raises HangarError."""
        with open(self._setup.folder / AT_FILE, "wb", buffering=0) as at:
            while items := self._ask(Ready()):
                for item in items:
                    os.pwrite(at.fileno(), item.number.to_bytes(8, "little"), 0)
                    self._read(item)
            os.truncate(at.fileno(), 0)
            for name in self._columns:
                self._flush(name)
            self._tell_done()
            before = self._log.sealed()
            sealed = self._writer.seal()
            self._upload({pack: name for pack, name in sealed.items() if pack not in before})
            for upload in self._uploads:
                upload.result()
        self._pool.shutdown()
        number = self._log.number
        extents = {number(pack): extents for pack, extents in self._log.extents().items()}
        sealed = {number(pack): name for pack, name in sealed.items()}
        self._connection.send(Packs(extents, sealed, self._log.spares()))

    def _read(self, item: Item) -> None:
        for sample in self._reader.read(item):
            if os.getpid() != self._process:
                # A fork in the function that went on to its end, as its parent does: with the same connection.
                os._exit(1)
            self._put(sample)
        self._done += 1
        if time.monotonic() > self._told + _TELL_SECONDS:
            self._tell_done()

    def _put(self, sample: ItemSample) -> None:
        name, size = sample.column, len(sample.payload.data)
        there = self._pending[name].get(sample.key)
        if there is not None:
            if there.payload != sample.payload:
                raise InvalidSampleError(two_values(name, sample.key, there.item, sample.item))
            return
        self._pending[name][sample.key] = sample
        self._bytes[name] += size
        if self._bytes[name] >= _FLUSH_BYTES or len(self._pending[name]) >= _FLUSH_SAMPLES:
            self._flush(name)
        elif sum(self._bytes.values()) >= _MOST_PENDING:
            for column in self._columns:
                self._flush(column)

    def _flush(self, name: str) -> None:
        """Store what waits of a column, and send its rows."""
        waiting = self._pending[name]
        if not waiting:
            return
        entry, writer, log = self._columns[name], self._writer, self._log
        if name in self._setup.late:
            entry, writer, log = replace(entry, backend="p0", backend_options=_LATE_OPTIONS), self._late, self._late_log
        rows = writer.write(name, entry, [(key, sample.payload) for key, sample in waiting.items()])
        placed = [(key, row if row.place is None else row._replace(place=log.place(row.place))) for key, row in rows]
        self._connection.send(Rows(name, placed, [sample.item for sample in waiting.values()]))
        self._pending[name], self._bytes[name] = {}, 0
        self._upload(self._log.seal_full())

    def _upload(self, packs: dict[int, bytes]) -> None:
        """Begin to send finished packs to the bucket; waits where too many are on their way."""
        if not self._setup.upload:
            return
        store = self._setup.storage.store
        for pack, name in packs.items():
            waiting = [upload for upload in self._uploads if not upload.done()]
            if len(waiting) >= _UPLOADS:
                waiting[0].result()
            self._uploads.append(self._pool.submit(store.upload, pack_path(name), self._log.pack_file(pack)))

    def _claim(self, digests: Sequence[bytes]) -> list[bytes]:
        others: list[bytes] = self._ask(Claim(list(digests)))
        return others

    def _ask(self, message: Ready | Claim) -> Any:
        self._connection.send(message)
        return self._connection.recv()

    def _tell_done(self) -> None:
        self._connection.send(Done(self._done))
        self._done, self._told = 0, time.monotonic()


def two_values(column: str, key: RowKey, first: int, second: int) -> str:
    """What to say of two different values under one key."""
    items = f"items {first} and {second} of udf_kwargs yield it"
    if first == second:
        items = f"item {first} of udf_kwargs yields it twice"
    return (
        f"column {column!r}, sample {key!r}: {items}, with different data. One key has one value: make the keys "
        "different, or yield it once. Nothing was imported"
    )


def _die_with(lifeline: int) -> None:
    """End this process, whatever it is at, once the one that started it is gone."""
    os.read(lifeline, 1)
    # With all that the function has started: the group is this process's own.
    with contextlib.suppress(OSError):
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _failed(error: BaseException) -> Failed:
    if isinstance(error, BulkImportError):
        return Failed(type(error), str(error), error.item, error.trace)
    if isinstance(error, HangarError):
        return Failed(type(error), str(error), None, "")
    told = f"a process of the import failed ({type(error).__name__}: {error}). Nothing was imported"
    return Failed(BulkImportError, told, None, traceback.format_exc())
