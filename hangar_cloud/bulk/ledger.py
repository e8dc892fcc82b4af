"""What the workers of a bulk import found: rows, who stores which sample, and in the end all of it staged at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.packs import BlockExtent
from hangar_cloud.bulk.messages import Packs, Rows
from hangar_cloud.bulk.worker import two_values
from hangar_cloud.catalog.errors import InvalidSampleError
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_writer import PROMISED


class Ledger:
    """Gathers what workers say: keys, digests and places, in memory, as a checkout keeps them until its commit."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[RowKey, Row]] = {}
        self._items: dict[str, array[int]] = {}
        self._claimed: set[bytes] = set()
        self._promised: set[bytes] = set()
        self.extents: dict[int, list[BlockExtent]] = {}
        self.sealed: dict[int, bytes] = {}
        self.spares: dict[bytes, Place] = {}
        self.counts: dict[str, int] = {}
        """Number of samples of each column that has any, once its rows were given out."""

    def claim(self, digests: Sequence[bytes]) -> list[bytes]:
        """Give a worker samples to store; those of them that another worker stores are returned."""
        others = [digest for digest in digests if digest in self._claimed]
        self._promised.update(others)
        self._claimed.update(digests)
        return others

    def add(self, message: Rows) -> None:
        """Take rows. Raises InvalidSampleError if one of the keys has another value already; says from which items."""
        rows = self._rows.setdefault(message.column, {})
        items = self._items.setdefault(message.column, array("q"))
        for (key, row), item in zip(message.rows, message.items, strict=True):
            there = rows.get(key)
            if there is None:
                rows[key] = row
                items.append(item)
            elif there.identity != row.identity:
                first = items[list(rows).index(key)]
                raise InvalidSampleError(two_values(message.column, key, *sorted((first, item))))
            elif there.place == PROMISED:
                # Of equal rows, the one that says where the sample is must not be lost.
                rows[key] = row

    def add_packs(self, message: Packs) -> None:
        """Take note of what a worker wrote."""
        self.extents |= message.extents
        self.sealed |= message.sealed
        self.spares |= message.spares

    def rows(self) -> Iterator[tuple[str, list[tuple[RowKey, Row]]]]:
        """Give out the rows of each column, once all workers are done: every one with its place."""
        places = self._places()
        while self._rows:
            name, rows = self._rows.popitem()
            self.counts[name] = len(rows)
            yield name, [(key, _kept(row, places)) for key, row in rows.items()]

    def _places(self) -> Mapping[bytes, Place]:
        """Where the samples are that one worker left to another."""
        if not self._promised:
            return {}
        return {
            row.identity[1:]: row.place
            for rows in self._rows.values()
            for row in rows.values()
            if row.place is not None and row.place != PROMISED and row.identity[1:] in self._promised
        }


def _kept(row: Row, places: Mapping[bytes, Place]) -> Row:
    return row._replace(place=places[row.identity[1:]]) if row.place == PROMISED else row
