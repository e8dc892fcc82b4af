"""Batches of rows as the staging database holds them: one cell for a batch of rows that are all alike (pure).

A row of the table `samples` costs the database ten times as much. `docs/format.md` section 11 says how a cell is laid
out.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import numpy as np

from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.packs import PACK_ID_LENGTH
from hangar_cloud.backends.values import DIGEST_LENGTH, LITERAL_LIMIT
from hangar_cloud.catalog.place_table import NUMBERS, Places
from hangar_cloud.catalog.row_batch import RowBatch

LEAST_ROWS: Final = 64
_LENGTH: Final = 4


class _Head(NamedTuple):
    """What is in a batch: rows, bytes of an identity, bytes of a value (0: packed, or in the identity), packs."""

    rows: int
    identity: int
    value: int
    packs: list[bytes]


def encode_batch(batch: RowBatch) -> bytes | None:
    """A batch of rows as one cell; None where they are few, or not alike enough for that."""
    numbers, identities, values = batch.key_numbers, batch.identities, batch.values
    if len(batch) < LEAST_ROWS or numbers is None or not isinstance(identities, ByteRows):
        return None
    if batch.shapes is not None or not batch.alike:
        return None
    columns: list[Any] = [numbers.astype("<i8"), identities.data]
    packs: list[bytes] = []
    width = 0
    if batch.places is not None:
        packs = list(batch.places.packs)
        columns += [batch.places.which.astype("<i8"), batch.places.numbers.astype("<i8").tobytes()]
    elif not isinstance(values, ByteRows):
        return None
    elif values.width > LITERAL_LIMIT:
        width = values.width
        columns.append(values.data)
    head = {"rows": len(batch), "identity": identities.width, "value": width, "packs": [pack.hex() for pack in packs]}
    text = json.dumps(head, sort_keys=True).encode()
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *columns])


def decode_batch(data: bytes) -> RowBatch:
    """The rows of a cell. Raises ValueError where it is not as `encode_batch` makes them."""
    head, position = _read_head(data)
    rows = head.rows
    sizes = [8 * rows, head.identity * rows]
    sizes += [8 * rows, 8 * len(NUMBERS) * rows] if head.packs else [head.value * rows]
    if position + sum(sizes) != len(data):
        raise ValueError(f"a batch of {rows} rows has {len(data)} bytes")
    parts = []
    for size in sizes:
        parts.append(data[position : position + size])
        position += size
    numbers = np.frombuffer(parts[0], "<i8")
    identities = ByteRows(parts[1], head.identity)
    if numbers.min() < 0 or len(np.unique(numbers)) < rows:
        raise ValueError("a batch has keys that no batch has")
    if (identities.matrix[:, 0] != bool(head.packs or head.value)).any():
        raise ValueError("a batch has an identity that its rows cannot have")
    places, values = None, None
    if head.packs:
        which, found = np.frombuffer(parts[2], "<i8"), np.frombuffer(parts[3], "<i8").reshape(len(NUMBERS), rows)
        if which.min() < 0 or which.max() >= len(head.packs):
            raise ValueError("a batch names a pack that it does not list")
        places = Places(head.packs, which.astype(np.int64), found.astype(np.int64))
    else:
        values = ByteRows(parts[2], head.value) if head.value else ByteRows.of(identities.matrix[:, 1:])
    return RowBatch(numbers.tolist(), identities, None, places, values, None)


def packs_of(data: bytes) -> list[bytes]:
    """Ids of the packs that rows of a cell lie in, or could. Raises ValueError as `decode_batch`."""
    return _read_head(data)[0].packs


def _read_head(data: bytes) -> tuple[_Head, int]:
    """What is in a cell, and where its columns begin."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    try:
        given = json.loads(data[_LENGTH:end])
        packs = [bytes.fromhex(pack) for pack in given["packs"]]
        head = _Head(int(given["rows"]), int(given["identity"]), int(given["value"]), packs)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"a batch is not readable: {error!r}") from error
    packed = head.identity == 1 + DIGEST_LENGTH and not head.value
    inline = not packs and 2 <= head.identity <= 1 + max(LITERAL_LIMIT, DIGEST_LENGTH) and head.value >= 0
    if head.rows < 1 or not (packed if packs else inline) or any(len(pack) != PACK_ID_LENGTH for pack in packs):
        raise ValueError("a batch is not readable: it has a head that no batch has")
    return head, end
