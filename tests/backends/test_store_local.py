from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import pytest

from hangar_cloud.backends.errors import AccessDeniedError, BucketNotFoundError, ReadOnlyStoreError
from hangar_cloud.backends.store import local as local_module
from hangar_cloud.backends.store import open_store
from hangar_cloud.backends.store.local import LocalStore
from tests.backends.store_contract import ObjectStoreContract


def plant_file(root: Path, path: str, data: bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


class TestLocalStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path_factory):
        return LocalStore(tmp_path_factory.mktemp("bucket") / "not" / "yet")

    @pytest.fixture
    def plant(self, store):
        return lambda path, data: plant_file(store.root, path, data)


class TestWithoutHardLinks(TestLocalStore):
    """FAT, some network shares: creating goes through a lock instead."""

    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch):
        def refuse(*_args: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)


def _create(url: str, number: int, start: float) -> bool:
    store = open_store(url)
    store.ensure_writable()
    time.sleep(max(0.0, start - time.time()))
    return store.put_if_absent("refs/1.json", f"writer {number}".encode())


def test_of_sixteen_racing_processes_one_wins(tmp_path):
    start = time.time() + 1.0
    with multiprocessing.get_context("fork").Pool(16) as pool:
        outcomes = pool.starmap(_create, [(str(tmp_path), number, start) for number in range(16)], chunksize=1)

    assert outcomes.count(True) == 1
    assert (tmp_path / "refs" / "1.json").read_bytes() == f"writer {outcomes.index(True)}".encode()
    assert os.listdir(tmp_path / "refs") == ["1.json"]


def test_a_stale_temporary_file_is_invisible_and_harmless(tmp_path):
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / ".hangar-tmp-1-abc").write_bytes(b"half")
    store = LocalStore(tmp_path)

    assert list(store.list()) == []
    assert store.list_children("refs") == []
    assert store.put_if_absent("refs/1.json", b"x")
    assert [info.path for info in store.list()] == ["refs/1.json"]


def test_nothing_is_visible_of_a_writer_killed_before_the_name(tmp_path):
    child = os.fork()
    if child == 0:
        setattr(local_module, "publish_new", lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010
        store = LocalStore(tmp_path)
        store._proven = True
        store.put_if_absent("refs/1.json", b"x" * 1000)
        os._exit(0)
    os.waitpid(child, 0)

    store = LocalStore(tmp_path)
    assert list(store.list()) == []
    assert len(os.listdir(tmp_path / "refs")) == 1
    assert store.put_if_absent("refs/1.json", b"y")


def test_a_filesystem_where_creates_overwrite_is_refused(tmp_path, monkeypatch):
    def overwrite(temporary: Path, target: Path) -> bool:
        os.replace(temporary, target)
        return True

    monkeypatch.setattr(local_module, "publish_new", overwrite)
    store = LocalStore(tmp_path)

    for write in (store.put, store.put_if_absent):
        with pytest.raises(ReadOnlyStoreError, match="creating a file twice"):
            write("x", b"1")
    assert list(store.list()) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_denied(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(AccessDeniedError, match="permissions"):
            LocalStore(tmp_path).put("x", b"")
    finally:
        tmp_path.chmod(0o700)


def test_pinging_a_missing_folder_says_so(tmp_path):
    with pytest.raises(BucketNotFoundError, match="no folder"):
        LocalStore(tmp_path / "typo").ping()


def test_relative_roots_are_fixed_when_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("data")
    store.put_if_absent("x", b"1")
    monkeypatch.chdir("/")

    assert store.get("x") == b"1"
    assert pickle.loads(pickle.dumps(store)).get("x") == b"1"


def test_file_urls_and_home_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a b").mkdir()

    assert open_store("~/a b").url == str(tmp_path / "a b")
    assert open_store((tmp_path / "a b").as_uri()).url == str(tmp_path / "a b")
    assert open_store(tmp_path / "a b").local_path("c/d") == tmp_path / "a b" / "c" / "d"
