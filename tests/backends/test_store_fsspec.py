"""The store over fsspec drivers that have no store of their own here, by one whose creates are exclusive."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from hangar_cloud.backends.store import open_store
from tests.backends.store_contract import ObjectStoreContract


class _Exclusive(LocalFileSystem):
    """A folder, in which objects appear whole, and creates fail where there is one."""

    protocol = "exclusive"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        file = Path(self._strip_protocol(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".hangar-{os.urandom(8).hex()}")
        beside.write_bytes(value)
        try:
            (os.link if mode == "create" else os.replace)(beside, file)
        finally:
            beside.unlink(missing_ok=True)

    def put_file(self, lpath, rpath, **kwargs):
        self.pipe_file(rpath, Path(lpath).read_bytes())


class TestFsspecStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        fsspec.register_implementation("exclusive", _Exclusive, clobber=True)
        with open_store(f"exclusive://{tmp_path}/root") as opened:
            yield opened

    @pytest.fixture
    def plant(self, store, tmp_path):
        def plant(path: str, data: bytes) -> None:
            file = tmp_path / "root" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

        return plant
