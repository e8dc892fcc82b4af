"""Where the samples of a loader lie: from records alone, without their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.catalog.records import NodeRef
from hangar_cloud.column import ColumnReader
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.records import VALUE_OVERHEAD, Spots
from hangar_cloud.loaders.selection import FEW, SampleKey, Selection


class Rows(NamedTuple):
    """The row of each sample in the records of a column: the number of its leaf, and its number in that."""

    leaves: list[NodeRef]
    leaf: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]


class Whereabouts(NamedTuple):
    """What the records of a column say of the samples of a selection.

    Attributes:
        spots: where their bytes lie.
        rows: their rows; None where samples are several rows, or were looked up one by one.
        values: the values themselves, where all of them stand in the records and are of one shape.
    """

    spots: Spots
    rows: Rows | None = None
    values: npt.NDArray[Any] | None = None


def find(column: ColumnReader, selection: Selection) -> Whereabouts:
    """Where the samples of a selection lie in a column that has them all. Raises as reading records does."""
    if len(selection.keys) * FEW < column._entry.count:
        return Whereabouts(_looked_up(column, selection))
    records = selection.records.take(column)
    spots, keys = records.spots, records.keys
    if column.contains_subsamples and not selection.by_subsample:
        begins = [i for i, key in enumerate(keys) if not i or keys[i - 1][0] != key[0]]
        chosen = _chosen([keys[i][0] for i in begins], selection.keys)
        return Whereabouts(picked(_summed(spots, np.array(begins, np.int64)), chosen))
    wanted: list[Any] = selection.keys
    if selection.by_subsample and not column.contains_subsamples:
        wanted = [key[0] for key in wanted]
    chosen = _chosen(keys, wanted)
    counts = records.counts
    numbers = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    within = np.concatenate([np.empty(0, np.int32), *[np.arange(count, dtype=np.int32) for count in counts]])
    values = records.values
    if chosen is not None:
        numbers, within = numbers[chosen], within[chosen]
        values = None if values is None else values[chosen]
    return Whereabouts(picked(spots, chosen), Rows(records.leaves, numbers, within), values)


def byte_order(spots: Spots) -> Positions | None:
    """The numbers of samples in the order of their bytes; None where they are in it."""
    keys = (spots.pack, spots.offset, spots.start)
    rises = np.ones(max(len(spots.pack) - 1, 0), np.bool_)
    for part in reversed(keys):
        rises = (part[:-1] < part[1:]) | ((part[:-1] == part[1:]) & rises)
    return None if rises.all() else np.lexsort(keys[::-1]).astype(np.int64)


def picked(spots: Spots, chosen: Positions | None) -> Spots:
    """Those of the samples of these numbers, in their order; all if None."""
    return spots if chosen is None else Spots(*(part[chosen] for part in spots))


def _summed(spots: Spots, begins: Positions) -> Spots:
    """Of samples of several rows: where the first lies, and the bytes of all."""
    sizes = np.add.reduceat(spots.size, begins) if len(begins) else spots.size
    return Spots(spots.pack[begins], spots.offset[begins], spots.start[begins], sizes)


def _chosen(keys: list[Any], wanted: list[Any]) -> Positions | None:
    """The number of each wanted key among the keys; None where they are the same."""
    if keys == wanted:
        return None
    number = {key: i for i, key in enumerate(keys)}
    return np.fromiter((number[key] for key in wanted), np.int64, len(wanted))


def _looked_up(column: ColumnReader, selection: Selection) -> Spots:
    """Of few samples: each is looked up."""
    names: dict[bytes, int] = {}
    table = []
    for keys in _row_keys(column, selection):
        founds: list[Any] = column._find_all(keys)
        place = founds[0].place
        size = sum(VALUE_OVERHEAD + len(f.value) if f.place is None else f.place.size for f in founds)
        if place is None:
            table.append((-1, -1, -1, size))
        else:
            table.append((names.setdefault(place.pack, len(names)), place.offset, place.start, size))
    columns = np.array(table, np.int64).reshape(-1, 4)
    return Spots(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3])


def _row_keys(column: ColumnReader, selection: Selection) -> Iterator[list[SampleKey]]:
    """The keys of the rows of each sample."""
    for key in selection.keys:
        if column.contains_subsamples and not isinstance(key, tuple):
            yield [(key, below) for below in column[key]]  # type: ignore[index]
        elif not column.contains_subsamples and isinstance(key, tuple):
            yield [key[0]]
        else:
            yield [key]
