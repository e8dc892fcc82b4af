"""Repositories that were made to harm who reads them: intact by every checksum, and wrong in what they say."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from blake3 import blake3

from hangar_cloud import Repository
from hangar_cloud.backends.blocks import MAX_BLOCK_BYTES, Place, encode_block
from hangar_cloud.backends.codecs import Codec
from hangar_cloud.backends.packs import PACK_MAGIC, BlockExtent, encode_trailer, pack_path
from hangar_cloud.backends.values import BYTES_PREFIX, sample_digest
from hangar_cloud.catalog.commits import commit_path
from hangar_cloud.catalog.hint import HINT_PATH
from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.pointers import Pointer, pointer_path
from hangar_cloud.catalog.records import NodeRef, Row, SegmentPlace, records_path
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.sealed_json import canonical
from tests.repository.forging import Forger, inline, text_rows
from tests.repository.making import make_repository

Make = Callable[["Hostile"], None]
MAKERS: Final[dict[str, Make]] = {}
TEXT: Final = ColumnSchema("str")
BYTES: Final = ColumnSchema("bytes")


def hostile(make: Make) -> Make:
    """Register a maker under its name."""
    MAKERS[make.__name__] = make
    return make


class Hostile:
    """A repository that is being made, past everything that would refuse to."""

    def __init__(self, folder: Path) -> None:
        self.repository: Repository = make_repository(folder)
        self.store = folder / ".hangar" / "store"
        self.forger = Forger(self.repository)
        self._seq = 0

    def put(self, name: str, data: bytes) -> None:
        """Any bytes as an object of any name."""
        path = self.store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def seal(self, body: dict[str, Any]) -> bytes:
        """Sealed JSON of any size."""
        body = {**body, "format": 1}
        checksum = blake3(canonical(body)).hexdigest(length=16)
        return canonical({**body, "checksum": checksum}) + b"\n"

    def point(self, commit: Any, branch: str = "master", **change: Any) -> None:
        """A pointer to a commit."""
        self._seq += branch == "master"
        seq = self._seq if branch == "master" else 0
        time = "2026-11-21T08:00:00.000000+00:00"
        body = {**vars(Pointer(branch, seq, None, "commit", time, "", "0" * 32)), "commit": commit, **change}
        body.pop("message", None)
        self.put(pointer_path(branch, seq), self.seal(body))

    def commit(self, columns: dict[str, Any], places: dict[str, Any], **change: Any) -> str:
        """A commit of any contents, with a pointer to it; returns its digest."""
        body = {
            "author": "a",
            "columns": columns,
            "email": "b",
            "message": "c",
            "metadata": None,
            "parents": [],
            "time": "2026-11-21T08:00:00.000000+00:00",
            **change,
        }
        digest = blake3(canonical(body)).hexdigest()
        self.put(commit_path(digest), self.seal({"commit": body, "places": places}))
        self.point(digest)
        return digest

    def column(self, ref: NodeRef | None, schema: dict[str, Any], **change: Any) -> tuple[dict[str, Any], Any]:
        """The JSON of a column, and of its place."""
        entry = {
            "backend": "p0",
            "backend_options": {},
            "count": 0 if ref is None else ref.count,
            "level": 0 if ref is None else ref.level,
            "root": None if ref is None else ref.digest.hex(),
            "schema": schema,
            **change,
        }
        if ref is None:
            return entry, None
        return entry, {
            "checksum": f"{ref.place.checksum:016x}",
            "first": ref.first.hex(),
            "length": ref.place.length,
            "object": ref.place.object.hex(),
            "offset": ref.place.offset,
        }

    def one_column(self, ref: NodeRef | None, schema: dict[str, Any], place: Any = None, **change: Any) -> str:
        """A commit of one column."""
        entry, there = self.column(ref, schema, **change)
        return self.commit({"c": entry}, {} if there is None else {"c": {**there, **(place or {})}})

    def segment(self, data: bytes, count: int, key: Any = 0, level: int = 0) -> NodeRef:
        """A reference to any bytes as a node."""
        name = blake3(data).digest(length=16)
        self.put(records_path(name), data)
        place = SegmentPlace(name, 0, len(data), xxhash.xxh3_64_intdigest(data))
        return NodeRef(level, encode_key(key), count, blake3(data).digest(), place)

    def pack(self, blocks: bytes) -> Place:
        """A pack of any bytes; the place of all of them."""
        extent = BlockExtent(len(PACK_MAGIC), len(blocks))
        data = PACK_MAGIC + blocks + encode_trailer(len(PACK_MAGIC) + len(blocks), [extent])
        name = blake3(data).digest(length=16)
        self.put(pack_path(name), data)
        return Place(name, extent.offset, extent.stored, 0, 0)

    def packed(self, schema: ColumnSchema, place: Place, digest: bytes = b"d" * 32, shape: Any = None) -> None:
        """A commit of one column with one packed sample."""
        row = Row(b"\1" + digest, place, None, shape)
        self.one_column(self.forger.leaf([(encode_key(0), row)], schema), schema.to_json())


def parquet(table: pa.Table, **options: Any) -> bytes:
    """A table as Parquet."""
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False, **options)
    return sink.getvalue()


def places(rows: int, **change: Any) -> pa.Table:
    """The columns of a leaf of packed samples."""
    columns = {
        "key_int": pa.array(range(rows), pa.int64()),
        "digest": pa.array([b"d" * 32] * rows, pa.binary(32)),
        "pack": pa.array([b"p" * 16] * rows, pa.binary(16)),
        **{name: pa.array([8] * rows, pa.int64()) for name in ("offset", "stored", "start", "size")},
    }
    return pa.table({**columns, **change})


@hostile
def a_dictionary_whose_entry_is_repeated(made: Hostile) -> None:
    rows = 100_000
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 20_000]))
    table = pa.table({"key_int": pa.array(range(rows), pa.int64()), "value": values})
    made.one_column(made.segment(parquet(table, row_group_size=rows, compression="zstd"), rows), TEXT.to_json())


@hostile
def a_page_that_inflates(made: Hostile) -> None:
    table = pa.table({"key_int": pa.array([0]), "value_bytes": pa.array([bytes(150_000_000)])})
    for codec in ("zstd", "snappy"):
        data = parquet(table, compression=codec, use_dictionary=False)
        made.one_column(made.segment(data, 1), BYTES.to_json())


@hostile
def values_made_of_those_before_them(made: Hostile) -> None:
    rows = 30_000
    table = pa.table({"key_int": pa.array(range(rows)), "value": pa.array(["y" * 10_000] * rows)})
    encoding = {"value": "DELTA_BYTE_ARRAY", "key_int": "PLAIN"}
    data = parquet(table, use_dictionary=False, column_encoding=encoding, compression="none")
    made.one_column(made.segment(data, rows), TEXT.to_json())


@hostile
def more_rows_than_any_leaf_has(made: Hostile) -> None:
    rows = 20_000_000
    table = pa.table({"key_int": pa.array(np.zeros(rows, np.int64)), "value": pa.array(np.zeros(rows, np.int64))})
    schema = ColumnSchema("ndarray", "flat", "fixed_shape", "<i8", ())
    data = parquet(table, row_group_size=rows, compression="zstd")
    made.one_column(made.segment(data, rows), schema.to_json())


@hostile
def many_row_groups(made: Hostile) -> None:
    table = pa.table({"key_int": pa.array(range(20_000)), "value": pa.array(["x"] * 20_000)})
    made.one_column(made.segment(parquet(table, row_group_size=10), 20_000), TEXT.to_json())


@hostile
def columns_of_wrong_types(made: Hostile) -> None:
    nested = pa.array([[b"d" * 32]])
    for name, values in {
        "key_int": pa.array(["a"]),
        "digest": nested,
        "pack": pa.array([b"p" * 5_000], pa.binary(5_000)),
        "offset": pa.array([8.5]),
        "size": pa.array([8], pa.uint64()),
        "value": pa.array([{"a": 1}]),
    }.items():
        made.one_column(made.segment(parquet(places(1, **{name: values})), 1), BYTES.to_json())


@hostile
def numbers_below_zero_and_parts_of_places(made: Hostile) -> None:
    for name in ("key_int", "offset", "stored", "start", "size"):
        for value in (-1, -(2**63), None, 2**63 - 1):
            table = places(1, **{name: pa.array([value], pa.int64())})
            made.one_column(made.segment(parquet(table), 1), BYTES.to_json())
    made.one_column(made.segment(parquet(places(1, digest=pa.array([None], pa.binary(32)))), 1), BYTES.to_json())


@hostile
def a_footer_of_many_columns(made: Hostile) -> None:
    table = pa.table({f"x{i}": pa.array([1], pa.int8()) for i in range(20_000)})
    made.one_column(made.segment(parquet(table, use_dictionary=False, write_statistics=False), 1), BYTES.to_json())


@hostile
def footers_of_noise(made: Hostile) -> None:
    for footer in (
        b"\xff" * 200_000,
        b"\x1c" * 50_000,
        b"\x19\xfc" + b"\x80" * 100_000,
        b"\x19\xfc\xff\xff\xff\xff\x0f",
    ):
        data = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
        made.one_column(made.segment(data, 1), BYTES.to_json())


@hostile
def a_node_that_is_its_own_child(made: Hostile) -> None:
    leaf = made.forger.leaf(text_rows([1, 2]), TEXT)
    for level in range(1, 8):
        child = NodeRef(level - 1, leaf.first, 10**12, leaf.digest, leaf.place)
        leaf = made.forger.inner([child] * 40)
        leaf = leaf._replace(count=40 * 10**12)
    made.one_column(leaf, TEXT.to_json())


@hostile
def a_tree_in_which_all_ways_lead_to_one_leaf(made: Hostile) -> None:
    node = made.forger.leaf(text_rows([1]), TEXT)
    for _ in range(7):
        keys = [encode_key(key) for key in range(1, 31)]
        node = made.forger.inner([node._replace(first=key) for key in keys])
    made.one_column(node, TEXT.to_json())


@hostile
def children_that_lie_nowhere(made: Hostile) -> None:
    leaf = made.forger.leaf(text_rows([1]), TEXT)
    for change in (
        {"object": b"../../../../etc/passwd"},
        {"object": b"/" * 40_000},
        {"offset": 2**63 - 1},
        {"length": 2**63 - 1},
        {"length": 0},
        {"offset": 2**62, "length": 2**62},
    ):
        child = leaf._replace(place=leaf.place._replace(**change))
        made.one_column(made.forger.inner([child]), TEXT.to_json())
        if "object" not in change:
            made.one_column(leaf, TEXT.to_json(), place=change)
    for first in (b"", b"\1", b"\2no end", b"\3", b"\xff" * 60_000):
        made.one_column(made.forger.inner([leaf._replace(first=first)]), TEXT.to_json())


@hostile
def counts_that_cannot_be(made: Hostile) -> None:
    leaf = made.forger.leaf(text_rows([1]), TEXT)
    for count in (2**62, 2**63, 10**30, -1, 0, 1.5, None, "1", True):
        made.one_column(leaf, TEXT.to_json(), count=count)
    for level in (-1, 8, 10**9, 1, 7):
        made.one_column(leaf, TEXT.to_json(), level=level)


@hostile
def keys_that_lead_elsewhere(made: Hostile) -> None:
    for key in ("../../x", "/etc/passwd", "a\0b", "x" * 40_000, "\x1b[2J", ".."):
        try:
            leaf = made.forger.leaf([(encode_key(key), inline(TEXT, "x"))], TEXT)
        except (ValueError, OverflowError):
            continue
        made.one_column(leaf, TEXT.to_json())


@hostile
def shapes_that_cannot_be(made: Hostile) -> None:
    row = Row(b"\0x", None, b"\0" * 8, None)
    good = ColumnSchema("ndarray", "flat", "fixed_shape", "<f8", ())
    leaf = made.forger.leaf([(encode_key(0), row)], good)
    for shape in (
        [10**9] * 3,
        [2**32, 2**32],
        [2**48] * 31,
        [1] * 10**5,
        [10**400],
        [-1],
        [0],
        [2**40],
        ["8"],
        [1.0],
        5,
    ):
        for kind in ("fixed_shape", "variable_shape", "other"):
            schema = {**good.to_json(), "shape": shape, "schema_type": kind}
            made.one_column(leaf, schema)
    for dtype in (
        "f8,f8",
        "(1000000000,)f8",
        "O",
        "<U1000000000",
        "S",
        "a10",
        "f" * 10**5,
        "V8",
        "<f3",
        "<M8[s]",
        8,
        None,
    ):
        made.one_column(leaf, {**good.to_json(), "dtype": dtype})
    for other in ({"column_type": "str"}, {"column_type": "x"}, {"column_layout": "deep"}, {"column_type": ["str"]}):
        made.one_column(leaf, {**good.to_json(), **other})


@hostile
def a_sample_of_another_size_than_its_shape(made: Hostile) -> None:
    blocks = b"".join(encode_block(bytes(MAX_BLOCK_BYTES), Codec(2), b"d" * 32, number) for number in range(200))
    place = made.pack(blocks)
    fixed = ColumnSchema("ndarray", "flat", "fixed_shape", "|u1", (100,))
    varied = ColumnSchema("ndarray", "flat", "variable_shape", "|u1", (100,))
    size = 200 * MAX_BLOCK_BYTES
    made.packed(fixed, place._replace(size=size))
    made.packed(varied, place._replace(size=size), shape=(90,))
    made.packed(fixed, place._replace(start=size - 100, size=100))
    made.packed(BYTES, place._replace(start=2**62, size=100))
    made.packed(BYTES, place._replace(size=100))


@hostile
def blocks_that_lie(made: Hostile) -> None:
    for number, shuffle, raw, body in (
        (1, 0, MAX_BLOCK_BYTES, b"\xff" * 100),
        (2, 0, MAX_BLOCK_BYTES, encode_block(bytes(MAX_BLOCK_BYTES), Codec(2))[24:] * 2),
        (2, 0, 100, encode_block(bytes(MAX_BLOCK_BYTES), Codec(2))[24:]),
        (2, 255, 100, b""),
        (0, 255, 10, b"0123456789"),
        (77, 0, 10, b"0123456789"),
        (200, 0, 10, b"0123456789"),
        (2, 0, 2**32 - 1, b"x"),
    ):
        seed = (number << 48) | (shuffle << 40) | raw
        checksum = xxhash.xxh3_64_intdigest(body, seed)
        header = b"HB" + bytes([number, shuffle, 0]) + bytes(3) + raw.to_bytes(4, "little")
        block = header + len(body).to_bytes(4, "little") + checksum.to_bytes(8, "little") + body
        made.packed(BYTES, made.pack(block)._replace(size=raw))


@hostile
def a_run_of_a_million_empty_blocks(made: Hostile) -> None:
    block = encode_block(b"", Codec(0))
    made.packed(BYTES, made.pack(block * 1_000_000)._replace(size=0), sample_digest(BYTES_PREFIX, b""))


@hostile
def a_pack_with_an_index_larger_than_itself(made: Hostile) -> None:
    place = made.pack(encode_block(b"x" * 100, Codec(0)))
    path = made.store / pack_path(place.pack)
    data = bytearray(path.read_bytes())
    data[-24:-16] = (2**61).to_bytes(8, "little")
    name = blake3(bytes(data)).digest(length=16)
    made.put(pack_path(name), bytes(data))
    made.packed(BYTES, place._replace(pack=name, size=100))


@hostile
def a_pack_of_the_staging_area(made: Hostile) -> None:
    made.packed(BYTES, Place(b"staging\0" + bytes(8), 8, 100, 0, 50))


@hostile
def a_commit_nested_without_end(made: Hostile) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    leaf = made.forger.leaf(text_rows([1]), TEXT)
    made.one_column(leaf, TEXT.to_json(), backend_options={"codec": deep})
    made.put(commit_path("ab" * 32), b'{"a":' * 100_000)
    made.point("ab" * 32)


@hostile
def a_commit_of_very_many_values(made: Hostile) -> None:
    made.put(commit_path("cd" * 32), b'{"commit":[' + b"{}," * 5_000_000 + b"{}]}\n")
    made.point("cd" * 32)


@hostile
def a_commit_of_a_hundred_thousand_columns(made: Hostile) -> None:
    entry, _ = made.column(None, TEXT.to_json())
    made.commit({f"c{number}": entry for number in range(100_000)}, {})


@hostile
def names_that_lead_elsewhere(made: Hostile) -> None:
    entry, _ = made.column(None, TEXT.to_json())
    for name in ("../x", "/etc/passwd", "a\0b", "", "..", "x" * 100, "\ud800", "a b"):
        made.commit({name: entry}, {})
    for commit in ("../../../etc/passwd", "/etc/passwd", "ab/../cd", "", "\0", "0" * 63, "g" * 64, 5, ["x"], {"a": 1}):
        made.point(commit)
    made.put("refs/heads/..x/../../y.json", b"{}")
    for name in ("a b", "\\", "x" * 200, "\x1b[2J"):
        made.put(f"refs/heads/{name}/0000000000.json", b"{}")
        made.put(f"refs/tags/{name}/0000000000.json", b"{}")


@hostile
def pointers_of_wrong_types(made: Hostile) -> None:
    good = made.one_column(made.forger.leaf(text_rows([1]), TEXT), TEXT.to_json())
    for change in (
        {"time": 5},
        {"author": None},
        {"nonce": []},
        {"action": {}},
        {"seq": 1.0},
        {"branch": 5},
        {"more": 1},
    ):
        made.point(good, **change)
    for time in ("", "never", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9" * 100_000):
        made.point(good, time=time)
    made.point(None, branch="other", action="commit")
    made.point("ef" * 32, branch="third", action="tag")


@hostile
def parents_that_cannot_be(made: Hostile) -> None:
    made.commit({}, {}, parents=["../../etc/passwd"])
    made.commit({}, {}, parents=["00" * 32] * 50_000)
    made.commit({}, {}, parents=[5, None])
    made.commit({}, {}, parents=["00" * 32])
    made.commit({}, {}, time="9" * 10_000_000)


@hostile
def a_long_history(made: Hostile) -> None:
    parents: list[str] = []
    for number in range(3_000):
        parents = [made.commit({}, {}, parents=parents, message=str(number))]


@hostile
def words_that_a_terminal_obeys(made: Hostile) -> None:
    made.commit({}, {}, message="\x1b]0;x\x07\ud800\x00", author="\x1b[2J", email="\udfff", time="\x1b[2J")


@hostile
def hints_that_mislead(made: Hostile) -> None:
    made.one_column(made.forger.leaf(text_rows([1]), TEXT), TEXT.to_json())
    for bounds in (
        {"master": 10**10 - 1},
        {"master": -5},
        {"master": 1e308},
        {"master": None},
        {"../x": 1, "a\0": 2},
        {f"b{n}": n for n in range(20_000)},
        [],
        None,
    ):
        made.put(HINT_PATH, made.seal({"branches": bounds, "tags": bounds}))


@hostile
def a_repository_file_with_a_path_for_an_id(made: Hostile) -> None:
    made.put("hangar.json", made.seal({"digest": "blake3-256", "id": "/../../../x", "software": "1"}))


@hostile
def a_repository_file_that_is_not_one(made: Hostile) -> None:
    made.put("hangar.json", b'{"format":1e999,"format":NaN,' + b'"a":[[[' * 1000)


@hostile
def a_repository_file_with_a_member_twice(made: Hostile) -> None:
    made.put("hangar.json", b'{"format":1,"format":2,"id":"x"}\n')


@hostile
def settings_that_mislead(made: Hostile) -> None:
    made.one_column(made.forger.leaf(text_rows([1]), TEXT), TEXT.to_json())
    hangar = made.store.parent
    (hangar / "config.toml").write_text('[remotes."../../x"]\naddress = "zz://../.."\n[user]\nname = 5\n')
    (hangar / "HEAD").write_text("../../../etc/passwd\n")
    (hangar / "remotes" / "origin").mkdir(parents=True)
    (hangar / "remotes" / "origin" / "master.json").write_bytes(made.seal({"commit": "../../etc/passwd"}))
    (hangar / "remotes" / "origin" / "none.json").write_bytes(made.seal({}))
    (hangar / "stash" / "odd").mkdir(parents=True)
    (hangar / "stash" / "odd" / "stash.json").write_text(
        '{"samples": 1e999, "time":[], "branch":1, "base":2, "columns":3}'
    )


@hostile
def settings_nested_without_end(made: Hostile) -> None:
    made.one_column(made.forger.leaf(text_rows([1]), TEXT), TEXT.to_json())
    (made.store.parent / "config.toml").write_text("a = " + "[" * 100_000)


@hostile
def a_staging_area_with_views_and_odd_rows(made: Hostile) -> None:
    import duckdb

    made.one_column(made.forger.leaf(text_rows([1]), TEXT), TEXT.to_json())
    folder = made.store.parent / "staging" / "0"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    database = duckdb.connect(str(folder / "staging.duckdb"))
    database.execute("CREATE VIEW samples AS SELECT * FROM read_csv('/etc/passwd')")
    database.close()


@hostile
def staged_columns_that_cannot_be(made: Hostile) -> None:
    import duckdb

    digest = made.one_column(made.forger.leaf(text_rows([1]), TEXT), TEXT.to_json())
    writer = made.repository.checkout(write=True)
    writer.add_str_column("staged")["x"] = "y"
    writer.close()
    folder = made.store.parent / "staging" / "0"
    database = duckdb.connect(str(folder / "staging.duckdb"))
    database.execute("UPDATE columns SET entry = ?", [json.dumps({"schema": {"shape": [10**9] * 40}, "from": "../x"})])
    database.execute("UPDATE settings SET value = '{\"x\": []}' WHERE name = 'landing'")
    database.close()
    assert digest


@hostile
def an_index_of_places_that_cannot_be(made: Hostile) -> None:
    made.one_column(made.forger.leaf(text_rows([1]), TEXT), TEXT.to_json())
    folder = made.store.parent / "index"
    folder.mkdir(exist_ok=True)
    for number in range(20):
        (folder / f"{number}.places").write_bytes(b"\xff" * (96 * 10 + number))
