"""Rows of the staging area as its database holds them, and back (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.packs import staged_pack_number
from hangar_cloud.catalog.keys import KeyType, RowKey, check_key, encode_key
from hangar_cloud.catalog.place_table import Places
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.row_batch import RowBatch
from hangar_cloud.catalog.tombstones import tombstone_digest


def samples_table(rows: list[list[Any]]) -> Any:
    """Rows of the table `samples` as Arrow has them."""
    import pyarrow as pa

    numbers, text, binary = pa.int64(), pa.string(), pa.binary()
    types = [numbers, text, numbers, text, numbers, text, binary, binary, *[numbers] * 4, binary, pa.list_(numbers)]
    return _table(rows, types)


def batch_table(sequence: int, name: str, batch: RowBatch) -> Any:
    """Rows of the table `samples` that stage a batch of a column, as Arrow has them; made without a look at each.

    Nothing of `pyarrow.compute` is used: importing it takes longer than staging 50,000 rows.
    """
    import pyarrow as pa

    count = len(batch)
    keys = batch.row_keys
    subs: list[Any] = [pa.nulls(count, pa.int64()), pa.nulls(count, pa.string())]
    if type(keys[0]) is tuple:
        subs = _key_columns([key[1] for key in keys])  # type: ignore[index]
        keys = [key[0] for key in keys]  # type: ignore[index]
    places = [pa.nulls(count, pa.binary()), *[pa.nulls(count, pa.int64())] * 4]
    if batch.places is not None:
        there = slice(None) if batch.packed is None else batch.packed
        absent = None if batch.packed is None else ~batch.packed
        places = [_binary(batch.places, absent)]
        places += [pa.array(_spread(numbers, count, there), mask=absent) for numbers in batch.places.numbers]
    values = pa.nulls(count, pa.binary()) if batch.values is None else pa.array(list(batch.values), pa.binary())
    shapes = batch.shapes if batch.shapes is not None else pa.nulls(count, pa.list_(pa.int64()))
    columns = [
        pa.array(np.full(count, sequence, np.int64)),
        pa.array([name] * count, pa.string()),
        *_key_columns(keys),
        *subs,
        pa.array(list(batch.identities), pa.binary()),
        *places,
        values,
        pa.array(shapes, pa.list_(pa.int64())),
    ]
    return pa.table(columns, names=[str(i) for i in range(len(columns))])


def _binary(places: Places, absent: npt.NDArray[np.bool_] | None) -> Any:
    """The pack ids of all rows, null where a row has none: all of one length, so their buffers need no look at each."""
    import pyarrow as pa

    data = places.pack_bytes().tobytes()
    if absent is None:
        lengths, valid = np.full(len(places.which), 16, np.int32), None
    else:
        lengths = np.where(absent, 0, 16).astype(np.int32)
        valid = pa.py_buffer(np.packbits(~absent, bitorder="little").tobytes())
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return pa.Array.from_buffers(pa.binary(), len(lengths), [valid, pa.py_buffer(ends.tobytes()), pa.py_buffer(data)])


def _spread(column: npt.NDArray[Any], count: int, there: Any) -> npt.NDArray[Any]:
    """A column of all rows out of one of some of them."""
    spread = np.zeros(count, column.dtype)
    spread[there] = column
    return spread


def _key_columns(keys: Sequence[Any]) -> list[Any]:
    """The two columns of keys, or of parts of them: numbers and text."""
    import pyarrow as pa

    kinds = set(map(type, keys))
    if len(kinds) > 1:
        numbers, texts = zip(*map(number_or_text, keys), strict=True)
        return [pa.array(numbers, pa.int64()), pa.array(texts, pa.string())]
    if kinds == {int}:
        return [pa.array(np.array(keys, np.int64)), pa.nulls(len(keys), pa.string())]
    return [pa.nulls(len(keys), pa.int64()), pa.array(keys, pa.string())]


def spares_table(rows: list[list[Any]]) -> Any:
    """Rows of the table `spares` as Arrow has them."""
    import pyarrow as pa

    return _table(rows, [pa.binary(), pa.binary(), *[pa.int64()] * 4])


def extents_table(rows: list[list[Any]]) -> Any:
    """Rows of the table `extents` as Arrow has them."""
    import pyarrow as pa

    return _table(rows, [pa.int64()] * 3)


def columns_table(rows: list[list[Any]]) -> Any:
    """Rows of the table `columns` as Arrow has them."""
    import pyarrow as pa

    return _table(rows, [pa.int64(), *[pa.string()] * 3])


def batches_table(rows: list[list[Any]]) -> Any:
    """Rows of the table `batches` as Arrow has them."""
    import pyarrow as pa

    return _table(rows, [pa.int64(), pa.string(), pa.int64(), pa.binary()])


def sealed_table(rows: list[list[Any]]) -> Any:
    """Rows of the table `sealed` as Arrow has them."""
    import pyarrow as pa

    return _table(rows, [pa.int64(), pa.binary()])


def settings_table(rows: list[list[Any]]) -> Any:
    """Rows of the table `settings` as Arrow has them."""
    import pyarrow as pa

    return _table(rows, [pa.string()] * 2)


def _table(rows: list[list[Any]], types: list[Any]) -> Any:
    import pyarrow as pa

    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), types, strict=True)]
    return pa.table(arrays, names=[str(i) for i in range(len(types))])


def key_of(number: int | None, text: str | None, sub_number: int | None, sub_text: str | None) -> RowKey:
    """The key in four cells of a row. Raises InvalidNameError if it cannot be one."""
    key = _number_and_text(number, text)
    if sub_number is None and sub_text is None:
        return key
    return key, _number_and_text(sub_number, sub_text)


def _number_and_text(number: int | None, text: str | None) -> KeyType:
    return check_key(text if number is None else number)


def number_or_text(key: KeyType) -> tuple[int | None, str | None]:
    """The two cells that a key, or a part of one, takes."""
    return (key, None) if isinstance(key, int) else (None, key)


def row_of(
    identity: bytes | None,
    pack: bytes | None,
    offset: int,
    stored: int,
    start: int,
    size: int,
    value: bytes | None,
    shape: list[int] | None,
) -> Row | None:
    """The row in the cells of one; None where it is a deletion."""
    if identity is None:
        return None
    place = None if pack is None else Place(bytes(pack), offset, stored, start, size)
    dimensions = None if shape is None else tuple(shape)
    return Row(bytes(identity), place, None if value is None else bytes(value), dimensions)


def held_rows(
    rows: list[tuple[Any, ...]], digests: Collection[bytes], spares: Collection[bytes] | None
) -> list[tuple[str, RowKey, bytes]]:
    """Column, key and digest of those rows whose sample is among some, and has bytes in the staging area.

    Args:
        rows: column, the four cells of the key, identity and pack.
        digests: of the samples, as their tombstones are named.
        spares: digests of samples in packs of others that the area has copies of; None if bytes anywhere count.
    """
    if not digests:
        return []
    named = ((name, key_of(*keys), bytes(identity), pack) for name, *keys, identity, pack in rows)
    found = ((name, key, tombstone_digest(encode_key(key), identity), pack) for name, key, identity, pack in named)
    return [
        (name, key, digest)
        for name, key, digest, pack in found
        if digest in digests
        if spares is None or pack is None or digest in spares or staged_pack_number(bytes(pack)) is not None
    ]


TABLES: Final[dict[str, Callable[[list[list[Any]]], Any]]] = {
    "settings": settings_table,
    "columns": columns_table,
    "samples": samples_table,
    "batches": batches_table,
    "extents": extents_table,
    "sealed": sealed_table,
    "spares": spares_table,
}
"""Every table of the database, and what makes an Arrow table of its rows."""
