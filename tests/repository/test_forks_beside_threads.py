"""Threads that read import no module, and do nothing else that is done once in a process.

One that is forked while a thread does so waits for ever where it comes to the same.
"""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from hangar_cloud.catalog import segment_file, segments
from tests.repository.making import clone_of, finish, make_repository, noise, start_process

READS = """
    import json, sys, threading

    imported = []

    class Recorder:
        def find_spec(self, name, path=None, target=None):
            if threading.current_thread() is not threading.main_thread():
                imported.append(name)

    sys.meta_path.insert(0, Recorder())
    from hangar_cloud import Repository, make_numpy_dataset

    where, name, way = json.loads(sys.argv[1])
    column = Repository(**where).checkout()[name]
    if way == "prefetch":
        assert column.prefetch(range(50)).wait(60)
    elif way == "values":
        assert sum(1 for _ in column.values()) == 50
    elif way == "batches":
        assert sum(len(keys) for keys, _ in column.iter_batches(7)) == 50
    elif way == "thread":
        thread = threading.Thread(target=lambda: column[0])
        thread.start()
        thread.join()
    else:
        assert sum(len(batch[name]) for batch in make_numpy_dataset(column, batch_size=7, shuffle=True)) == 50
    assert "pyarrow.parquet" in sys.modules
    print(json.dumps(imported))
"""
WAYS = ["prefetch", "values", "batches", "thread", "loader"]


def fill(repository):
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("images", shape=(50_000,), dtype=np.uint8)
    column.update({n: noise(n, 50_000) for n in range(50)})
    writer.commit("all")
    writer.close()


def imported_by_threads(where, way):
    return json.loads(finish(start_process(READS, json.dumps([where, "images", way]))))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source")
    fill(make_repository(path))
    return path


@pytest.mark.parametrize("way", WAYS)
def test_of_a_clone(source, tmp_path, way):
    clone_of(source, tmp_path / "clone")
    assert imported_by_threads({"path": str(tmp_path / "clone")}, way) == []


@pytest.mark.parametrize(("kind", "way"), [("s3", "prefetch"), ("s3", "loader"), ("gcs", "prefetch")])
def test_of_a_bucket(tmp_path, request, kind, way):
    url, options = (request.getfixturevalue(f"{kind}_{name}") for name in ("url", "options"))
    fill(make_repository(url, storage_options=options, cache_dir=tmp_path / "writer"))
    where = {"path": url, "storage_options": options, "cache_dir": str(tmp_path / "reader")}
    assert imported_by_threads(where, way) == []


def test_the_first_segment_of_a_process_is_decoded_before_there_are_threads(source, tmp_path, monkeypatch):
    """Arrow makes its thread pool and its memory at the first: a child forked meanwhile waited for them for ever."""
    threads = []

    def recorded(data, types, read=segment_file.read_segment):
        threads.append(threading.current_thread())
        return read(data, types)

    for module in (segment_file, segments):
        monkeypatch.setattr(module, "read_segment", recorded)
    column = clone_of(source, tmp_path / "clone").checkout()["images"]
    segment_file.prepare_to_decode.cache_clear()
    threads.clear()
    assert column.prefetch(range(50)).wait(60)
    assert threads[0] is threading.main_thread()
    assert threads[-1] is not threading.main_thread()
