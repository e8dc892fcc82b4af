"""Rows of one length: they are the sequence that they stand for, and their hashes are those of each."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash

from hangar_cloud.backends.byte_rows import ByteRows, even_rows
from hangar_cloud.backends.xxh3_rows import LONGEST, SHORTEST, xxh3_rows

ROWS = [bytes([i, i + 1, 255 - i]) for i in range(20)]


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_rows_are_the_sequence_that_they_stand_for(kind):
    rows = ByteRows(kind(b"".join(ROWS)), 3)
    assert list(rows) == ROWS
    assert rows == ROWS
    assert rows != ROWS[:-1]
    assert [rows[i] for i in (0, 7, -1)] == [ROWS[0], ROWS[7], ROWS[-1]]
    for part in (slice(3, 9), slice(0, 0), slice(9, 3), slice(15, 99), slice(None, None, 3)):
        assert list(rows[part]) == ROWS[part]
    assert list(rows.take([5, 2, 5])) == [ROWS[5], ROWS[2], ROWS[5]]
    assert [bytes(view) for view in rows.views()] == ROWS
    assert ByteRows.of(rows.matrix) == ROWS
    with pytest.raises(IndexError):
        rows[20]


def test_rows_that_are_handed_out_do_not_change_with_the_buffer():
    buffer = bytearray(b"".join(ROWS))
    rows = ByteRows(memoryview(buffer), 3)
    kept, listed = rows[4], list(rows)
    buffer[:] = bytes(60)
    assert kept == ROWS[4]
    assert listed == ROWS


def test_only_rows_of_one_length_are_joined_into_one_buffer():
    even = ByteRows(b"".join(ROWS), 3)
    joined = ByteRows.joined([even, even[:2]])
    assert isinstance(joined, ByteRows)
    assert joined == [*ROWS, *ROWS[:2]]
    for other in ([b"abc"], ByteRows(b"abcd", 4)):
        assert ByteRows.joined([even, other]) == [*ROWS, *other]
    assert even_rows([]) is None
    assert even_rows([b"a", b"bc"]) is None
    assert even_rows([b"", b""]) is None
    assert even_rows(ROWS) == ROWS


@pytest.mark.parametrize("width", range(SHORTEST, LONGEST + 1))
def test_hashes_of_many_rows_are_those_of_each(width):
    random = np.random.default_rng(width)
    rows = random.integers(0, 256, (5000, width + 3), np.uint8)[:, :width]
    rows[0], rows[1] = 0, 255
    found = xxh3_rows(rows)
    some = [0, 1, 2, 4095, 4096, 4999]
    assert [int(found[i]) for i in some] == [xxhash.xxh3_64_intdigest(rows[i].tobytes()) for i in some]
