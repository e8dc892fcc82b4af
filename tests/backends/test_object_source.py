"""Reading objects from local files and remotes: holes, damage, several remotes, two processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xxhash

from hangar_cloud.backends.cache_limit import CacheLimit
from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError, ObjectNotFoundError
from hangar_cloud.backends.object_source import Extent, ObjectSource
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.backends.packs import file_pack_id, pack_path
from hangar_cloud.backends.store.counting import CountingStore
from hangar_cloud.backends.store.local import LocalStore
from tests.backends.packing import Packed, make_pack

PAYLOADS = [np.random.default_rng(i).bytes(9000) for i in range(6)] + [bytes([i]) * 100 for i in range(6)]


class Cached:
    """A remote with one pack, and an empty cache of it."""

    def __init__(self, folder: Path, limit: int | None = None, remotes: int = 1) -> None:
        self.remote = CountingStore(LocalStore(folder / "remote"))
        self.packed: Packed = make_pack(folder / "remote", PAYLOADS)
        self.path = pack_path(self.packed.pack)
        self.whole = folder / "store" / self.path
        self.part = folder / "partial" / self.path
        self.folder = folder
        self.limit = limit

    def reader(self, *, offline: bool = False) -> PackReader:
        folders = [self.folder / "store", self.folder / "partial"]
        limit = None if self.limit is None else CacheLimit(folders, self.limit, self.folder / "cache.lock")
        return PackReader(ObjectSource(folders[0], folders[1], lambda: [self.remote], offline=offline, limit=limit))

    def check(self, reader: PackReader, numbers: list[int] | None = None) -> None:
        for i in numbers if numbers is not None else range(len(PAYLOADS)):
            assert bytes(reader.read(self.packed.samples[i])) == PAYLOADS[i]


@pytest.fixture
def cached(tmp_path):
    return Cached(tmp_path)


def test_a_part_that_was_fetched_is_kept_at_its_own_offset(cached):
    cached.check(cached.reader(), [2])
    assert cached.remote.requests["get_range"] == 1
    cached.check(cached.reader(offline=True), [2])
    place = cached.packed.samples[2].place
    original = (cached.folder / "remote" / cached.path).read_bytes()
    kept = cached.part.read_bytes()
    assert kept[place.offset : place.offset + place.stored] == original[place.offset : place.offset + place.stored]
    assert not any(kept[: place.offset])
    with pytest.raises(DataNotLocalError):
        cached.reader(offline=True).read(cached.packed.samples[3])
    assert cached.reader().is_local(cached.packed.samples[2])
    assert not cached.reader().is_local(cached.packed.samples[3])


def test_many_samples_are_one_request_and_each_is_verified(cached):
    reader = cached.reader()
    assert [bytes(data) for data in reader.read_many(cached.packed.samples)] == PAYLOADS
    assert cached.remote.requests["get_range"] == 1
    cached.check(cached.reader(offline=True))


def test_fetch_makes_samples_readable_offline(cached):
    cached.reader().fetch(cached.packed.samples)
    cached.check(cached.reader(offline=True))


def test_every_hole_and_every_flipped_byte_of_a_partial_file_is_fetched_anew(cached):
    cached.check(cached.reader(), [1])
    place = cached.packed.samples[1].place
    intact = cached.part.read_bytes()
    for position in range(place.offset, place.offset + place.stored, 211):
        for damage in (bytes([intact[position] ^ 0xFF]), bytes(200)):
            data = bytearray(intact)
            data[position : position + len(damage)] = damage
            cached.part.write_bytes(data[: len(intact)])
            with pytest.raises((CorruptDataError, DataNotLocalError)):
                cached.reader(offline=True).read(cached.packed.samples[1])
            cached.check(cached.reader(), [1])
            cached.check(cached.reader(offline=True), [1])


def test_a_truncated_partial_file_is_completed(cached):
    cached.check(cached.reader(), [0, 1, 2])
    reader = cached.reader()
    size = cached.part.stat().st_size
    for length in (0, 1, 30, size // 2, size - 1):
        os.truncate(cached.part, length)
        reader.decoded.clear()
        cached.check(reader, [0, 1, 2])
        cached.check(cached.reader(offline=True), [0, 1, 2])


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other"])
def test_a_damaged_whole_object_is_repaired_from_the_remote_and_the_rest_of_it_is_kept(cached, damage):
    source = cached.reader()._source
    assert source.fetch_whole(cached.path, lambda file: None)
    place = cached.packed.samples[2].place
    data = bytearray(cached.whole.read_bytes())
    if damage == "flip":
        data[place.offset + 100] ^= 1
    elif damage == "truncate":
        del data[place.offset + 100 :]
    elif damage == "empty":
        data.clear()
    else:
        data[:] = bytes(reversed(data))
    cached.whole.write_bytes(data)
    with pytest.raises(CorruptDataError, match=cached.path):
        cached.reader(offline=True).read(cached.packed.samples[2])
    reader = cached.reader()
    cached.check(reader, [2])
    cached.check(cached.reader(offline=True), [2])
    if damage in ("flip", "truncate"):
        cached.check(cached.reader(offline=True), [0, 1])
    assert not reader.is_whole(cached.packed.pack)
    assert source.fetch_whole(cached.path, lambda file: None)
    cached.check(cached.reader(offline=True))


def test_a_damaged_remote_is_reported_with_its_name_and_nothing_is_kept(cached):
    file = cached.folder / "remote" / cached.path
    data = bytearray(file.read_bytes())
    data[cached.packed.samples[2].place.offset + 100] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"sample|block|remote"):
        cached.reader().read(cached.packed.samples[2])
    assert not cached.part.exists()
    cached.check(cached.reader(), [1])


def test_a_remote_that_is_cut_short_is_damage(cached):
    os.truncate(cached.folder / "remote" / cached.path, 100)
    with pytest.raises(CorruptDataError, match="remote"):
        cached.reader().read(cached.packed.samples[2])
    with pytest.raises(CorruptDataError):
        cached.reader().read_many(cached.packed.samples)


def test_an_intact_second_remote_stands_in_for_a_damaged_first(cached, tmp_path):
    (tmp_path / "second" / cached.path).parent.mkdir(parents=True)
    good = (tmp_path / "remote" / cached.path).read_bytes()
    (tmp_path / "second" / cached.path).write_bytes(good)
    (tmp_path / "remote" / cached.path).write_bytes(good[:60] + bytes(len(good) - 60))
    stores = [LocalStore(tmp_path / "remote"), LocalStore(tmp_path / "second")]
    source = ObjectSource(tmp_path / "store", tmp_path / "partial", lambda: stores)
    assert [bytes(data) for data in PackReader(source).read_many(cached.packed.samples)] == PAYLOADS

    def is_the_pack(file: Path) -> None:
        if file_pack_id(file) != cached.packed.pack:
            raise CorruptDataError("another file")

    assert source.fetch_whole(cached.path, is_the_pack)
    assert (tmp_path / "store" / cached.path).read_bytes() == good


def test_objects_that_are_spread_over_remotes_are_read_together(tmp_path):
    packs = [make_pack(tmp_path / f"remote{i}", [bytes([i]) * 9000]) for i in range(3)]
    stores = [LocalStore(tmp_path / f"remote{i}") for i in range(3)]
    reader = PackReader(ObjectSource(tmp_path / "store", tmp_path / "partial", lambda: stores))
    samples = [packed.samples[0] for packed in (packs[2], packs[0], packs[1], packs[2])]
    assert [bytes(data)[0] for data in reader.read_many(samples)] == [2, 0, 1, 2]
    (tmp_path / "remote1" / pack_path(packs[1].pack)).unlink()
    missing = PackReader(ObjectSource(tmp_path / "other", tmp_path / "parts", lambda: stores))
    with pytest.raises(ObjectNotFoundError, match=packs[1].pack.hex()):
        missing.read_many(samples)


def _checked(data: bytes) -> bytes:
    if xxhash.xxh3_64_intdigest(data) != xxhash.xxh3_64_intdigest(b"object"):
        raise CorruptDataError("damaged")
    return data


def test_a_small_object_is_verified_kept_and_replaced_when_damaged(tmp_path):
    stores = [LocalStore(tmp_path / "a"), LocalStore(tmp_path / "b")]
    for store, data in zip(stores, (b"damagd", b"object"), strict=True):
        store.put_if_absent("commits/x.json", data)
    source = ObjectSource(tmp_path / "store", tmp_path / "partial", lambda: stores)
    assert source.read_object("commits/x.json", _checked) == b"object"
    local = tmp_path / "store" / "commits" / "x.json"
    assert local.read_bytes() == b"object"
    for damage in (b"", b"objec", b"objecT"):
        local.write_bytes(damage)
        with pytest.raises(CorruptDataError):
            ObjectSource(tmp_path / "store").read_object("commits/x.json", _checked)
        assert source.read_object("commits/x.json", _checked) == b"object"
        assert local.read_bytes() == b"object"
    assert os.listdir(local.parent) == ["x.json"]
    with pytest.raises(ObjectNotFoundError):
        source.read_object("commits/y.json", _checked)
    with pytest.raises(DataNotLocalError):
        ObjectSource(tmp_path / "store").read_object("commits/y.json", _checked)


def test_a_failed_download_leaves_nothing_behind(cached):
    source = cached.reader()._source

    def refuse(_file: Path) -> None:
        raise CorruptDataError("not what its name says")

    with pytest.raises(CorruptDataError, match="remote"):
        source.fetch_whole(cached.path, refuse)
    assert os.listdir(cached.whole.parent) == []


def test_reading_ahead_asks_once_and_verifies_each(tmp_path):
    remote = CountingStore(LocalStore(tmp_path / "remote"))
    remote.put_if_absent("records/x", bytes(range(200)))

    def extent(offset: int, length: int) -> Extent[bytes]:
        def verify(data: memoryview, _fetched: bool) -> bytes:
            if bytes(data) != bytes(range(offset, offset + length)):
                raise CorruptDataError("damaged")
            return bytes(data)

        return Extent("records/x", offset, length, verify)

    source = ObjectSource(tmp_path / "store", tmp_path / "partial", lambda: [remote])
    assert source.read(extent(150, 10), ahead=100) == bytes(range(150, 160))
    assert source.read(extent(100, 50), ahead=100) == bytes(range(100, 150))
    assert source.read(extent(50, 20), ahead=100) == bytes(range(50, 70))
    assert remote.requests["get_range"] == 1
    assert source.read(extent(10, 60), ahead=5) == bytes(range(10, 70))
    assert remote.requests["get_range"] == 2


def test_bytes_read_ahead_that_turn_out_damaged_are_asked_for_again(tmp_path):
    store = LocalStore(tmp_path / "remote")
    store.put("records/x", b"bad object")
    source = ObjectSource(tmp_path / "store", tmp_path / "partial", lambda: [store])
    first: Extent[bytes] = Extent("records/x", 4, 6, lambda data, _fetched: _checked(bytes(data)))
    assert source.read(first, ahead=4) == b"object"
    store.put("records/x", b"object....")
    second: Extent[bytes] = Extent("records/x", 0, 6, lambda data, _fetched: _checked(bytes(data)))
    assert source.read(second, ahead=4) == b"object"


def test_an_evicted_partial_file_is_filled_again_not_fetched_for_ever(cached):
    reader = cached.reader()
    cached.check(reader, [0])
    reader.decoded.clear()
    cached.check(reader, [0])  # the file is open now
    cached.part.unlink()  # as another process's eviction does
    reader.decoded.clear()
    cached.check(reader, [1])
    before = cached.remote.requests["get_range"]
    for _ in range(5):
        reader.decoded.clear()
        cached.check(reader, [1])
    assert cached.remote.requests["get_range"] == before
    cached.check(cached.reader(offline=True), [1])


def _read_all(folder: Path, seed: int, rounds: int, limit: int | None) -> str:
    cached = Cached.__new__(Cached)
    cached.folder, cached.limit = folder, limit
    cached.remote = CountingStore(LocalStore(folder / "remote"))
    packed = make_pack(folder / f"scratch{seed}", PAYLOADS)
    random = np.random.default_rng(seed)
    reader = cached.reader()
    for _ in range(rounds):
        i = int(random.integers(len(PAYLOADS)))
        reader.decoded.clear()
        if bytes(reader.read(packed.samples[i])) != PAYLOADS[i]:
            return f"sample {i} is wrong"
    return "fine"


@pytest.mark.parametrize("limit", [None, 40_000])
def test_processes_that_fill_one_cache_agree(cached, limit):
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        outcomes = pool.starmap(_read_all, [(cached.folder, seed, 120, limit) for seed in range(3)])
    assert outcomes == ["fine"] * 3
    if limit is None:
        cached.check(cached.reader())


def test_threads_share_a_reader(cached):
    reader = cached.reader()
    failures: list[object] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(60):
            i = int(random.integers(len(PAYLOADS)))
            try:
                if bytes(reader.read(cached.packed.samples[i])) != PAYLOADS[i]:
                    failures.append(i)
            except Exception as error:  # noqa: BLE001 - collected for the assertion
                failures.append(error)
            if i % 5 == 0:
                reader.forget()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def _disk_use(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _age(folder: Path, seconds: float = 60) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_the_oldest_files_go_first(tmp_path):
    folder = tmp_path / "partial"
    folder.mkdir()
    for i in range(10):
        path = folder / f"{i}.pack"
        path.write_bytes(os.urandom(40_960))
        os.utime(path, (time.time() - 100 + i, time.time() - 100 + i))
    limit = CacheLimit([folder, tmp_path / "absent"], 200_000, tmp_path / "lock")
    removed = limit.evict()
    assert sorted(path.name for path in removed) == [f"{i}.pack" for i in range(len(removed))]
    assert _disk_use(folder) <= 160_000
    assert limit.evict() == []
    assert limit.make_room(10_000) == [folder / f"{len(removed)}.pack"] or limit.make_room(10_000) == []
    unfinished = folder / ".hangar-tmp-1-2"
    unfinished.write_bytes(os.urandom(400_000))
    limit.evict()
    assert [path.name for path in folder.iterdir()] == [unfinished.name], "another process is writing that one"


def test_the_first_write_looks_at_what_earlier_processes_left(tmp_path):
    cached = Cached(tmp_path, limit=30_000)
    stale = tmp_path / "partial" / "packs" / "old.pack"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(os.urandom(100_000))
    _age(tmp_path / "partial")
    cached.check(cached.reader(), [0])
    assert not stale.exists()
    cached.check(cached.reader(offline=True), [0])


def test_only_one_process_evicts_at_a_time(tmp_path):
    from filelock import FileLock

    folder = tmp_path / "partial"
    folder.mkdir()
    (folder / "x").write_bytes(os.urandom(100_000))
    _age(folder)
    with FileLock(tmp_path / "lock"):
        assert CacheLimit([folder], 1000, tmp_path / "lock").evict() == []
    assert CacheLimit([folder], 1000, tmp_path / "lock").evict() == [folder / "x"]


def test_a_reader_goes_on_while_its_whole_pack_is_evicted(cached):
    reader = cached.reader()
    reader._source.fetch_whole(cached.path, lambda file: None)
    cached.check(reader, [0])
    assert reader.is_whole(cached.packed.pack)
    cached.whole.unlink()
    cached.check(reader)
    assert not reader.is_whole(cached.packed.pack)
    reader.forget()
    reader._source.forget()
    cached.check(reader)
