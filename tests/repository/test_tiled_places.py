"""Boxes of volumes in buckets and clones: few bytes are moved, each once, and what was fetched is kept."""

from __future__ import annotations

import functools
import http.server
import json
import tempfile
import threading
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.errors import DataNotLocalError
from tests.repository.making import counted, files_of, finish, start_process
from tests.repository.tiling import INDICES, SHAPE, commit_volumes, same_boxes, volume

BOX = np.s_[10:26, :16, :16]
SMALL = np.s_[20:30, 20:30, 20:30]


@pytest.fixture
def place(request, tmp_path) -> tuple[str, dict[str, Any]]:
    """A URL where nothing is, and what opens it."""
    if request.param in ("s3", "gcs"):
        return request.getfixturevalue(f"{request.param}_url"), request.getfixturevalue(f"{request.param}_options")
    return {"memory": f"memory://tiles-{uuid4().hex}", "file": f"file://{tmp_path}/bucket"}[request.param], {}


def in_each(*kinds: str) -> pytest.MarkDecorator:
    """Run a test in each kind of place."""
    return pytest.mark.parametrize("place", kinds, indirect=True)


def open_at(place: tuple[str, dict[str, Any]], folder: Any, **options: Any) -> Repository:
    url, storage_options = place
    return Repository(url, exists=False, storage_options=storage_options, cache_dir=folder, **options)


def counting(repository: Repository) -> CountingStore:
    """Put a counting store before the bucket of a repository."""
    storage = repository._storage
    storage.store = CountingStore(storage.store)
    return storage.store


def fill(repository: Repository, samples: dict[Any, np.ndarray], **options: Any) -> None:
    repository.init("Test User", "test@example.org")
    commit_volumes(repository, samples, **options)


@pytest.fixture
def big() -> np.ndarray:
    """A volume of 16 MB that no filter shrinks by much."""
    return np.random.default_rng(4).integers(0, 2**16, (256, 256, 128), np.uint16)


@in_each("s3", "gcs", "memory", "file")
def test_boxes_of_a_bucket(place, tmp_path):
    fill(open_at(place, tmp_path / "one"), {0: volume(0), "0": volume(1)})
    column = open_at(place, tmp_path / "two").checkout()["volumes"]
    assert same_boxes(column, 0, volume(0))
    assert same_boxes(column, "0", volume(1), INDICES[:2])


def test_a_box_moves_little_and_only_once(s3_url, s3_options, tmp_path, big):
    place = (s3_url, s3_options)
    fill(open_at(place, tmp_path / "one"), {"scan": big}, shape=big.shape, backend=None, backend_options=None)
    repository = open_at(place, tmp_path / "two")
    store = counting(repository)
    column = repository.checkout()["volumes"]
    assert column.backend == "t0"
    index = np.s_[10:26, :64, :64]
    assert np.array_equal(column.read_slice("scan", index), big[index])
    # One tile of 256 KiB of a volume of 16 MiB, and what says where it is.
    assert store.bytes_received <= 0.025 * big.nbytes
    store.reset()
    assert np.array_equal(column.read_slice("scan", np.s_[:16, :64, 3:60]), big[:16, :64, 3:60])
    assert store.requests == {}
    again = open_at(place, tmp_path / "two")
    store = counting(again)
    column = again.checkout()["volumes"]
    column.read_slice("scan", np.s_[10:11])
    store.reset()
    assert np.array_equal(column.read_slice("scan", index), big[index])
    assert store.requests == {}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_boxes_over_plain_http(tmp_path):
    fill(open_at((f"file://{tmp_path}/bucket", {}), tmp_path / "one"), {0: volume(0)})
    handler = functools.partial(_Quiet, directory=str(tmp_path / "bucket"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = (f"http://127.0.0.1:{server.server_address[1]}", {})
        repository = open_at(place, tmp_path / "two")
        column = repository.checkout()["volumes"]
        assert same_boxes(column, 0, volume(0), INDICES[:4])
        server.shutdown()
    assert same_boxes(column, 0, volume(0), INDICES[:4])


@in_each("s3", "gcs", "memory")
def test_a_box_that_was_read_once_is_there_offline_and_another_is_not(place, tmp_path):
    fill(open_at(place, tmp_path / "one"), {0: volume(0)})
    assert same_boxes(open_at(place, tmp_path / "two").checkout()["volumes"], 0, volume(0), [SMALL])
    with pytest.warns(UserWarning, match="not all data of commit"):
        column = open_at(place, tmp_path / "two", offline=True).checkout()["volumes"]
    assert same_boxes(column, 0, volume(0), [SMALL, np.s_[25, 25, 25]])
    with pytest.raises(DataNotLocalError, match="column 'volumes', sample 0"):
        column.read_slice(0, np.s_[-1, -1, -1])


@in_each("s3", "gcs", "file")
def test_a_clone_fetches_boxes_and_samples_from_its_remote(empty, place, tmp_path):
    samples = {0: volume(0), "0": volume(1), "k": volume(2)}
    commit_volumes(empty, samples)
    url, options = place
    empty.remote.add("origin", url, storage_options=options)
    empty.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Clone User", "clone@example.org", url, storage_options=options)
    store = counted(clone)
    column = clone.checkout()["volumes"]
    assert same_boxes(column, 0, volume(0), [SMALL])
    assert not clone._storage.packs.is_whole(next(iter(_leaf(column).packs())))
    store.reset()
    assert same_boxes(column, 0, volume(0), [SMALL])
    assert store.requests == {}
    clone.remote.fetch_data_sample("origin", "volumes", "k", branch="master")
    store.reset()
    assert same_boxes(column, "k", volume(2), INDICES[:4])
    assert store.requests == {}
    clone.remote.fetch_data("origin", "master")
    store.reset()
    for key, value in samples.items():
        assert same_boxes(column, key, value, INDICES[:4])
        assert np.array_equal(column[key], value)
    assert store.requests == {}
    assert [str(finding) for finding in clone.fsck() if finding.is_damage] == []


def _leaf(column: Any) -> Any:
    entry = column._entry
    return column._nodes.leaf(next(iter(column._nodes.leaves(entry.root))), entry.schema)


def test_a_cached_tile_that_was_damaged_is_fetched_anew(s3_url, s3_options, tmp_path):
    place = (s3_url, s3_options)
    fill(open_at(place, tmp_path / "one"), {0: volume(0)})
    assert same_boxes(open_at(place, tmp_path / "two").checkout()["volumes"], 0, volume(0), [SMALL])
    parts = [path for path in (tmp_path / "two").rglob("partial/packs/*/*") if path.is_file()]
    (part,) = parts
    data = bytearray(part.read_bytes())
    for place_ in range(len(data) - 400, len(data)):
        data[place_] ^= 0xFF
    part.write_bytes(data)
    repository = open_at(place, tmp_path / "two")
    store = counting(repository)
    assert same_boxes(repository.checkout()["volumes"], 0, volume(0), [SMALL])
    assert 0 < store.bytes_received < 100_000


def test_a_small_cache_is_kept_to_and_every_box_is_right(s3_url, s3_options, tmp_path):
    place = (s3_url, s3_options)
    fill(open_at(place, tmp_path / "one"), {i: volume(i) for i in range(4)})
    repository = open_at(place, tmp_path / "two", cache_size=150_000)
    column = repository.checkout()["volumes"]
    for index in INDICES[:6]:
        for key in range(4):
            assert same_boxes(column, key, volume(key), [index])
    held = sum(path.stat().st_blocks * 512 for path in (tmp_path / "two").rglob("p*/**/*.pack") if path.is_file())
    assert held <= 200_000


def test_boxes_of_a_bucket_that_was_repacked_and_collected_meanwhile(s3_url, s3_options, tmp_path):
    place = (s3_url, s3_options)
    maker = open_at(place, tmp_path / "one")
    fill(maker, {0: volume(0)})
    commit_volumes(maker, {1: volume(1)})
    reader = open_at(place, tmp_path / "two")
    column = reader.checkout()["volumes"]
    assert same_boxes(column, 0, volume(0), [SMALL])
    assert maker.repack().merged["packs"].objects == 2
    store = maker._storage.store
    old = [info.path for info in store.list("packs/")]
    moved = {move.path for _, move in maker._storage.moves.of(store.url).read_all(store).all()}
    store.delete([path for path in old if path in moved])
    assert same_boxes(column, 0, volume(0), INDICES[:3])
    assert same_boxes(column, 1, volume(1), INDICES[:3])
    fresh = open_at(place, tmp_path / "three")
    counts = counting(fresh)
    assert same_boxes(fresh.checkout()["volumes"], 1, volume(1), [SMALL])
    assert counts.bytes_received < 0.5 * volume(1).nbytes


def test_no_credential_is_on_disk_or_in_the_tiles_that_are_open(s3_url, s3_options, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    place = (s3_url, s3_options)
    fill(open_at(place, tmp_path / "one"), {0: volume(0)})
    column = open_at(place, tmp_path / "two").checkout()["volumes"]
    column.read_slice(0, SMALL)
    files = files_of(tmp_path)
    assert any(name.endswith("a0.tdb") for name in files)
    assert [name for name, data in files.items() if s3_options["secret"].encode() in data] == []


def test_a_second_process_reads_boxes_of_a_bucket_from_the_same_cache(s3_server, s3_url, s3_options, tmp_path):
    place = (s3_url, s3_options)
    fill(open_at(place, tmp_path / "one"), {0: volume(0)})
    script = """
        import json, sys
        import numpy as np
        from hangar_cloud import Repository
        url, options, cache = sys.argv[1:]
        column = Repository(url, storage_options=json.loads(options), cache_dir=cache).checkout()["volumes"]
        print(int(column.read_slice(0, np.s_[20:30, 20:30, 20:30]).sum()))
    """
    arguments = (s3_url, json.dumps(s3_options), str(tmp_path / "two"))
    started = [start_process(script, *arguments) for _ in range(2)]
    wanted = str(int(volume(0)[SMALL].sum()))
    assert [finish(process).strip() for process in started] == [wanted, wanted]
    assert np.prod(SHAPE) == volume(0).size
