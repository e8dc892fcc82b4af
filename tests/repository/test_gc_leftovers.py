"""What processes leave on a disk that die in the midst of something: a collection, or the next writer, removes it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned
from tests.repository.making import add_commit, make_repository, noise, read_all

ALL = {"grace": 0, "keep_reflog": 0}


@pytest.fixture(scope="module")
def left():
    """The name of a temporary file of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f".hangar-tmp-{process.pid}-0123456789abcdef"


def leave(*folders: Path, name: str, age: float = 10) -> list[Path]:
    """Leave a file in each folder, as old as that."""
    files = [folder / name for folder in folders]
    for file in files:
        file.write_bytes(b"half")
        os.utime(file, (0, time.time() - age))
    return files


def test_a_local_repository(committed, left):
    root = Path(committed.path, ".hangar")
    files = leave(root, root / "store" / "commits", root / "staging" / "0", name=left)
    committed.gc(True, **ALL)
    committed.gc()
    assert all(file.exists() for file in files)
    committed.gc(**ALL)
    assert not any(file.exists() for file in files)
    assert committed.verify_repo_integrity()


def test_a_bucket_that_is_a_folder_is_cleared_only_of_what_nobody_can_be_writing(tmp_path, left, monkeypatch):
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.05)
    bucket = tmp_path / "bucket"
    repository = make_repository(f"file://{bucket}", cache_dir=tmp_path / "cache")
    add_commit(repository, {1: noise(1)})
    young, old = leave(bucket, bucket / "commits", name=left)
    cached = leave(repository._storage.root, name=left)
    os.utime(old, (0, time.time() - condemned.LEASE_SECONDS - 10))
    repository.gc(**ALL)
    assert [file.exists() for file in (young, old, *cached)] == [True, False, False]
    assert len(read_all(repository)["array"]) == 1


def test_packs_of_which_nothing_is_staged_go_when_the_next_writer_comes(committed):
    writer = committed.checkout(write=True)
    writer.add_bytes_column("large")[0] = os.urandom(5000)
    writer.close()
    area = Path(committed.path, ".hangar", "staging", "0")
    pack = next(area.glob("*.pack")).read_bytes()
    writer = committed.checkout(write=True)
    writer.reset_staging_area()
    (area / "0.pack").write_bytes(pack)  # as if the process had died before it removed it
    writer = committed.checkout(write=True)
    assert list(area.glob("*.pack")) == []
    writer["array", 77] = np.zeros(3, np.float32)
    writer.commit("goes on")
    writer.close()
    assert committed.verify_repo_integrity()


def test_a_staging_area_whose_database_was_never_made_is_no_damage(committed):
    area = Path(committed.path, ".hangar", "staging", "0")
    for file in area.iterdir():
        file.unlink()
    (area / "staging.duckdb.incoming").write_bytes(b"half")
    (area / "staging.duckdb.incoming.wal").write_bytes(b"half")
    assert committed.verify_repo_integrity()
    writer = Repository(committed.path).checkout(write=True)
    writer["text", 77] = "goes on"
    writer.commit("goes on")
    writer.close()
    assert sorted(path.name for path in area.iterdir()) == ["clean.json", "staging.duckdb"]


def test_what_was_to_be_deleted_of_a_stash(committed):
    discarded = Path(committed.path, ".hangar", "stash.discarded", "0123456789abcdef")
    discarded.mkdir(parents=True)
    (discarded / "0.pack").write_bytes(b"gone")
    committed.gc(**ALL)
    assert not discarded.parent.exists()
