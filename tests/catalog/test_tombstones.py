"""Tombstones: what they say, and that nothing else passes for one."""

from __future__ import annotations

import pickle

import pytest

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.catalog.errors import PurgedError
from hangar_cloud.catalog.sealed_json import seal
from hangar_cloud.catalog.tombstones import decode_tombstone, new_tombstone, tombstone_path

DIGEST = bytes(range(32))


def test_a_tombstone_is_read_as_it_was_written():
    made = new_tombstone(DIGEST, "why, ünïcode", "Ada <ada@example.org>", "0.1")
    assert decode_tombstone(made.encode(), DIGEST) == made
    assert tombstone_path(DIGEST) == f"purged/{DIGEST.hex()}.json"


def test_every_flipped_byte_is_noticed():
    text = new_tombstone(DIGEST, "why", "Ada", "0.1").encode()
    for i in range(len(text)):
        with pytest.raises(CorruptDataError):
            decode_tombstone(text[:i] + bytes([text[i] ^ 1]) + text[i + 1 :], DIGEST)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"digest": DIGEST.hex()},
        {"digest": "ab" * 32, "time": "t", "reason": "r", "author": "a", "software": "s"},
        {"digest": DIGEST.hex(), "time": "t", "reason": 5, "author": "a", "software": "s"},
        {"digest": DIGEST.hex(), "time": "t", "reason": "r" * 50_000, "author": "a", "software": "s"},
    ],
)
def test_sealed_text_that_is_no_tombstone_of_the_sample(wrong):
    with pytest.raises(CorruptDataError, match=rf"purged/{DIGEST.hex()}.json is damaged"):
        decode_tombstone(seal(wrong), DIGEST)


def test_what_it_says_cannot_steer_a_terminal():
    error = new_tombstone(DIGEST, "red \x1b[31m", "Eve \x07", "0.1").error()
    assert isinstance(error, PurgedError)
    assert isinstance(error, LookupError)
    assert not isinstance(error, KeyError)
    assert "\x1b" not in str(error)
    assert "by Eve ?: red ?[31m." in str(error)
    assert error.digest == DIGEST.hex()


def test_the_error_comes_through_between_processes():
    error = new_tombstone(DIGEST, "why", "Ada", "0.1").error().at("column 'a', sample 5", "a", 5)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (PurgedError, str(error), vars(error))
    assert (copy.column, copy.key, copy.reason) == ("a", 5, "why")
