"""Checked values on their way into a column, and what history knows them by (no I/O)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.values import (
    DIGEST_LENGTH,
    LITERAL_LIMIT,
    sample_digests,
    sample_identities,
    sample_identity,
)
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.many_cores import in_order
from hangar_cloud.catalog.schema import ColumnSchema, Payload

INLINE_ARRAY_BYTES: Final = 64
INLINE_TEXT_BYTES: Final = 128
_HASHED_OUTSIDE: Final = 2048
"""From here on BLAKE3 lets other threads run."""
_TASK_BYTES: Final = 1024 * 1024

Data = bytes | memoryview
Shape = tuple[int, ...]


class Incoming(NamedTuple):
    """Values of one column with their keys, each key once.

    Attributes:
        keys: of the values.
        datas: their payloads (`ColumnSchema.encode`).
        shapes: their shapes where the column's vary, else None.
    """

    keys: Sequence[RowKey]
    datas: Sequence[Data]
    shapes: Sequence[Shape] | None

    @staticmethod
    def of(samples: Sequence[tuple[RowKey, Payload]]) -> Incoming:
        """The same out of payloads."""
        shapes = [payload.shape for _, payload in samples if payload.shape is not None]
        return Incoming([key for key, _ in samples], [payload.data for _, payload in samples], shapes or None)

    def identities(self, schema: ColumnSchema) -> Sequence[bytes]:
        """Of each value what history hashes (`sample_identity`)."""
        if self.shapes is not None:
            tasks = zip(self.datas, self.shapes, strict=True)
            return [sample_identity(schema.prefix(shape), data, shape) for data, shape in tasks]
        prefix, size = schema.prefix(None), schema.fixed_size
        if size is None:
            return sample_identities(prefix, self.datas)
        if size <= LITERAL_LIMIT:
            return _marked(0, ByteRows(self.joined_data(), size))
        if size < _HASHED_OUTSIDE:
            return _marked(1, ByteRows(_digests(prefix, self.datas), DIGEST_LENGTH))
        return _marked(1, ByteRows(b"".join(in_order(self._hash_tasks(prefix, size))), DIGEST_LENGTH))

    @property
    def nbytes(self) -> int:
        """Bytes of all payloads."""
        return len(self.datas.data) if isinstance(self.datas, ByteRows) else sum(map(len, self.datas))

    def joined_data(self) -> bytes | memoryview:
        """All payloads, one behind the other."""
        return self.datas.data if isinstance(self.datas, ByteRows) else b"".join(self.datas)

    def _hash_tasks(self, prefix: bytes, size: int) -> Iterator[Callable[[], bytes]]:
        step = max(_TASK_BYTES // size, 1)
        return (partial(_digests, prefix, self.datas[i : i + step]) for i in range(0, len(self.datas), step))

    def packed(self, entry: ColumnEntry, identities: Sequence[bytes]) -> list[bool] | bool:
        """Which of the values go to packs; one answer where it is the same for all.

        Values that stand for themselves are always inline: their record holds them anyway.
        """
        most = _most_inline(entry)
        if entry.schema.fixed_size is not None:
            return entry.schema.fixed_size > max(most, LITERAL_LIMIT)
        flags = [i[0] == 1 and len(data) > most for i, data in zip(identities, self.datas, strict=True)]
        return flags[0] if len(set(flags)) == 1 else flags


def is_packed(entry: ColumnEntry, identity: bytes, size: int) -> bool:
    """Whether a value goes to a pack, as `Incoming.packed` says of many."""
    return identity[0] == 1 and size > _most_inline(entry)


def _most_inline(entry: ColumnEntry) -> int:
    if entry.backend != "i0":
        return -1
    return INLINE_ARRAY_BYTES if entry.schema.column_type == "ndarray" else INLINE_TEXT_BYTES


def _digests(prefix: bytes, datas: Sequence[Data]) -> bytes:
    """Digests of payloads, one behind the other."""
    return b"".join(sample_digests(prefix, datas.views() if isinstance(datas, ByteRows) else datas))


def _marked(mark: int, rows: ByteRows) -> ByteRows:
    """Rows with a byte before each."""
    matrix = np.empty((len(rows), 1 + rows.width), np.uint8)
    matrix[:, 0] = mark
    matrix[:, 1:] = rows.matrix
    return ByteRows.of(matrix)
