"""Records objects that are written again without some of the values in their leaves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from hangar_cloud.backends.copies import Copies
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.moves import Move, Moves, Spot
from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.backends.values import STR_PREFIX, sample_digest, sample_identity
from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.parquet_footer import combine_segments, segment_starts
from hangar_cloud.catalog.record_erase import DoomedLeaf, erase_values
from hangar_cloud.catalog.records import Row, leaf_digest, records_path
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import decode_leaf, encode_leaf

SCHEMA = ColumnSchema("str", "flat", "variable_shape")


def value_of(number):
    return f"{number}: a text that is too long to stand for itself".encode()


def entries_of(numbers):
    return [
        (encode_key(n), Row(sample_identity(STR_PREFIX, value_of(n), None), None, value_of(n), None)) for n in numbers
    ]


def object_of(*leaves):
    from blake3 import blake3

    data = combine_segments([encode_leaf(entries_of(numbers), SCHEMA) for numbers in leaves])
    return data, records_path(blake3(data).digest(length=16))


def doomed_leaf(data, number, rows):
    starts = [*segment_starts(data), len(data)]
    end = starts[number + 1]
    if number == len(starts) - 2 and number:
        end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return DoomedLeaf(starts[number], end - starts[number], SCHEMA, rows)


@pytest.mark.parametrize(("leaves", "which"), [([range(5)], 0), ([range(5), range(5, 9), range(9, 20)], 1)])
def test_one_value_goes_and_every_digest_stays(leaves, which):
    data, path = object_of(*leaves)
    numbers = list(leaves[which])
    secret = numbers[2]
    doomed = doomed_leaf(data, which, len(numbers))
    erased = erase_values(data, path, [doomed], {sample_digest(STR_PREFIX, value_of(secret))})
    assert erased.erased == len(value_of(secret))
    moves = Moves()
    moves.add(0, erased.moves)
    starts = [*segment_starts(data)]
    assert sum(move.length for move in erased.moves) >= len(data) - 8 - int.from_bytes(data[-8:-4], "little") or (
        len(leaves) == 1
    )
    for i, rows in enumerate(leaves):
        leaf = doomed_leaf(data, i, len(rows))
        spot = moves.spots(path, starts[i], leaf.length)[0]
        found = erased.objects[str(spot.path)][spot.offset : spot.offset + spot.length]
        assert (spot.checksum is not None) == (i == which)
        assert spot.checksum in (None, xxhash.xxh3_64_intdigest(found))
        decoded = decode_leaf(found, SCHEMA, len(rows))
        assert leaf_digest(decoded.entries()) == leaf_digest(entries_of(rows))
        for number, (_, row) in zip(rows, decoded.entries(), strict=True):
            assert row.value == (None if number == secret else value_of(number))
            assert (row.place is not None and row.place.pack == NO_PACK) == (number == secret)
        assert decoded.packs() == set()
        assert list(decoded.extents()) == []
    for new in erased.objects.values():
        values = pq.read_table(pa.BufferReader(new)).column("value").to_pylist()
        assert value_of(secret).decode() not in values


def test_other_places_and_damage_are_refused():
    data, path = object_of(range(5), range(5, 9))
    doomed = doomed_leaf(data, 0, 5)
    with pytest.raises(CorruptDataError, match="no segment lies at byte 1"):
        erase_values(data, path, [doomed._replace(offset=1)], {bytes(32)})
    with pytest.raises(CorruptDataError, match="do not match its name"):
        erase_values(data[:-1], path, [doomed], {bytes(32)})


def test_copies_are_found_wherever_bytes_were_ever_moved():
    first, second, third = (f"packs/{n:02x}/{bytes([n] * 16).hex()}.pack" for n in (1, 2, 3))
    moves = Moves()
    moves.add(0, [Move(first, 8, 100, second, 50, 100)])
    moves.add(1, [Move(second, 60, 10, third, 8, 7, 99), Move(second, 50, 10, None, 0, 0)])
    moves.add(2, [Move(first, 8, 100, third, 500, 100)])
    copies = Copies(moves)
    assert copies.of(first, 18, 10) == {
        Spot(first, 18, 10),
        Spot(second, 60, 10),
        Spot(third, 8, 7),
        Spot(third, 510, 10),
    }
    assert copies.of(first, 8, 10) == {Spot(first, 8, 10), Spot(second, 50, 10), Spot(third, 500, 10)}
    assert copies.of(first, 100, 20) == {Spot(first, 100, 20)}
    assert np.unique([len(copies.of(third, n, 1)) for n in range(9)]).tolist() == [1]
