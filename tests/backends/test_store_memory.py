from __future__ import annotations

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
