"""What the tests of purges have in common: repositories with a secret in them, and looking for its bytes everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hangar_cloud import Repository
from hangar_cloud.backends.blocks import decode_blocks
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.packs import read_index
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.errors import PurgedError
from tests.repository.making import files_of

REASON = "asked for by the person"


def holders(files: dict[str, bytes], secret: bytes, digest: str) -> list[str]:
    """Names of the files that hold a secret: as it is, in a block, or in a column of Parquet."""
    return [name for name, data in files.items() if secret in data or secret in _decoded(name, data, digest)]


def _decoded(name: str, data: bytes, digest: str) -> bytes:
    if name.endswith(".pack"):
        return b"".join(_blocks(data, bytes.fromhex(digest)))
    if data[:4] == b"PAR1" == data[-4:]:
        table = pq.read_table(pa.BufferReader(data))
        return b"\n".join(_bytes(value) for column in table.columns for value in column.to_pylist())
    return b""


def _blocks(data: bytes, digest: bytes) -> list[bytes]:
    import io

    try:
        index = read_index(io.BytesIO(data))
    except CorruptDataError:
        return []
    found = []
    for extent in index:
        try:
            found.append(bytes(decode_blocks(data[extent.offset : extent.offset + extent.stored], digest, 1 << 30)))
        except CorruptDataError:
            continue  # bound to another sample
    return found


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def objects_of(store: ObjectStore) -> dict[str, bytes]:
    """Every object of a store."""
    return {info.path: store.get(info.path) for info in store.list()}


def local_files(repository: Repository) -> dict[str, bytes]:
    """Every file that a repository has on this machine."""
    return files_of(Path(repository._storage.root))


def everywhere(repository: Repository) -> dict[str, bytes]:
    """Every object of a repository's store, and every file on this machine."""
    objects = objects_of(repository._storage.store)
    return {**local_files(repository), **{f"store: {name}": data for name, data in objects.items()}}


def contents(repository: Repository) -> dict[str, dict[str, dict[Any, Any]]]:
    """Every sample of every commit, by commit, column and key; of one that was purged, the error."""
    found: dict[str, dict[str, dict[Any, Any]]] = {}
    for name in repository._storage.store.list_children("commits"):
        checkout = repository.checkout(commit=name.removesuffix(".json"))
        columns = found[name.removesuffix(".json")] = {}
        for column, reader in checkout.items():
            columns[column] = {key: _value(reader, key) for key in _keys(reader)}
        checkout.close()
    return found


def _keys(reader: Any) -> list[Any]:
    if not reader.contains_subsamples:
        return list(reader.keys())
    return [(sample, sub) for sample in reader for sub in reader[sample]]


def _value(reader: Any, key: Any) -> Any:
    try:
        value = reader[key]
    except PurgedError as error:
        return error
    return (value.dtype.str, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value


def check_purged(before: dict[str, Any], after: dict[str, Any], purged: set[tuple[str, Any]]) -> None:
    """What is read afterwards is what was read before, but for some columns and keys."""
    assert before.keys() == after.keys()
    for commit, columns in before.items():
        assert columns.keys() == after[commit].keys()
        for column, samples in columns.items():
            found = after[commit][column]
            assert list(samples) == list(found)
            for key, value in samples.items():
                if (column, key) in purged:
                    assert isinstance(found[key], PurgedError), (commit, column, key)
                    assert REASON in str(found[key])
                else:
                    assert found[key] == value, (commit, column, key)
