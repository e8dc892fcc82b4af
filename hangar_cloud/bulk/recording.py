"""Staging what the workers of a bulk import wrote, in one transaction."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.store.durable_files import disk_errors_told, flush_folder, make_folder
from hangar_cloud.bulk.ledger import Ledger
from hangar_cloud.bulk.worker import LATE
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema, Payload
from hangar_cloud.catalog.staging import UNFINISHED
from hangar_cloud.catalog.working_set import FLUSH_BYTES
from hangar_cloud.errors import HangarError
from hangar_cloud.writer_checkout import WriterCheckout

_ROWS_AT_ONCE: Final = 50_000

T = TypeVar("T")


class Recording:
    """Takes packs from the workers' folders into a writer's staging area, and their rows with them.

    Args:
        checkout: the writer; nothing waits in its memory.
        folders: of the workers.
        scratch: a folder on the same disk, for what is looked at once more.
    """

    def __init__(self, checkout: WriterCheckout, folders: Sequence[Path], scratch: Path) -> None:
        self._checkout = checkout
        self._staging = checkout._staging
        self._folders = folders
        self._scratch = scratch
        self._moved: list[Path] = []

    def stage(self, ledger: Ledger, late: AbstractSet[str], *, unfinished: bool) -> None:
        """Stage all of it, or none.

        Args:
            ledger: what the workers found.
            late: names of columns whose samples are written here.
            unfinished: mark it as to be cleared, should this process die before it is committed.

        Raises:
            HangarError: it could not be recorded; everything is as it was.
        """
        rows = dict(ledger.rows())
        working = self._checkout._working
        try:
            self._take_packs(self._staging.folder, "")
            with self._staging.together():
                self._staging.stage_samples("", [], ledger.extents, ledger.spares)
                for number, name in ledger.sealed.items():
                    self._staging.record_sealed(number, name)
                for column in rows.keys() - late:
                    for some in _parts(rows[column], _ROWS_AT_ONCE):
                        self._staging.stage_samples(column, some, {})
                self._write_late({column: rows[column] for column in rows.keys() & late})
                if unfinished:
                    self._staging.set_settings(**{UNFINISHED: "bulk import"})
        except BaseException:
            for path in self._moved:
                path.unlink(missing_ok=True)
            with contextlib.suppress(HangarError):
                working.reload(working.base)
            raise
        for column in rows.keys() - late:
            working.columns[column].restore(rows.pop(column))

    def _take_packs(self, folder: Path, below: str) -> None:
        with disk_errors_told(folder):
            make_folder(folder)
            for mine in self._folders:
                for path in sorted((mine / below).glob("*.pack")):
                    target = folder / path.name
                    self._moved.append(target)
                    os.replace(path, target)
            flush_folder(folder)

    def _write_late(self, columns: dict[str, list[tuple[RowKey, Row]]]) -> None:
        """Write samples through the checkout, a few at a time."""
        if not columns:
            return
        self._take_packs(self._scratch / LATE, LATE)
        self._checkout._samples.start_over()
        reader = PackReader(self._checkout._storage.source, self._scratch / LATE)
        for name, rows in columns.items():
            column = self._checkout._working.columns[name]
            for key, row in rows:
                column.put(key, _payload(column.entry.schema, row, reader))
                if column.pending_bytes >= FLUSH_BYTES:
                    self._checkout._working.flush(name)
            self._checkout._working.flush(name)


def _payload(schema: ColumnSchema, row: Row, reader: PackReader) -> Payload:
    prefix = schema.prefix(row.shape)
    if row.place is None:
        return Payload(prefix, row.value or b"", row.shape)
    return Payload(prefix, bytes(reader.read(PackedSample(row.place, row.identity[1:], prefix))), row.shape)


def _parts(rows: Sequence[T], size: int) -> Iterator[list[T]]:
    waiting = iter(rows)
    while part := list(islice(waiting, size)):
        yield part
