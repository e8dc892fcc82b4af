"""Where ranges are found after moves, one upon the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.backends.errors import CorruptDataError, ObjectNotFoundError, PurgedBytesError
from hangar_cloud.backends.move_log import MoveLog, MoveLogs
from hangar_cloud.backends.moves import Move, Moves, Spot, moves_path
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.backends.store.memory import MemoryStore
from hangar_cloud.catalog.moves_file import decode_moves, encode_moves

A, B, C, D = (pack_path(bytes([n]) * 16) for n in range(1, 5))


def log_of(*entries: list[Move]) -> Moves:
    moves = Moves()
    for seq, entry in enumerate(entries):
        moves.add(seq, entry)
    return moves


def test_a_place_that_was_never_moved_is_where_it_is():
    assert log_of([Move(A, 8, 10, B, 8, 10)]).spots(A, 30, 5) == [Spot(A, 30, 5)]
    assert log_of([Move(A, 8, 10, B, 8, 10)]).spots(C, 8, 5) == [Spot(C, 8, 5)]
    assert A not in log_of()


def test_any_part_of_a_copied_range_is_shifted_and_the_old_place_comes_last():
    assert log_of([Move(A, 8, 100, B, 508, 100)]).spots(A, 20, 30) == [Spot(B, 520, 30), Spot(A, 20, 30)]


def test_a_range_that_goes_beyond_what_was_copied_was_not_moved():
    moves = log_of([Move(A, 8, 100, B, 508, 100), Move(A, 108, 10, C, 8, 10)])
    assert moves.spots(A, 100, 12) == [Spot(A, 100, 12)]
    assert moves.spots(A, 0, 12) == [Spot(A, 0, 12)]


def test_where_its_end_is_enough_a_range_is_cut_at_its_beginning():
    moves = log_of([Move(A, 50, 100, B, 8, 100)])
    assert moves.spots(A, 0, 80, 20) == [Spot(B, 8, 30), Spot(A, 0, 80)]
    assert moves.spots(A, 0, 80, 31) == [Spot(A, 0, 80)]


def test_moves_of_moves_are_followed_newest_first():
    moves = log_of([Move(A, 8, 100, B, 108, 100)], [Move(B, 150, 20, C, 8, 20)], [Move(C, 8, 20, D, 1000, 20)])
    assert moves.spots(A, 55, 4) == [Spot(D, 1005, 4), Spot(C, 13, 4), Spot(B, 155, 4), Spot(A, 55, 4)]
    assert moves.spots(A, 10, 4) == [Spot(B, 110, 4), Spot(A, 10, 4)]
    assert moves.targets(A) == {B, C, D}


def test_bytes_that_came_back_to_where_they_were_end_there():
    moves = log_of([Move(A, 8, 10, B, 8, 10)], [Move(B, 8, 10, A, 8, 10)])
    assert moves.spots(A, 8, 10) == [Spot(A, 8, 10), Spot(B, 8, 10)]
    assert moves.spots(B, 8, 10) == [Spot(A, 8, 10), Spot(B, 8, 10)]


def test_a_move_says_nothing_of_what_came_to_its_origin_later():
    moves = log_of([Move(B, 8, 10, C, 8, 10)], [Move(A, 8, 10, B, 8, 10)])
    assert moves.spots(A, 8, 10) == [Spot(B, 8, 10), Spot(A, 8, 10)]


def test_an_object_that_was_made_anew_may_be_moved_anew():
    moves = log_of([Move(A, 8, 10, B, 8, 10)], [Move(A, 8, 10, C, 8, 10)])
    assert moves.spots(A, 8, 10) == [Spot(C, 8, 10), Spot(B, 8, 10), Spot(A, 8, 10)]


def test_of_what_was_rewritten_only_the_new_bytes_count_wherever_these_were_moved():
    moves = log_of([Move(A, 8, 100, B, 8, 100)], [Move(B, 28, 10, C, 8, 7, 123)], [Move(C, 8, 7, D, 50, 7)])
    assert moves.spots(A, 28, 10) == [Spot(D, 50, 7, 123), Spot(C, 8, 7, 123)]
    assert moves.spots(A, 28, 9) == [Spot(B, 28, 9), Spot(A, 28, 9)]
    assert moves.spots(A, 38, 9) == [Spot(B, 38, 9), Spot(A, 38, 9)]


def test_what_is_gone_is_gone_even_if_it_was_copied_meanwhile():
    moves = log_of([Move(A, 8, 10, None, 0, 0)], [Move(A, 8, 10, B, 8, 10)])
    assert moves.spots(A, 8, 10) == [Spot(None, 0, 0)]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 30), st.integers(1, 10)), max_size=12))
def test_every_spot_holds_the_bytes_that_were_asked_for(steps):
    """Objects as the moves make them: each copy appends to its target."""
    contents = [bytearray(bytes([n]) * 40) for n in range(5)]
    originals = [bytes(content) for content in contents]
    names = [pack_path(bytes([n]) * 16) for n in range(5)]
    moves = Moves()
    for seq, (origin, target, offset, length) in enumerate(steps):
        data = contents[origin][offset : offset + length]
        moves.add(seq, [Move(names[origin], offset, length, names[target], len(contents[target]), len(data))])
        contents[target] += data
    for n, original in enumerate(originals):
        for offset in range(0, 40, 3):
            spots = moves.spots(names[n], offset, 3 if offset < 38 else 1)
            assert spots[-1].path is not None
            for spot in spots:
                held = contents[names.index(str(spot.path))][spot.offset : spot.offset + spot.length]
                assert held == original[offset : offset + spot.length]


@pytest.fixture
def store():
    store = MemoryStore("memory://moves-of-a-store")
    store.put(A, b"the first object")
    store.put(C, b"another")
    yield CountingStore(store)
    store.delete([info.path for info in store.list()])


def put_entry(store, seq, *moves):
    assert store.put_if_absent(moves_path(seq), encode_moves(moves, seq))


def test_a_store_without_moves_is_asked_once_for_what_it_has_and_says_what_it_lacks(store):
    logs = MoveLogs(decode_moves)
    assert [found.data for found in logs.get_ranges(store, [(A, 4, 5), (C, 0, 2)])] == [b"first", b"an"]
    assert dict(store.requests) == {"get_range": 2}
    with pytest.raises(ObjectNotFoundError):
        logs.get_ranges(store, [(B, 0, 1)])


def test_what_is_not_there_is_looked_up_and_then_known(store):
    logs = MoveLogs(decode_moves)
    put_entry(store, 0, Move(B, 100, 5, A, 4, 5))
    put_entry(store, 1, Move(D, 0, 3, B, 101, 3), Move(D, 3, 3, C, 0, 3))
    assert [found.data for found in logs.get_ranges(store, [(B, 101, 3), (A, 0, 3)])] == [b"irs", b"the"]
    store.reset()
    assert [found.data for found in logs.get_ranges(store, [(D, 3, 3), (B, 100, 2)])] == [b"ano", b"fi"]
    assert dict(store.requests) == {"get_range": 2}


def test_a_copy_that_is_gone_is_no_reason_not_to_read_an_older_one(store):
    logs = MoveLogs(decode_moves)
    put_entry(store, 0, Move(A, 0, 16, B, 0, 16), Move(C, 0, 7, D, 0, 7))
    assert logs.get_ranges(store, [(A, 4, 5)])[0].data == b"first"
    with pytest.raises(ObjectNotFoundError):
        logs.get_ranges(store, [(D, 0, 1)])
    assert [found.data for found in logs.get_ranges(store, [(A, 4, 5), (C, 0, 7)])] == [b"first", b"another"]


def test_what_was_moved_on_while_it_was_read_is_found(store):
    logs = MoveLogs(decode_moves)
    put_entry(store, 0, Move(B, 0, 7, C, 0, 7))
    assert logs.get_ranges(store, [(B, 0, 7)])[0].data == b"another"
    store.put(D, b"***another")
    put_entry(store, 1, Move(C, 0, 7, D, 3, 7))
    store.delete([C])
    assert logs.get_ranges(store, [(B, 0, 7)])[0].data == b"another"


def test_purged_bytes_say_so_and_what_stands_in_for_others_is_checked(store):
    import xxhash

    logs = MoveLogs(decode_moves)
    sum_ = xxhash.xxh3_64_intdigest(b"first")
    put_entry(store, 0, Move(B, 0, 9, A, 4, 5, sum_), Move(B, 9, 9, A, 4, 6, sum_), Move(B, 20, 5, None, 0, 0))
    found = logs.get_ranges(store, [(B, 0, 9)])
    assert (found[0].data, found[0].rewritten) == (b"first", True)
    with pytest.raises(CorruptDataError, match="written by a purge, are damaged"):
        logs.get_ranges(store, [(B, 9, 9)])
    with pytest.raises(PurgedBytesError, match=f"bytes 20 to 25 of {B} were purged"):
        logs.get_ranges(store, [(B, 20, 5)])


def test_a_damaged_entry_is_told_where_it_may_matter_and_not_where_it_does_not(store):
    logs = MoveLogs(decode_moves)
    store.put(moves_path(0), b"damaged")
    put_entry(store, 1, Move(B, 0, 7, C, 0, 7))
    assert logs.get_ranges(store, [(A, 0, 3)])[0].data == b"the"
    assert logs.get_ranges(store, [(B, 0, 7)])[0].data == b"another"
    with pytest.raises(CorruptDataError, match=r"moves/0000000000.parquet is damaged"):
        logs.get_ranges(store, [(D, 0, 7)])


def test_who_must_not_overlook_a_move_notices_a_damaged_and_a_missing_entry(store):
    assert MoveLog(decode_moves).read_all(store).count == 0
    put_entry(store, 1, Move(B, 0, 7, C, 0, 7))
    with pytest.raises(CorruptDataError, match=r"moves/0000000000.parquet is missing at .* though there is 0000000001"):
        MoveLog(decode_moves).read_all(store)
    store.put(moves_path(0), b"damaged")
    with pytest.raises(CorruptDataError, match=r"moves/0000000000.parquet is damaged"):
        MoveLog(decode_moves).read_all(store)


def test_a_long_log_is_read_in_few_round_trips(store):
    for seq in range(100):
        put_entry(store, seq, Move(B, seq, 1, A, 0, 1))
    asked = []

    def read(names):
        asked.append(len(names))
        return store.get_many(names)

    log = MoveLog(decode_moves)
    assert log.refresh(read)
    assert log.next == log.moves.count == 100
    assert asked == [2, 4, 8, 16, 32, 64]
    assert not log.refresh(store.get_many)
