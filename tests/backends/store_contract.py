"""What every object store must do, whatever is behind it. Subclassed per implementation."""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hangar_cloud.backends.errors import (
    CorruptDataError,
    InvalidPathError,
    ObjectNotFoundError,
    TruncatedObjectError,
)
from hangar_cloud.backends.store import CountingStore, ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

BAD_PATHS = ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/.", "a\\b", "a\nb", "x" * 1025, ".hangar-x", "\ud800"]


class ObjectStoreContract:
    """Subclasses give two fixtures: ``store``, empty, and ``plant(path, data)``, which writes without our code."""

    def test_a_planted_object_is_read_whole_and_in_ranges(
        self, store: ObjectStore, plant: Callable[[str, bytes], None]
    ):
        data = bytes(range(256)) * 8
        plant("packs/ab/x.pack", data)

        assert store.get("packs/ab/x.pack") == data
        assert store.get_range("packs/ab/x.pack", 10, 5) == data[10:15]
        assert store.get_range("packs/ab/x.pack", len(data) - 1, 1) == data[-1:]
        assert store.get_range("packs/ab/x.pack", 3, 0) == b""
        assert store.exists("packs/ab/x.pack")

    def test_stat_gives_size_and_the_stores_time_in_utc(self, store, plant):
        plant("a.json", b"12345")

        info = store.stat("a.json")

        assert (info.path, info.size) == ("a.json", 5)
        assert info.modified.utcoffset() == timedelta(0)
        assert abs(info.modified - datetime.now(timezone.utc)) < timedelta(minutes=2)

    @pytest.mark.parametrize("operation", ["get", "stat", "get_range", "get_ranges", "download"])
    def test_an_absent_object_is_not_found(self, store, tmp_path, operation):
        calls = {
            "get": lambda: store.get("no/such"),
            "stat": lambda: store.stat("no/such"),
            "get_range": lambda: store.get_range("no/such", 0, 1),
            "get_ranges": lambda: store.get_ranges([("no/such", 0, 1)]),
            "download": lambda: store.download("no/such", tmp_path / "target"),
        }
        with pytest.raises(ObjectNotFoundError) as caught:
            calls[operation]()
        assert "no/such" in str(caught.value)
        assert isinstance(caught.value, FileNotFoundError)
        assert not store.exists("no/such")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("offset", "length"), [(0, 11), (5, 6), (10, 1), (1000, 5)])
    def test_a_range_past_the_end_is_truncated(self, store, plant, offset, length):
        plant("ten", b"0123456789")

        with pytest.raises(TruncatedObjectError, match="ten"):
            store.get_range("ten", offset, length)
        with pytest.raises(TruncatedObjectError):
            store.get_ranges([("ten", 0, 1), ("ten", offset, length)])

    def test_a_range_of_an_empty_object_is_truncated(self, store, plant):
        plant("empty", b"")

        assert store.get("empty") == b""
        with pytest.raises(TruncatedObjectError):
            store.get_range("empty", 0, 1)

    @pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, -1)])
    def test_negative_ranges_are_refused(self, store, plant, offset, length):
        plant("ten", b"0123456789")

        with pytest.raises(ValueError, match="negative"):
            store.get_range("ten", offset, length)
        with pytest.raises(ValueError, match="negative"):
            store.get_ranges([("ten", offset, length)])

    def test_many_ranges_come_back_in_the_order_asked(self, store, plant):
        first, second = os.urandom(200_000), os.urandom(5_000)
        plant("p/1", first)
        plant("p/2", second)
        requests = [
            ("p/1", 199_000, 1_000),
            ("p/2", 0, 10),
            ("p/1", 0, 7),
            ("p/1", 0, 7),
            ("p/1", 3, 100),
            ("p/2", 17, 0),
            ("p/1", 150_000, 20_000),
        ]

        results = store.get_ranges(requests)

        sources = {"p/1": first, "p/2": second}
        assert results == [sources[path][offset : offset + length] for path, offset, length in requests]
        assert store.get_ranges([]) == []

    def test_get_many_says_none_where_nothing_is(self, store, plant):
        plant("refs/1", b"one")
        plant("refs/3", b"")

        assert store.get_many(["refs/3", "refs/2", "refs/1", "refs/1"]) == [b"", None, b"one", b"one"]
        assert store.get_many([]) == []

    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_bad_paths_are_refused_everywhere(self, store, tmp_path, path):
        source = tmp_path / "source"
        source.write_bytes(b"x")
        calls = [
            lambda: store.get(path),
            lambda: store.get_many([path]),
            lambda: store.get_range(path, 0, 1),
            lambda: store.get_ranges([(path, 0, 1)]),
            lambda: store.put(path, b""),
            lambda: store.put_if_absent(path, b""),
            lambda: store.upload(path, source),
            lambda: store.download(path, tmp_path / "target"),
            lambda: store.stat(path),
            lambda: store.exists(path),
            lambda: store.delete([path]),
        ]
        for call in calls:
            with pytest.raises(InvalidPathError):
                call()
        assert list(store.list()) == []

    def test_names_with_odd_characters(self, store):
        names = ["a b/ü#?%.txt", "a%2Fb", "x+y=z&w", "~tilde'quote\"", "emoji/🐦"]
        for name in names:
            assert store.put_if_absent(name, name.encode())

        assert store.get_many(names) == [name.encode() for name in names]
        assert sorted(info.path for info in store.list()) == sorted(names)
        store.delete(names)
        assert list(store.list()) == []

    def test_put_overwrites(self, store):
        store.put("hint.json", b"1")
        store.put("hint.json", b"22")

        assert store.get("hint.json") == b"22"

    def test_put_if_absent_never_overwrites(self, store):
        assert store.put_if_absent("refs/heads/main/1.json", b"mine") is True
        assert store.put_if_absent("refs/heads/main/1.json", b"mine") is True
        assert store.put_if_absent("refs/heads/main/1.json", b"other") is False
        assert store.put_if_absent("refs/heads/main/1.json", b"") is False

        assert store.get("refs/heads/main/1.json") == b"mine"

    def test_put_if_absent_of_a_planted_object(self, store, plant):
        plant("x", b"theirs")

        assert store.put_if_absent("x", b"mine") is False
        assert store.get("x") == b"theirs"

    def test_a_deleted_name_can_be_created_again(self, store):
        assert store.put_if_absent("x", b"1")
        store.delete(["x"])
        assert store.put_if_absent("x", b"2")
        assert store.get("x") == b"2"

    def test_any_bytes_survive(self, store):
        data = b"\r\n--==0==--\r\n" + bytes(range(256)) + b"\n--==0==\n"
        store.put_if_absent("x", data)

        assert store.get("x") == data

    def test_of_sixteen_racing_threads_one_wins(self, store):
        store.ensure_writable()
        barrier = threading.Barrier(16)

        def create(number: int) -> bool:
            barrier.wait()
            return store.put_if_absent("refs/heads/main/7.json", f"writer {number}".encode())

        with ThreadPoolExecutor(16) as threads:
            outcomes = list(threads.map(create, range(16)))

        assert outcomes.count(True) == 1
        assert store.get("refs/heads/main/7.json") == f"writer {outcomes.index(True)}".encode()

    @pytest.mark.parametrize("size", [0, 1, 1_000_000, 20_000_001])
    def test_upload_and_download(self, store, tmp_path, size):
        source, target = tmp_path / "source", tmp_path / "deep" / "target"
        data = os.urandom(size)
        source.write_bytes(data)
        sent: list[int] = []
        received: list[int] = []

        store.upload("packs/x.pack", source, progress=sent.append)
        store.upload("packs/x.pack", source)
        store.download("packs/x.pack", target, progress=received.append)

        assert target.read_bytes() == data
        assert (sum(sent), sum(received)) == (size, size)
        assert os.listdir(target.parent) == ["target"]
        assert [info.size for info in store.list()] == [size]

    @pytest.mark.parametrize("size", [3, 9_000_000])
    def test_uploading_over_another_size_is_corruption(self, store, plant, tmp_path, size):
        plant("packs/x.pack", b"1234")
        source = tmp_path / "source"
        source.write_bytes(bytes(size))

        with pytest.raises(CorruptDataError, match=r"packs/x\.pack"):
            store.upload("packs/x.pack", source)
        assert store.get("packs/x.pack") == b"1234"

    def test_a_failed_download_keeps_what_was_there(self, store, tmp_path):
        target = tmp_path / "target"
        target.write_bytes(b"old")

        with pytest.raises(ObjectNotFoundError):
            store.download("no/such", target)
        assert target.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["target"]

    def test_list_is_recursive_and_by_text_prefix(self, store, plant):
        for path in ("refs/heads/a/1.json", "refs/heads/ab/1.json", "refs/heads/a-b/1.json", "refs/tags/t", "top"):
            plant(path, path.encode())

        def found(prefix: str) -> list[str]:
            return sorted(info.path for info in store.list(prefix))

        assert found("") == sorted(
            ["refs/heads/a/1.json", "refs/heads/ab/1.json", "refs/heads/a-b/1.json", "refs/tags/t", "top"]
        )
        assert found("refs/heads/a") == ["refs/heads/a-b/1.json", "refs/heads/a/1.json", "refs/heads/ab/1.json"]
        assert found("refs/heads/a/") == ["refs/heads/a/1.json"]
        assert found("refs/heads/a/1.json") == ["refs/heads/a/1.json"]
        assert found("nothing") == found("top/") == []
        assert next(store.list("top")).size == 3

    def test_list_children_names_files_and_folders(self, store, plant):
        for path in ("refs/heads/a/1.json", "refs/heads/a/2.json", "refs/heads/ab/1.json", "refs/x", "top"):
            plant(path, b"")

        assert store.list_children("") == ["refs", "top"]
        assert store.list_children("refs") == store.list_children("refs/") == ["heads", "x"]
        assert store.list_children("refs/heads/a") == ["1.json", "2.json"]
        assert store.list_children("refs/nothing") == []

    def test_listings_are_never_stale(self, store):
        assert list(store.list()) == store.list_children("") == []
        store.put_if_absent("a/1", b"1")
        assert store.list_children("") == ["a"]
        store.put_if_absent("a/2", b"2")
        assert sorted(info.path for info in store.list("a/")) == ["a/1", "a/2"]
        store.delete(["a/1", "a/2"])
        assert list(store.list()) == []

    def test_delete_takes_many_and_absent_ones(self, store, plant):
        for number in range(30):
            plant(f"d/{number}", b"x")

        store.delete([*(f"d/{number}" for number in range(29)), "no/such"])
        store.delete([])

        assert [info.path for info in store.list()] == ["d/29"]

    def test_ping_takes_time(self, store):
        store.put_if_absent("a", b"")
        assert 0 <= store.ping() < 10

    def test_the_probe_leaves_nothing_to_see(self, store):
        store.ensure_writable()
        store.ensure_writable()

        assert list(store.list()) == store.list_children("") == []

    def test_a_pickled_copy_works_and_closing_does_no_harm(self, store, plant):
        plant("x", b"1")
        copy = pickle.loads(pickle.dumps(store))

        assert copy.get("x") == store.get("x") == b"1"
        assert repr(copy) == repr(store)
        copy.close()
        assert copy.get("x") == b"1"
        copy.close()

    def test_local_path_is_where_the_object_is(self, store, plant):
        plant("a/b", b"12")
        path = store.local_path("a/b")

        assert path is None or Path(path).read_bytes() == b"12"

    def test_counting(self, store, plant, tmp_path):
        counting = CountingStore(store)
        plant("p", bytes(1000))
        source = tmp_path / "source"
        source.write_bytes(b"12345")

        counting.get("p")
        counting.get_many(["p", "no/such"])
        counting.get_ranges([("p", 0, 10), ("p", 20, 10)])
        counting.get_range("p", 0, 5)
        counting.put_if_absent("q", b"123")
        counting.upload("r", source)
        counting.exists("q")

        assert counting.requests == {
            "get": 3,
            "get_range": 2,
            "put_if_absent": 1,
            "upload": 1,
            "stat": 1,
        }
        assert (counting.bytes_received, counting.bytes_sent) == (1000 + 1000 + 30 + 5, 3 + 5)
        assert pickle.loads(pickle.dumps(counting)).requests == {}

    def test_views_are_the_same_bytes(self, store, plant):
        data = bytes(range(256)) * 40
        plant("x", data)
        counting = CountingStore(store)

        found = counting.get_views([("x", 100, 5_000), ("x", 5_200, 5_000), ("x", 100, 0), ("x", 7, 1)])

        assert [bytes(part) for part in found] == [data[100:5_100], data[5_200:10_200], b"", data[7:8]]
        assert counting.requests == {"get_range": 1}
        with pytest.raises(ObjectNotFoundError):
            store.get_views([("no/such", 0, 1)])

    @pytest.mark.parametrize("lengths", [(1_500_000, 1_500_000, 1_100_000), (2_000_000, 5, 1_500_000), (9, 3_000_000)])
    def test_views_of_what_is_wanted_together_come_by_one_request_and_are_the_same_bytes(self, store, plant, lengths):
        data = bytes(range(251)) * 20_000
        plant("x", data)
        ends = [1_003 + sum(lengths[:count]) for count in range(len(lengths) + 1)]
        spans = list(pairwise(ends))
        counting = CountingStore(store)

        found = counting.get_views([("x", begin, end - begin) for begin, end in reversed(spans)], together=True)

        assert [bytes(part) for part in reversed(found)] == [data[begin:end] for begin, end in spans]
        assert counting.requests == {"get_range": 1}
        assert all(memoryview(part).readonly for part in found)

    def test_views_of_what_is_wanted_together_where_it_ends_too_early(self, store, plant):
        plant("x", bytes(3_000_000))
        with pytest.raises(TruncatedObjectError):
            store.get_views([("x", 0, 2_000_000), ("x", 2_000_000, 2_000_000)], together=True)

    def test_long_views_stay_what_they_are_while_others_come_and_cannot_be_changed(self, store, plant):
        data = bytes(range(251)) * 20_000
        plant("x", data)
        spans = [(0, 1_500_000), (1_000_001, 2_000_000), (3, 1_500_000), (4_000_000, 1_020_000)]
        held = [store.get_views([("x", *span)])[0] for span in spans]
        for _ in range(3):
            store.get_views([("x", 17, 2_000_000)])

        assert [bytes(part) for part in held] == [data[offset : offset + length] for offset, length in spans]
        assert all(memoryview(part).readonly for part in held)
