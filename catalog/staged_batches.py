"""Batches of rows as the staging database holds them: one cell for a batch of rows that are all alike (pure).

A row of the table `samples` costs the database ten times as much. `docs/format.md` section 11 says how a cell is laid
out.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.packs import PACK_ID_LENGTH
from hangar_cloud.backends.values import DIGEST_LENGTH, LITERAL_LIMIT
from hangar_cloud.catalog.place_table import NUMBERS, Places
from hangar_cloud.catalog.row_batch import RowBatch

LEAST_ROWS: Final = 64
_LENGTH: Final = 4
_NARROW: Final = ("|u1", "<u2", "<u4")


class _Head(NamedTuple):
    """What is in a batch: rows, bytes of an identity and of a value (0: packed, or in the identity), packs, types."""

    rows: int
    identity: int
    value: int
    packs: list[bytes]
    types: list[str]


def encode_batch(batch: RowBatch) -> bytes | None:
    """A batch of rows as one cell; None where they are few, or not alike enough for that."""
    numbers, identities, values = batch.key_numbers, batch.identities, batch.values
    if len(batch) < LEAST_ROWS or numbers is None or not isinstance(identities, ByteRows):
        return None
    if batch.shapes is not None or not batch.alike:
        return None
    columns = [_narrowed(numbers)]
    packs: list[bytes] = []
    width = 0
    if batch.places is not None:
        packs = list(batch.places.packs)
        columns += map(_narrowed, [batch.places.which, *batch.places.numbers])
    elif not isinstance(values, ByteRows):
        return None
    elif values.width > LITERAL_LIMIT:
        width = values.width
    head = {
        "rows": len(batch),
        "identity": identities.width,
        "value": width,
        "packs": [pack.hex() for pack in packs],
        "types": [column.dtype.str for column in columns],
    }
    text = json.dumps(head, sort_keys=True).encode()
    inline = values.data if width and isinstance(values, ByteRows) else b""
    keys, *places = (column.tobytes() for column in columns)
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, keys, identities.data, inline, *places])


def _narrowed(numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Numbers, none below zero, in as few bytes as the greatest takes."""
    greatest = int(numbers.max())
    return numbers.astype(next((kind for kind in _NARROW if greatest <= np.iinfo(kind).max), "<i8"))


def decode_batch(data: bytes) -> RowBatch:
    """The rows of a cell. Raises ValueError where it is not as `encode_batch` makes them."""
    head, position = _read_head(data)
    rows = head.rows
    keys, *kinds = map(np.dtype, head.types)
    sizes = [keys.itemsize * rows, head.identity * rows]
    sizes += [kind.itemsize * rows for kind in kinds] if head.packs else [head.value * rows]
    if position + sum(sizes) != len(data):
        raise ValueError(f"a batch of {rows} rows has {len(data)} bytes")
    parts = []
    for size in sizes:
        parts.append(data[position : position + size])
        position += size
    numbers = np.frombuffer(parts[0], keys).astype(np.int64)
    identities = ByteRows(parts[1], head.identity)
    if numbers.min() < 0 or len(np.unique(numbers)) < rows:
        raise ValueError("a batch has keys that no batch has")
    if (identities.matrix[:, 0] != bool(head.packs or head.value)).any():
        raise ValueError("a batch has an identity that its rows cannot have")
    places, values = None, None
    if head.packs:
        columns = zip(parts[2:], kinds, strict=True)
        which, *found = (np.frombuffer(part, kind).astype(np.int64) for part, kind in columns)
        if which.min() < 0 or which.max() >= len(head.packs):
            raise ValueError("a batch names a pack that it does not list")
        places = Places(head.packs, which, np.stack(found))
    else:
        values = ByteRows(parts[2], head.value) if head.value else ByteRows.of(identities.matrix[:, 1:])
    return RowBatch(numbers.tolist(), identities, None, places, values, None)


def _read_head(data: bytes) -> tuple[_Head, int]:
    """What is in a cell, and where its columns begin."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    try:
        given = json.loads(data[_LENGTH:end])
        packs = [bytes.fromhex(pack) for pack in given["packs"]]
        types = list(given["types"])
        head = _Head(int(given["rows"]), int(given["identity"]), int(given["value"]), packs, types)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"a batch is not readable: {error!r}") from error
    packed = head.identity == 1 + DIGEST_LENGTH and not head.value
    inline = not packs and 2 <= head.identity <= 1 + max(LITERAL_LIMIT, DIGEST_LENGTH) and head.value >= 0
    known = {*_NARROW, "<i8"}.issuperset(types) and len(types) == (2 + len(NUMBERS) if packs else 1)
    if (
        not known
        or head.rows < 1
        or not (packed if packs else inline)
        or any(len(pack) != PACK_ID_LENGTH for pack in packs)
    ):
        raise ValueError("a batch is not readable: it has a head that no batch has")
    return head, end
