"""What is staged of a column: rows by key, most of them held in columns and made only where one is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, MutableMapping
from typing import Final

from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.row_batch import RowBatch

_FEW_ROWS: Final = 64
"""Fewer rows at a time are kept as such: a hundred thousand writes of one must not leave as many batches."""


class StagedRows(MutableMapping[RowKey, Row | None]):
    """Rows by key, None where a sample is deleted; some 150 bytes a row beside what its batch takes."""

    def __init__(self) -> None:
        self.cells: dict[RowKey, Row | int | None] = {}
        """By key the row, or its number among those of all batches."""
        self._batches: list[RowBatch] = []
        self._starts: list[int] = []
        self._end = 0

    def __getitem__(self, key: RowKey) -> Row | None:
        cell = self.cells[key]
        return self._row(cell) if type(cell) is int else cell  # type: ignore[return-value]

    def __setitem__(self, key: RowKey, row: Row | None) -> None:
        self.cells[key] = row

    def __delitem__(self, key: RowKey) -> None:
        del self.cells[key]

    def __contains__(self, key: object) -> bool:
        return key in self.cells

    def __iter__(self) -> Iterator[RowKey]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, batch: RowBatch) -> None:
        """Set all rows of a batch."""
        if len(batch) < _FEW_ROWS:
            self.cells.update(batch)
            return
        self.cells.update(zip(batch.row_keys, range(self._end, self._end + len(batch)), strict=True))
        self._batches.append(batch)
        self._starts.append(self._end)
        self._end += len(batch)

    def copy(self) -> StagedRows:
        """Another one of the same rows."""
        other = StagedRows()
        other.cells, other._batches, other._starts = dict(self.cells), list(self._batches), list(self._starts)
        other._end = self._end
        return other

    def as_batch(self) -> RowBatch | None:
        """All rows as one batch; None where that gains nothing: most came one by one, or some are deletions."""
        numbers = [cell for cell in self.cells.values() if type(cell) is int]
        if len(numbers) * 2 < len(self.cells) or not numbers:
            return None
        loose: list[tuple[RowKey, Row]] = []
        if len(numbers) < len(self.cells):
            for key, cell in self.cells.items():
                if cell is None:
                    return None
                if not isinstance(cell, int):
                    loose.append((key, cell))
        whole = RowBatch.joined(self._batches)
        if len(numbers) < self._end:
            whole = whole.take(numbers)
        return RowBatch.joined([whole, RowBatch.of(loose)]) if loose else whole

    def _row(self, number: int) -> Row:
        i = bisect_right(self._starts, number) - 1
        return self._batches[i].row(number - self._starts[i])
