"""A writer for tests, put together as a checkout does it, over any store; and a process that runs one to be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.local import LocalStore
from hangar_cloud.catalog.commits import ColumnEntry, Commit, commit_path, decode_commit
from hangar_cloud.catalog.committer import Committer, Landed
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.pointers import PointerLog
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_writer import SampleWriter, default_backend
from hangar_cloud.catalog.schema import ColumnSchema, Payload, array_schema
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.working_set import WorkingSet

ROOT = Path(__file__).resolve().parents[2]
BRANCH = "master"
SCHEMAS = {
    "images": array_schema((200,), "|u1", None, False, False, ""),
    "more": array_schema((200,), "|u1", None, False, False, ""),
    "varied": array_schema((50, 50), "<f4", None, True, False, ""),
    "labels": array_schema((), "<i8", None, False, False, ""),
    "text": ColumnSchema("str"),
    "blobs": ColumnSchema("bytes"),
}


def image(seed: int, length: int = 200) -> np.ndarray:
    """Incompressible, and the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, length, np.uint8)


class Bench:
    """One writer of a repository below `folder`. Open it again by making another."""

    def __init__(self, folder: Path, store: ObjectStore | None = None, *, cache: bool = False) -> None:
        self.folder = folder
        self.local = folder / "store"
        self.store = store if store is not None else LocalStore(self.local)
        self.index = DigestIndex(folder / "index")
        self.source = ObjectSource(self.local, folder / "partial", lambda: [self.store] if cache else [])
        self.nodes = NodeReader(self.source)
        self.pointers = PointerLog(self.store, "tester")
        self.committer = Committer(
            self.store, self.local if cache else None, self.pointers, self.nodes, self.index, self.look_up
        )
        self.pointers.start(BRANCH)
        self.staging = StagingArea(folder / "staging")
        self.committer.resolve(self.staging)
        head = self.pointers.head(BRANCH)
        assert head is not None
        if not self.staging.dirty:
            self.staging.clear(BRANCH, head.commit)
        self.base = self.staging.setting("base")
        self.samples = SampleWriter(self.staging, self.index, self.has_pack, self.committer.cover)
        columns = {} if self.base is None else self.look_up(self.base).columns
        self.working = WorkingSet(columns, self.staging, self.samples, self.nodes)
        self.packs = PackReader(self.source, self.staging.folder)

    def look_up(self, digest: str) -> Commit:
        return decode_commit(self.store.get(commit_path(digest)), digest)

    def has_pack(self, pack: bytes) -> bool:
        return self.store.exists(pack_path(pack))

    def add(self, name: str, backend: str | None = None, **options: Any) -> None:
        schema = SCHEMAS[name]
        self.working.add_column(name, ColumnEntry(schema, None, backend or default_backend(schema), options))

    def put(self, name: str, values: dict[Any, Any], *, flush: bool = True) -> None:
        column = self.working.columns[name]
        for key, value in values.items():
            column.put(key, None if value is None else column.entry.schema.encode(value, name))
        if flush:
            self.working.flush(name)

    def commit(self, message: str = "a commit") -> Landed:
        landed = self.committer.commit(
            self.working, self.staging, self.samples, branch=BRANCH, base=self.base,
            author="tester", email="t@example.org", message=message,
        )  # fmt: skip
        self.base = landed.digest
        self.packs.forget()
        return landed

    def row(self, name: str, key: Any) -> Row:
        found = self.working.columns[name].find(key)
        assert isinstance(found, Row)
        return found

    def value(self, name: str, found: Any) -> Any:
        schema = self.working.columns[name].entry.schema
        if isinstance(found, Payload):
            return schema.decode(found.data, found.shape)
        if found.value is not None:
            return schema.decode(found.value, found.shape)
        sample = PackedSample(found.place, found.identity[1:], schema.prefix(found.shape))
        return schema.decode(self.packs.read(sample), found.shape)

    def contents(self, name: str) -> dict[Any, Any]:
        """Everything in a column as its writer sees it, every sample really read."""
        column = self.working.columns[name]
        found = {key: plain(self.value(name, item)) for key, item in column.iterate()}
        assert len(column) == len(found)
        assert all(plain(self.value(name, column.find(key))) == value for key, value in found.items())
        return found

    def log(self) -> list[Commit]:
        """Commits of the branch, newest first."""
        head = self.pointers.head(BRANCH)
        digest = None if head is None else head.commit
        found = []
        while digest is not None:
            found.append(self.look_up(digest))
            digest = found[-1].parents[0] if found[-1].parents else None
        return found

    def close(self) -> None:
        self.samples.close()
        self.staging.close()

    def reopen(self) -> Bench:
        self.close()
        return Bench(self.folder, self.store, cache=self.source._remotes() != [])


def committed(folder: Path, name: str) -> dict[Any, Any]:
    """What the head of the branch holds, read by somebody who has only the store."""
    store = LocalStore(folder / "store")
    source = ObjectSource(folder / "store")
    nodes, packs = NodeReader(source), PackReader(source)
    head = PointerLog(store).head(BRANCH)
    assert head is not None
    assert head.commit is not None
    entry = decode_commit(store.get(commit_path(head.commit)), head.commit).columns[name]
    found = {}
    for ref in nodes.leaves(entry.root):
        leaf = nodes.leaf(ref, entry.schema)
        for i, key in enumerate(leaf.keys):
            row = leaf.row(i)
            data: Any = row.value
            if row.place is not None:
                data = packs.read(PackedSample(row.place, row.identity[1:], entry.schema.prefix(row.shape)))
            found[key] = plain(entry.schema.decode(data, row.shape))
    return found


def plain(value: Any) -> Any:
    return (value.shape, value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value


def plains(values: dict[Any, Any]) -> dict[Any, Any]:
    return {key: plain(value) for key, value in values.items()}


def run_python(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which may kill itself."""
    return subprocess.run(
        [sys.executable, "-c", text, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
