from __future__ import annotations

import sys
import threading
import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from hangar_cloud.backends.store import open_store
from tests.backends.store_contract import ObjectStoreContract


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    def store(self):
        return open_store(f"memory://{uuid.uuid4().hex}/deep")

    @pytest.fixture
    def plant(self, store):
        root = store.url.removeprefix("memory://")
        return lambda path, data: MemoryFileSystem().pipe_file(f"/{root}/{path}", data)


def test_stores_of_one_url_share_their_objects():
    name = uuid.uuid4().hex
    open_store(f"memory://{name}").put_if_absent("a/b", b"1")

    assert open_store(f"memory://{name}/a").get("b") == b"1"


def test_many_are_read_while_another_thread_deletes_them():
    store = open_store("memory://vanishing")
    ended = threading.Event()

    def come_and_go():
        while not ended.is_set():
            store.put("x", b"1")
            store.delete(["x"])

    thread = threading.Thread(target=come_and_go)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(300):
            assert set(store.get_many(["x"] * 20)) <= {b"1", None}
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(before)
