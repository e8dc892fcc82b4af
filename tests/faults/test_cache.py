"""A cache with a size limit, and many processes: it stays small, nobody reads a wrong value, nothing is lost."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import StoreError
from tests.repository.making import add_commit, finish, make_repository, noise, read_all, start_process

COUNT = 240
LIMIT = 1_000_000
VALUES = {number: noise(number, 20_000) for number in range(COUNT)}

READER = """
    import json, random, sys
    import numpy as np
    from hangar_cloud import Repository
    where, options = sys.argv[1], json.loads(sys.argv[2])
    seed, limit, rounds = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    repository = Repository(where, cache_size=limit or None, **options)
    column = repository.checkout()["array"]
    print("ready", flush=True)
    sys.stdin.readline()
    keys = list(column)
    for number in range(rounds):
        random.Random(seed + number).shuffle(keys)
        for key in keys[:120]:
            assert np.array_equal(column[key], np.random.default_rng(key).integers(0, 256, 20_000, np.uint8)), key
        assert (column.get_batch(keys[:9]) == np.stack([column[key] for key in keys[:9]])).all()
    print("read")
"""


def start_readers(place, options, count, limit, rounds):
    """Processes that begin to read at the same time."""
    processes = [
        start_process(READER, str(place), json.dumps(options), str(seed), str(limit), str(rounds))
        for seed in range(count)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def disk_use(*folders):
    """Bytes that files really take, those that are removed while we look left out."""
    total = 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                total += path.stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def held_though_removed(processes):
    """Bytes on disk of removed files that processes still hold open."""
    total = 0
    for process in processes if Path("/proc/self/fd").exists() else ():
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            try:
                if " (deleted)" in str(link.readlink()):
                    total += link.stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def peak_while_running(processes, *folders):
    """The most that folders took while processes ran, removed files that they hold open included."""
    peak = 0
    while any(process.poll() is None for process in processes):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # one has just ended
            peak = max(peak, disk_use(*folders) + held_though_removed(processes))
        time.sleep(0.02)
    return peak


@pytest.fixture
def in_bucket(s3_url, s3_options, tmp_path):
    """A repository in S3 whose samples are some five times the cache's limit."""
    repository = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "writer")
    add_commit(repository, VALUES)
    return repository


def test_six_readers_of_a_bucket_share_a_cache_that_is_far_too_small(in_bucket, s3_url, s3_options, tmp_path):
    cache = tmp_path / "cache"
    options = {"storage_options": s3_options, "cache_dir": str(cache)}
    readers = start_readers(s3_url, options, 6, LIMIT, 3)
    peak = peak_while_running(readers, *list(cache.iterdir()))
    assert [finish(reader) for reader in readers] == ["read\n"] * 6
    assert LIMIT / 4 < peak <= LIMIT


def test_six_readers_of_a_clone_share_a_cache_and_commits_that_are_only_here_stay(
    in_bucket, s3_url, s3_options, tmp_path
):
    folder = tmp_path / "clone"
    clone = Repository(folder, exists=False, cache_size=LIMIT)
    clone.clone("a", "b", s3_url, storage_options=s3_options)
    mine = {f"mine{number}": noise(1000 + number, 20_000) for number in range(100)}
    add_commit(clone, mine, column="mine")
    writer = clone.checkout(write=True)
    writer["mine"]["staged"] = noise(5, 20_000)
    writer.close()
    partial = folder / ".hangar" / "partial"
    readers = start_readers(folder, {"storage_options": s3_options}, 6, LIMIT, 3)
    peak = peak_while_running(readers, partial)
    assert [finish(reader) for reader in readers] == ["read\n"] * 6
    assert LIMIT / 4 < peak <= LIMIT
    with pytest.warns(UserWarning, match="not all data"):
        found = Repository(folder, offline=True).checkout()["mine"]
    assert all(np.array_equal(found[key], value) for key, value in mine.items())
    writer = clone.checkout(write=True)
    assert np.array_equal(writer["mine"]["staged"], noise(5, 20_000))
    writer.close()
    assert Repository(folder, storage_options=s3_options).verify_repo_integrity()


def test_what_is_asked_to_be_kept_and_does_not_fit_is_refused(in_bucket, s3_url, s3_options, tmp_path):
    clone = Repository(tmp_path / "clone", exists=False, cache_size=LIMIT)
    clone.clone("a", "b", s3_url, storage_options=s3_options)
    keys = list(range(0, COUNT, 3))
    with pytest.raises(StoreError, match="bytes are asked to be kept on this machine.*larger cache_size"):
        clone.remote.fetch_data_sample("origin", "array", keys, branch="master")
    few = keys[:20]
    clone.remote.fetch_data_sample("origin", "array", few, branch="master")
    with pytest.warns(UserWarning, match="not all data"):
        offline = Repository(tmp_path / "clone", offline=True).checkout()["array"]
    assert all(np.array_equal(offline[key], VALUES[key]) for key in few)
    clone.remote.fetch_data("origin", "master")
    assert all(np.array_equal(offline[key], VALUES[key]) for key in VALUES)


def test_processes_that_fill_one_pack_agree(in_bucket, s3_url, s3_options, tmp_path):
    folder = tmp_path / "clone"
    Repository(folder, exists=False).clone("a", "b", s3_url, storage_options=s3_options)
    for reader in start_readers(folder, {"storage_options": s3_options}, 3, 0, 2):
        assert finish(reader) == "read\n"
    (pack,) = (folder / ".hangar" / "partial" / "packs").rglob("*.pack")
    whole = in_bucket._storage.store.get(pack.relative_to(folder / ".hangar" / "partial").as_posix())
    ours = np.frombuffer(pack.read_bytes(), np.uint8)
    theirs = np.frombuffer(whole, np.uint8)[: len(ours)]
    assert not (ours[ours != 0] != theirs[ours != 0]).any()
    assert (ours != 0).mean() > 0.5
    assert len(read_all(Repository(folder, storage_options=s3_options))["array"]) == COUNT
