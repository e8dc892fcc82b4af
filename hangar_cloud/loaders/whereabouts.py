"""Where the samples of a loader lie: from records alone, without their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.records import NodeRef
from hangar_cloud.column import ColumnReader
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.selection import SampleKey, Selection

_FEW: Final = 8
_VALUE_OVERHEAD: Final = 64
_MOST_INLINE_BYTES: Final = 64 * 1024 * 1024


class Rows(NamedTuple):
    """The row of each sample in the records of a column: the number of its leaf, and its number in that."""

    leaves: list[NodeRef]
    leaf: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]


class Spots(NamedTuple):
    """Of each sample of a column: its pack (numbered as they are met, -1 for inline), offset, start, and size."""

    pack: Positions
    offset: Positions
    start: Positions
    size: Positions


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
    if len(selection.keys) * _FEW < column._entry.count:
        return Whereabouts(_looked_up(column, selection))
    refs, leaves = _leaves(column)
    names: dict[bytes, int] = {}
    spots = _joined([_spots_of(leaf, column, names) for leaf in leaves])
    keys: list[Any] = [key for leaf in leaves for key in leaf.keys]
    if column.contains_subsamples and not selection.by_subsample:
        begins = [i for i, key in enumerate(keys) if not i or keys[i - 1][0] != key[0]]
        chosen = _chosen([keys[i][0] for i in begins], selection.keys)
        return Whereabouts(_picked(_summed(spots, np.array(begins, np.int64)), chosen))
    wanted: list[Any] = selection.keys
    if selection.by_subsample and not column.contains_subsamples:
        wanted = [key[0] for key in wanted]
    chosen = _chosen(keys, wanted)
    counts = [len(leaf) for leaf in leaves]
    numbers = np.repeat(np.arange(len(leaves), dtype=np.int32), counts)
    within = np.concatenate([np.empty(0, np.int32), *[np.arange(count, dtype=np.int32) for count in counts]])
    values = _inline_values(column, leaves)
    if chosen is not None:
        numbers, within = numbers[chosen], within[chosen]
        values = None if values is None else values[chosen]
    return Whereabouts(_picked(spots, chosen), Rows(refs, numbers, within), values)


def byte_order(spots: Spots) -> Positions | None:
    """The numbers of samples in the order of their bytes; None where they are in it."""
    keys = (spots.pack, spots.offset, spots.start)
    rises = np.ones(max(len(spots.pack) - 1, 0), np.bool_)
    for part in reversed(keys):
        rises = (part[:-1] < part[1:]) | ((part[:-1] == part[1:]) & rises)
    return None if rises.all() else np.lexsort(keys[::-1]).astype(np.int64)


def _leaves(column: ColumnReader) -> tuple[list[NodeRef], list[Leaf]]:
    nodes, entry = column._nodes, column._entry
    refs = list(nodes.leaves(entry.root))
    if not column._storage.holds_everything:
        nodes.prefetch(refs, entry.schema)
    return refs, list(column._leaves())


def _joined(parts: list[Spots]) -> Spots:
    empty = np.empty(0, np.int64)
    return Spots(*(np.concatenate([empty, *[part[i] for part in parts]]) for i in range(4)))


def _picked(spots: Spots, chosen: Positions | None) -> Spots:
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


def _spots_of(leaf: Leaf, column: ColumnReader, names: dict[bytes, int]) -> Spots:
    count, packed, size = len(leaf), leaf.packed, column._entry.schema.fixed_size
    inline = np.full(count, -1, np.int64)
    if packed is None:
        sizes = _inline_sizes(leaf.values) if size is None else np.full(count, size, np.int64)
        return Spots(inline, inline, inline, sizes)
    _, packs, offset, _, start, size_of = packed
    offsets, sizes = np.array(offset, np.int64), np.array(size_of, np.int64)
    if leaf.values is not None:
        sizes = np.where(offsets < 0, _inline_sizes(leaf.values), sizes)
    return Spots(np.where(offsets < 0, -1, _pack_numbers(packs, names)), offsets, np.array(start, np.int64), sizes)


def _pack_numbers(packs: bytes, names: dict[bytes, int]) -> Positions:
    """A number for the pack of each row. Rows that follow each other mostly lie in one."""
    halves = np.frombuffer(packs, np.uint64).reshape(-1, 2)
    changed = np.flatnonzero(np.any(halves[1:] != halves[:-1], axis=1)) + 1
    begins = np.append(np.zeros(1, np.int64), changed)
    numbers = [names.setdefault(packs[i * 16 : i * 16 + 16], len(names)) for i in begins.tolist()]
    return np.repeat(np.array(numbers, np.int64), np.diff(np.append(begins, len(halves))))


def _inline_sizes(values: list[bytes | None] | None) -> Positions:
    return np.array([_VALUE_OVERHEAD + len(value or b"") for value in values or ()], np.int64)


def _inline_values(column: ColumnReader, leaves: list[Leaf]) -> npt.NDArray[Any] | None:
    """All values of a column of fixed shape, if they stand in its records and are not too many to keep."""
    schema = column._entry.schema
    size = schema.fixed_size
    if size is None or column._entry.count * size > _MOST_INLINE_BYTES or not leaves:
        return None
    if not all(leaf.is_inline.all() for leaf in leaves):
        return None
    raws = [leaf.raw_values for leaf in leaves]
    if any(raw is None or raw.shape[1] != size for raw in raws):
        return None
    joined = np.concatenate([raw for raw in raws if raw is not None])
    return joined.reshape(-1).view(schema.numpy_dtype).reshape(len(joined), *(schema.shape or ()))


def _looked_up(column: ColumnReader, selection: Selection) -> Spots:
    """Of few samples: each is looked up."""
    names: dict[bytes, int] = {}
    table = []
    for keys in _row_keys(column, selection):
        founds: list[Any] = column._find_all(keys)
        place = founds[0].place
        size = sum(_VALUE_OVERHEAD + len(f.value) if f.place is None else f.place.size for f in founds)
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
