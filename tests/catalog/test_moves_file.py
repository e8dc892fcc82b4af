"""Entries of a log of moves: what is read is what was written, or refused."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.moves import Move
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.catalog.errors import ObjectTooLargeError
from hangar_cloud.catalog.moves_file import MAX_MOVES, decode_moves, encode_moves
from hangar_cloud.catalog.records import records_path
from hangar_cloud.catalog.segment_file import read_segment, write_segment

IDS = st.binary(min_size=16, max_size=16)
NAMES = st.sampled_from([pack_path, records_path]).flatmap(lambda name: st.tuples(IDS.map(name), IDS.map(name)))
NUMBERS = st.integers(0, 2**62)
COPIES = st.tuples(NAMES, NUMBERS, st.integers(1, 2**40), NUMBERS).map(
    lambda t: Move(t[0][0], t[1], t[2], t[0][1], t[3], t[2])
)
REWRITTEN = st.tuples(COPIES, st.integers(1, 2**40), st.integers(0, 2**64 - 1)).map(
    lambda t: t[0]._replace(size=t[1], checksum=t[2])
)
GONE = COPIES.map(lambda move: move._replace(to=None, at=0, size=0))


def pack(number: int) -> str:
    return pack_path(number.to_bytes(16, "big"))


def some_moves() -> list[Move]:
    return [
        Move(pack(1), 8, 100, pack(2), 8, 100),
        Move(pack(1), 108, 50, None, 0, 0),
        Move(records_path(bytes(16)), 0, 500, records_path(b"x" * 16), 7, 400, 2**64 - 1),
    ]


@given(moves=st.lists(COPIES | REWRITTEN | GONE, min_size=1, unique_by=lambda move: move.path), seq=st.integers(0, 99))
def test_moves_come_back_as_they_were(moves, seq):
    assert sorted(decode_moves(encode_moves(moves, seq), seq), key=repr) == sorted(moves, key=repr)


def test_an_entry_is_the_same_whatever_the_order_of_its_moves():
    assert encode_moves(some_moves(), 3) == encode_moves(some_moves()[::-1], 3)


def test_an_entry_in_the_place_of_another_is_refused():
    with pytest.raises(CorruptDataError, match=r"moves/0000000004.parquet is damaged: it fails its checksum"):
        decode_moves(encode_moves(some_moves(), 3), 4)


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_are_refused_or_mean_the_same(data):
    intact = encode_moves(some_moves(), 0)
    damaged = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(intact) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_moves(bytes(damaged), 0)
    except CorruptDataError:
        return
    assert sorted(found, key=repr) == sorted(some_moves(), key=repr)


@given(st.integers(0, 2000))
def test_an_entry_that_is_cut_short_is_refused(length):
    intact = encode_moves(some_moves(), 0)
    with pytest.raises(CorruptDataError):
        decode_moves(intact[: min(length, len(intact) - 1)], 0)


def reseal(change) -> bytes:
    """An entry with other rows, and checksums that are right for them."""
    moves = some_moves()
    change(moves)
    return encode_moves(moves, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda moves: moves.append(Move(pack(1), 100, 20, pack(3), 8, 20)),
        lambda moves: moves.append(moves[0]._replace(to=pack(3))),
        lambda moves: moves.append(Move(pack(7), -1, 20, pack(3), 8, 20)),
        lambda moves: moves.append(Move(pack(7), 0, 0, pack(3), 8, 0)),
        lambda moves: moves.append(Move(pack(7), 0, 5, pack(3), -8, 5)),
        lambda moves: moves.append(Move(pack(7), 0, 5, pack(3), 8, 6)),
        lambda moves: moves.append(Move(pack(7), 0, 5, pack(3), 8, 0, 5)),
        lambda moves: moves.append(Move(pack(7), 2**63 - 2, 5, pack(3), 8, 5)),
    ],
)
def test_rows_that_cannot_be_are_refused(change):
    with pytest.raises(CorruptDataError, match="is damaged: it "):
        decode_moves(reseal(change), 0)


def test_columns_that_are_missing_are_refused():
    data = encode_moves(some_moves(), 0)
    table = read_segment(data, {"kind": pa.int64(), "object": pa.binary(16)})
    with pytest.raises(CorruptDataError, match="it lacks columns"):
        decode_moves(write_segment(table), 0)


def test_only_packs_and_records_are_moved():
    with pytest.raises(ValueError, match="neither a pack nor a records object"):
        encode_moves([Move("commits/1.json", 0, 5, pack(1), 0, 5)], 0)


def test_a_full_entry_is_read_and_a_fuller_one_is_not_written():
    random.seed(1)
    moves = [Move(pack(n), 8, 100, pack(random.getrandbits(128)), 8, 100) for n in range(MAX_MOVES)]
    data = encode_moves(moves, 0)
    assert len(data) < 60 * MAX_MOVES
    assert len(decode_moves(data, 0)) == MAX_MOVES
    with pytest.raises(ObjectTooLargeError):
        encode_moves([*moves, Move(pack(MAX_MOVES), 8, 100, pack(1), 8, 100)], 0)
