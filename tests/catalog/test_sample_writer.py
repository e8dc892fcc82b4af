"""Storing samples: once each, small ones together, in the codec that suits them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangar_cloud.backends.blocks import GROUP_BYTES, HEADER_LENGTH, MAX_BLOCK_BYTES, Place
from hangar_cloud.backends.codecs import LZ4, RAW, ZSTD
from hangar_cloud.catalog import digest_index, sample_writer
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.schema import array_schema
from tests.catalog.bench import Bench, committed, image, plains


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    bench.add("images")
    yield bench
    bench.close()


def place_of(bench: Bench, name: str, key: Any) -> Place:
    place = bench.row(name, key).place
    assert place is not None
    return place


def stored_bytes(bench: Bench) -> int:
    return sum(extent.stored for extents in bench.staging.extents().values() for extent in extents)


class TestEqualSamplesAreStoredOnce:
    def test_within_a_batch_across_batches_and_across_columns(self, bench):
        bench.add("more")
        bench.put("images", {0: image(1), 1: image(1), 2: image(2)})
        assert place_of(bench, "images", 0) == place_of(bench, "images", 1)
        size = stored_bytes(bench)
        bench.put("images", {3: image(2), "3": image(1)})
        bench.put("more", {0: image(1)})
        assert stored_bytes(bench) == size
        assert place_of(bench, "more", 0) == place_of(bench, "images", "3") == place_of(bench, "images", 0)

    def test_across_commits(self, bench):
        bench.put("images", {i: image(i) for i in range(30)})
        bench.commit()
        before = place_of(bench, "images", 4)
        bench.put("images", {100 + i: image(i) for i in range(30)})
        assert bench.staging.extents() == {}
        assert place_of(bench, "images", 104) == before
        bench.commit()
        assert committed(bench.folder, "images") == plains(
            {**{i: image(i) for i in range(30)}, **{100 + i: image(i) for i in range(30)}}
        )
        assert len(list((bench.folder / "store").rglob("*.pack"))) == 1

    def test_after_opening_again(self, bench, tmp_path):
        bench.put("images", {0: image(0)})
        bench.close()
        again = Bench(tmp_path)
        size = stored_bytes(again)
        again.put("images", {1: image(0)})
        assert stored_bytes(again) == size
        again.commit()
        again.close()
        third = Bench(tmp_path)
        third.put("images", {2: image(0)})
        assert third.staging.extents() == {}
        assert third.contents("images") == plains(dict.fromkeys(range(3), image(0)))
        third.close()

    def test_after_the_index_was_lost(self, bench, tmp_path):
        bench.put("images", {i: image(i) for i in range(10)})
        bench.commit()
        bench.close()
        shutil.rmtree(tmp_path / "index")
        again = Bench(tmp_path)
        again.put("images", {50: image(5)})
        assert again.staging.extents() == {}
        assert place_of(again, "images", 50) == place_of(again, "images", 5)
        again.close()

    def test_a_sample_whose_pack_is_gone_is_stored_again(self, bench, tmp_path):
        bench.put("images", {0: image(0), 1: image(1)})
        bench.commit()
        bench.close()
        shutil.rmtree(tmp_path / "store" / "packs")
        again = Bench(tmp_path)
        again.put("images", {0: image(0), 5: image(0)})
        assert set(again.staging.extents()) == {0}
        again.put("images", {1: None})
        again.commit()
        assert committed(tmp_path, "images") == plains({0: image(0), 5: image(0)})
        again.close()

    def test_equal_bytes_of_another_shape_are_another_sample(self, bench):
        bench.add("varied")
        value = np.random.default_rng(0).random((4, 25), np.float32)
        bench.put("varied", {"a": value, "b": value.reshape(25, 4), "c": value.reshape(10, 10)})
        rows = [bench.row("varied", key) for key in "abc"]
        assert len({row.identity for row in rows}) == 3
        assert [row.shape for row in rows] == [(4, 25), (25, 4), (10, 10)]
        assert bench.contents("varied") == plains({"a": value, "b": value.reshape(25, 4), "c": value.reshape(10, 10)})


class TestBlocks:
    def test_small_samples_share_blocks(self, bench):
        bench.put("images", {i: image(i) for i in range(500)})
        places = [place_of(bench, "images", i) for i in range(500)]
        blocks = {place.offset for place in places}
        per_block = GROUP_BYTES // 200
        assert len(blocks) == -(-500 // per_block)
        assert all(place.start + place.size <= GROUP_BYTES for place in places)
        assert stored_bytes(bench) <= 500 * 200 + len(blocks) * HEADER_LENGTH

    def test_the_sizes_where_sharing_ends(self, tmp_path):
        bench = Bench(tmp_path)
        bench.add("blobs", "p0", codec="raw")
        half = GROUP_BYTES // 2
        sizes = {0: 33, 1: half, 2: half, 3: half + 1, 4: 1000, 5: GROUP_BYTES, 6: GROUP_BYTES * 4 + 1, 7: 40}
        values = {key: image(key, size).tobytes() for key, size in sizes.items()}
        bench.put("blobs", values)
        assert bench.contents("blobs") == values
        alone = [key for key, size in sizes.items() if size > half]
        offsets = [place_of(bench, "blobs", key).offset for key in sizes]
        for key in alone:
            assert offsets.count(place_of(bench, "blobs", key).offset) == 1
            assert place_of(bench, "blobs", key).start == 0
        bench.commit()
        assert committed(tmp_path, "blobs") == values
        bench.close()

    def test_a_huge_sample_is_several_blocks(self, bench):
        bench.add("blobs", "p0")
        value = image(3, 2 * MAX_BLOCK_BYTES + 12345).tobytes()
        bench.put("blobs", {"big": value, "small": b"s" * 100, "again": value})
        place = place_of(bench, "blobs", "big")
        assert place.stored == len(value) + 3 * HEADER_LENGTH
        assert place == place_of(bench, "blobs", "again")
        assert bench.contents("blobs") == {"big": value, "small": b"s" * 100, "again": value}
        bench.commit()
        assert committed(bench.folder, "blobs")["big"] == value

    def test_packs_are_sealed_at_their_size(self, bench, monkeypatch):
        from hangar_cloud.backends import pack_writer

        monkeypatch.setattr(pack_writer, "PACK_BYTES", 20_000)
        values = {i: image(i) for i in range(300)}
        for start in range(0, 300, 20):
            bench.put("images", {i: values[i] for i in range(start, start + 20)})
        assert len(bench.staging.extents()) > 2
        again = bench.reopen()
        again.put("images", {"more": image(999)})
        again.commit()
        assert committed(bench.folder, "images") == plains({**values, "more": image(999)})
        again.close()


class TestInline:
    def test_small_values_are_inline_and_large_ones_packed_in_one_column(self, bench):
        bench.add("text")
        texts = {i: "x" * i for i in (0, 1, 31, 32, 33, 127, 128, 129, 500)}
        bench.put("text", texts)
        assert [i for i in texts if bench.row("text", i).place is None] == [0, 1, 31, 32, 33, 127, 128]
        assert bench.contents("text") == texts

    def test_literals_are_inline_whatever_the_backend(self, bench):
        bench.add("blobs", "p0")
        blobs = {i: bytes(range(i)) for i in (0, 1, 32, 33, 64)}
        bench.put("blobs", blobs)
        assert [i for i in blobs if bench.row("blobs", i).place is None] == [0, 1, 32]
        assert bench.contents("blobs") == blobs

    def test_a_column_moves_between_backends_without_changing_its_history(self, bench):
        bench.add("text", "p0")
        bench.put("text", {0: "y" * 50})
        root = bench.commit().commit.columns["text"].root
        bench.working.change_column("text", "i0", {})
        bench.put("text", {0: "y" * 50, 1: "z"})
        assert bench.row("text", 0).place is None
        bench.put("text", {1: None})
        again = bench.commit().commit.columns["text"]
        assert root is not None
        assert again.root is not None
        assert again.root.digest == root.digest
        assert again.backend == "i0"


def codecs_in(bench: Bench) -> set[tuple[int, int]]:
    found = set()
    for number, extents in bench.staging.extents().items():
        data = bench.staging.pack_file(number).read_bytes()
        found |= {(data[extent.offset + 2], data[extent.offset + 3]) for extent in extents}
    return found


class TestCodecs:
    def add(self, bench: Bench, name: str, shape: Any, dtype: str, **options: Any) -> None:
        bench.working.add_column(
            name, ColumnEntry(array_schema(shape, dtype, None, False, False, ""), None, "p0", options)
        )

    def test_smooth_floats_are_shuffled(self, bench):
        self.add(bench, "smooth", (5000,), "<f4")
        bench.put("smooth", {i: np.linspace(i, i + 1, 5000, dtype="<f4") for i in range(20)})
        assert {shuffle for _, shuffle in codecs_in(bench)} == {4}
        assert stored_bytes(bench) < 20 * 5000 * 4 * 0.8

    def test_noise_is_kept_raw(self, bench):
        bench.put("images", {i: image(i) for i in range(200)})
        assert codecs_in(bench) == {(RAW, 0)}

    def test_what_repeats_is_compressed(self, bench):
        self.add(bench, "masks", (100, 100), "|u1")
        bench.put("masks", {i: np.full((100, 100), i % 250, "|u1") for i in range(20)})
        assert {codec for codec, _ in codecs_in(bench)} <= {LZ4, ZSTD}
        assert stored_bytes(bench) < 20_000

    @pytest.mark.parametrize(("options", "expected"), [
        ({"codec": "raw"}, (RAW, 0)), ({"codec": "lz4"}, (LZ4, 0)), ({"codec": "zstd", "level": 19}, (ZSTD, 0)),
        ({"codec": "lz4", "shuffle": True}, (LZ4, 4)),
    ])  # fmt: skip
    def test_options_are_followed(self, bench, options, expected):
        self.add(bench, "column", (5000,), "<f4", **options)
        bench.put("column", {i: np.linspace(i, i + 1, 5000, dtype="<f4").round(2) for i in range(3)})
        assert codecs_in(bench) == {expected}

    def test_changed_options_count_from_then_on(self, bench):
        self.add(bench, "column", (5000,), "<f4", codec="lz4")
        values = {i: np.linspace(i, i + 1, 5000, dtype="<f4").round(2) for i in range(9)}
        bench.put("column", {i: values[i] for i in range(3)})
        bench.working.change_column("column", "p0", {"codec": "zstd"})
        bench.put("column", {i: values[i] for i in range(3, 6)})
        assert codecs_in(bench) == {(LZ4, 0), (ZSTD, 0)}
        assert bench.contents("column") == plains({i: values[i] for i in range(6)})

    def test_a_column_made_anew_of_another_type_is_tried_anew(self, bench):
        self.add(bench, "column", (9000,), "<f4")
        bench.put("column", {0: np.linspace(0, 1, 9000, dtype="<f4")})
        bench.working.remove_column("column")
        self.add(bench, "column", (9000,), "<f8")
        bench.put("column", {0: np.linspace(0, 1, 9000, dtype="<f8")})
        assert {shuffle for _, shuffle in codecs_in(bench)} == {4, 8}


def test_a_base_that_cannot_be_read_is_no_reason_not_to_write(bench, tmp_path):
    bench.put("images", {0: image(0)})
    bench.commit()
    bench.close()
    shutil.rmtree(tmp_path / "index")
    shutil.move(tmp_path / "store" / "records", tmp_path / "away")
    again = Bench(tmp_path)
    again.samples.write(
        "images",
        again.working.columns["images"].entry,
        [(1, again.working.columns["images"].entry.schema.encode(image(0), ""))],
    )
    shutil.move(tmp_path / "away", tmp_path / "store" / "records")
    again = again.reopen()
    assert again.contents("images") == plains({0: image(0), 1: image(0)})
    again.close()


# ---------------------------------------------------------------- the index itself


def entry(i: int, pack: bytes = b"p" * 16) -> tuple[bytes, Place]:
    return i.to_bytes(4, "big") * 8, Place(pack, 8 + i, 100, i, 40)


def test_places_are_found_again_by_any_process(tmp_path):
    DigestIndex(tmp_path).add([entry(i) for i in range(1000)], [b"r" * 32])
    index = DigestIndex(tmp_path)
    assert index.find([entry(i)[0] for i in range(990, 1010)]) == dict(entry(i) for i in range(990, 1000))
    assert index.covers(b"r" * 32)
    assert not index.covers(b"s" * 32)
    DigestIndex(tmp_path).add([entry(5000)])
    assert index.find([entry(5000)[0]]) == dict([entry(5000)])
    assert index.find([]) == {}
    assert DigestIndex(tmp_path / "absent").find([entry(1)[0]]) == {}


def test_digests_of_one_head_are_told_apart(tmp_path):
    head = b"\xff" * 8
    places = {head + bytes([i]) * 24: Place(bytes([i]) * 16, i, 2, 3, 4) for i in range(20)}
    DigestIndex(tmp_path).add(places.items())
    assert DigestIndex(tmp_path).find([*places, head + bytes([99]) * 24]) == places


def test_many_runs_are_merged_and_nothing_is_lost(tmp_path):
    index = DigestIndex(tmp_path)
    for i in range(60):
        index.add([entry(i)])
    assert len(index.find([entry(i)[0] for i in range(60)])) == 60
    other = DigestIndex(tmp_path)
    assert len(other.find([entry(i)[0] for i in range(60)])) == 60
    assert len(list(tmp_path.glob(f"*{digest_index._SUFFIX}"))) <= digest_index._MERGE_ABOVE + 1
    assert len(index.find([entry(i)[0] for i in range(60)])) == 60


def test_small_commits_do_not_write_a_long_run_anew(tmp_path):
    index = DigestIndex(tmp_path)
    index.add([entry(i) for i in range(10_000)])
    long = next(tmp_path.glob(f"*{digest_index._SUFFIX}"))
    for i in range(10_000, 10_100):
        index.add([entry(i)])
        assert index.find([entry(i)[0], entry(5)[0]]) == dict([entry(i), entry(5)])
    assert long.exists()
    assert len(list(tmp_path.glob(f"*{digest_index._SUFFIX}"))) <= digest_index._MERGE_ABOVE + 1
    every = [entry(i)[0] for i in range(10_100)]
    assert len(index.find(every)) == len(DigestIndex(tmp_path).find(every)) == 10_100


def test_marks_of_covered_trees_do_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(digest_index, "_MOST_MARKS", 40)
    roots = [i.to_bytes(2, "big") * 16 for i in range(300)]
    for i, root in enumerate(roots):
        DigestIndex(tmp_path).add([], [root])
        os.utime(tmp_path / f"{root.hex()}.covered", (i, i))
        assert DigestIndex(tmp_path).covers(root)
    index = DigestIndex(tmp_path)
    assert len(list(tmp_path.glob("*.covered"))) <= 41
    assert all(index.covers(root) for root in roots[-20:])
    assert not index.covers(roots[0])
    for root in roots:
        index.add([], [root])
    assert len(list(tmp_path.glob("*.covered"))) <= 60


def test_a_damaged_index_misses_and_never_lies(tmp_path):
    DigestIndex(tmp_path).add([entry(i) for i in range(3)])
    path = next(tmp_path.glob(f"*{digest_index._SUFFIX}"))
    intact = path.read_bytes()
    expected = dict(entry(i) for i in range(3))
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 0x11
        path.write_bytes(damaged)
        found = DigestIndex(tmp_path).find(list(expected))
        assert all(expected[digest] == place for digest, place in found.items()), position
    for length in range(0, len(intact), 7):
        path.write_bytes(intact[:length])
        found = DigestIndex(tmp_path).find(list(expected))
        assert all(expected[digest] == place for digest, place in found.items()), length


def test_inline_limits_are_those_of_the_format():
    assert (sample_writer.INLINE_ARRAY_BYTES, sample_writer.INLINE_TEXT_BYTES) == (64, 128)
    assert Path(sample_writer.__file__).name == "sample_writer.py"
