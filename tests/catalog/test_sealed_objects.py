"""Commits, pointers and hangar.json: every byte of them counts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.catalog.commits import ColumnEntry, Commit, decode_commit
from hangar_cloud.catalog.pointers import Pointer, decode_pointer
from hangar_cloud.catalog.records import NodeRef, SegmentPlace
from hangar_cloud.catalog.repository_file import decode_repository_file, new_repository_file
from hangar_cloud.catalog.schema import ColumnSchema, array_schema
from hangar_cloud.catalog.sealed_json import canonical, seal, unseal

ROOT = NodeRef(1, b"\1" + bytes(8), 7, bytes(range(32)), SegmentPlace(b"o" * 16, 5, 900, 2**64 - 1))
COMMIT = Commit(
    ("a" * 64,),
    {
        "empty": ColumnEntry(ColumnSchema("bytes")),
        "images": ColumnEntry(
            array_schema((2, 3), ">f4", None, False, False, ""), ROOT, "p0", {"codec": "zstd", "level": 3}
        ),
        "text": ColumnEntry(ColumnSchema("str"), ROOT._replace(level=0), "i0"),
    },
    "Zoë \ud800",
    "z@example.org",
    "2026-01-02T03:04:05.000006+00:00",
    'quotes " and \\ and \0',
    ColumnEntry(ColumnSchema("str"), ROOT, "i0"),
)
POINTER = Pointer("master", 3, "b" * 64, "commit", "2026-01-02T03:04:05.000006+00:00", "Zoë", "c" * 32)
REPOSITORY = new_repository_file("0.1")[1]
READERS: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "commit": (COMMIT.encode(), lambda text: decode_commit(text, COMMIT.digest())),
    "pointer": (POINTER.encode(), lambda text: decode_pointer(text, "master", 3)),
    "repository": (REPOSITORY, lambda text: decode_repository_file(text, "here")),
}


def test_they_come_back():
    for text, read in READERS.values():
        assert read(text) == read(bytes(text))
    assert decode_commit(COMMIT.encode(), COMMIT.digest()) == COMMIT
    assert decode_pointer(POINTER.encode(), "master", 3) == POINTER


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("flip", [0x01, 0x10, 0x80, 0xFF])
def test_every_flipped_byte_is_noticed(kind, flip):
    text, read = READERS[kind]
    for position in range(len(text)):
        damaged = bytearray(text)
        damaged[position] ^= flip
        with pytest.raises((CorruptDataError, UnsupportedFormatError)):
            read(bytes(damaged))


@pytest.mark.parametrize("kind", READERS)
def test_every_truncation_and_addition_is_noticed(kind):
    text, read = READERS[kind]
    for length in range(len(text)):
        with pytest.raises(CorruptDataError):
            read(text[:length])
    for more in (b"\n", b" ", b"\0", text, b"{}"):
        for changed in (text + more, more + text):
            with pytest.raises(CorruptDataError):
                read(changed)


@pytest.mark.parametrize("kind", READERS)
def test_the_same_json_written_otherwise_is_refused(kind):
    text, read = READERS[kind]
    data = json.loads(text)
    for changed in (json.dumps(data).encode() + b"\n", text.replace(b'":', b'" :', 1), text.decode().encode("utf-16")):
        with pytest.raises(CorruptDataError):
            read(changed)


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["format", "checksum", "id", "x"]), inner)
        ),
    ).map(lambda data: json.dumps(data).encode())
)
def test_noise_is_damage(noise):
    for _, read in READERS.values():
        with pytest.raises((CorruptDataError, UnsupportedFormatError)):
            read(noise)


def test_extreme_json_is_damage():
    for text in (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
        b'{"format":1e999,"checksum":""}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{",
    ):
        for _, read in READERS.values():
            with pytest.raises((CorruptDataError, UnsupportedFormatError)):
                read(text)


def test_another_entrys_bytes_are_damage():
    for branch, seq in (("master", 4), ("side", 3)):
        with pytest.raises(CorruptDataError, match="belongs"):
            decode_pointer(POINTER.encode(), branch, seq)
    with pytest.raises(CorruptDataError, match="digest"):
        decode_commit(COMMIT.encode(), "0" * 64)


def test_a_later_format_is_called_later():
    for kind, (text, read) in READERS.items():
        data = json.loads(text)
        data.pop("checksum")
        data["format"] = 2
        sealed = canonical({**data, "checksum": _checksum(data)}) + b"\n"
        with pytest.raises(UnsupportedFormatError, match="[Uu]pgrade"):
            read(sealed)
        assert kind


def _checksum(body: dict[str, Any]) -> str:
    from blake3 import blake3

    return blake3(canonical(body)).hexdigest(length=16)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "f" * 64, "o" * 32, "ndarray", "nested", "O", "(2,3)i4", "i4,f4", "<f4", "\ud800", "/", "zz"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def _paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(data, dict):
        for key, value in data.items():
            found += _paths(value, (*path, key))
    return found


@given(st.data(), VALUES, st.booleans())
@settings(max_examples=400)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy's, for dtype texts of old
def test_forged_commits_raise_our_errors_only(data, value, drop):
    """Any member replaced or left out, and sealed with a right checksum."""
    body = unseal(COMMIT.encode(), "")
    path = data.draw(st.sampled_from(_paths(body)))
    holder = body
    for step in path[:-1]:
        holder = holder[step]
    if drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    from blake3 import blake3

    digest = blake3(canonical(body.get("commit"))).hexdigest()
    try:
        commit = decode_commit(seal(body), digest)
    except (CorruptDataError, UnsupportedFormatError):
        return
    assert commit.digest() == digest


@given(st.dictionaries(st.sampled_from([*vars(POINTER), "unknown"]), VALUES))
def test_forged_pointers_raise_our_errors_only(changes):
    with contextlib.suppress(CorruptDataError, UnsupportedFormatError):
        decode_pointer(seal({**vars(POINTER), **changes}), "master", 3)


@given(st.dictionaries(st.sampled_from(["column_type", "column_layout", "schema_type", "dtype", "shape"]), VALUES))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forged_schemas_raise_our_errors_or_work(changes):
    data = {**array_schema((2, 3), "<f4", None, False, False, "").to_json(), **changes}
    try:
        schema = ColumnSchema.from_json(data)
    except (CorruptDataError, UnsupportedFormatError):
        return
    with contextlib.suppress(CorruptDataError):
        schema.decode(bytes(24), None)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=()), max_size=5).filter(lambda n: n not in ("format", "checksum")),
        VALUES,
        max_size=4,
    )
)
def test_whatever_is_sealed_comes_back(body):
    assert unseal(seal(body), "it") == body


def test_time_and_parents_and_places_make_another_commit_or_not():
    from dataclasses import replace

    assert replace(COMMIT, time="2026").digest() != COMMIT.digest()
    assert replace(COMMIT, parents=()).digest() != COMMIT.digest()
    moved = {
        n: replace(e, root=e.root and e.root._replace(place=SegmentPlace(b"n" * 16, 1, 2, 3)))
        for n, e in COMMIT.columns.items()
    }
    assert replace(COMMIT, columns=moved).digest() == COMMIT.digest()
    assert np.dtype(moved["images"].schema.numpy_dtype).byteorder == ">"
