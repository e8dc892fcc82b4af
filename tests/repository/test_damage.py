"""Damaged objects: reading is unaffected or says what is damaged, and nothing wrong is ever returned."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import open_store
from hangar_cloud.catalog.sealed_json import seal, unseal
from hangar_cloud.errors import CorruptDataError, HangarError, UnsupportedFormatError
from tests.repository.making import add_commit, make_repository, noise, read_all, same_columns

NAMES_WHAT = re.compile(
    r"sample|pack|commit|pointer|record|hangar\.json|config\.toml|branch|format version|column", re.IGNORECASE
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A small repository with every kind of object, and what it holds at its two commits."""
    repository = make_repository(tmp_path_factory.mktemp("damage") / "original")
    writer = repository.checkout(write=True)
    generator = np.random.default_rng(0)
    packed = writer.add_ndarray_column("packed", shape=(40, 40), dtype=np.uint8)
    big = writer.add_ndarray_column("big", shape=(300, 100), dtype=np.int32, backend_options={"codec": "zstd"})
    varied = writer.add_ndarray_column("varied", shape=(50, 50), dtype=np.float64, variable_shape=True)
    with writer:
        for key in range(12):
            packed[key] = generator.integers(0, 9 if key % 2 else 256, (40, 40), np.uint8)
            varied[key] = generator.random((1 + key * 3, 2 + key))
        big["b"] = generator.integers(0, 1000, (300, 100), np.int32)
    numbers = writer.add_ndarray_column("numbers", shape=(2,), dtype=np.int16)
    text, blob = writer.add_str_column("text"), writer.add_bytes_column("blob")
    with writer:
        for key in range(2500):
            numbers[f"n{key}"] = np.array([key, -key], np.int16)
        for key in range(30):
            text[key] = f"text {key} " * key
            blob[key] = generator.bytes(key * 20)
    first = writer.commit("first")
    packed["new"] = packed[3]
    packed[4] = packed[5] + 1
    del text[7]
    second = writer.commit("second")
    writer.close()
    repository.create_branch("other", first)
    return repository.path, {digest: read_all(repository, commit=digest) for digest in (first, second)}


def objects(path):
    """Every object of a repository, and its settings."""
    hangar = Path(path) / ".hangar"
    found = [file for file in (hangar / "store").rglob("*") if file.is_file()]
    return sorted([*found, hangar / "config.toml", hangar / "HEAD"])


def read_or_say(path, expected, **options):
    """Read all commits in every way; returns the message of the error, or None if all was as expected."""
    try:
        repository = Repository(path, exists=False, **options)
        repository.list_branches()
        repository.log(return_contents=True)
        for digest, contents in expected.items():
            checkout = repository.checkout(commit=digest)
            for name, samples in contents.items():
                keys = random.Random(1).sample(list(samples), min(5, len(samples)))
                for key, value in zip(keys, checkout[name].get_batch(keys), strict=True):
                    assert np.array_equal(value, samples[key]), "a wrong value"
            checkout.close()
            assert same_columns(read_all(repository, commit=digest), contents), "a wrong value"
        for branch in ("master", "other"):
            head = repository.checkout(branch=branch).commit_hash
            assert head in expected
    except HangarError as error:
        return str(error)
    return None


def damaged_copy(original_path, tmp_path):
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original_path, copy)
    return copy


def test_an_intact_copy_is_read(original, tmp_path):
    path, expected = original
    assert read_or_say(damaged_copy(path, tmp_path), expected) is None


def test_single_damaged_bytes_anywhere(original, tmp_path):
    path, expected = original
    generator = random.Random(7)
    copy = damaged_copy(path, tmp_path)
    harmless, told = 0, 0
    for file in objects(copy):
        intact = file.read_bytes()
        flips = {
            (position, bit) for position in generator.sample(range(len(intact)), min(14, len(intact))) for bit in (0, 7)
        }
        for position, bit in sorted(flips):
            data = bytearray(intact)
            data[position] ^= 1 << bit
            file.write_bytes(data)
            message = read_or_say(copy, expected)
            if message is None:
                harmless += 1
            else:
                told += 1
                assert NAMES_WHAT.search(message), f"{file.name} byte {position}: {message}"
        file.write_bytes(intact)
    assert told > 100
    assert read_or_say(copy, expected) is None


@pytest.mark.parametrize("how", ["empty", "cut", "grown", "gone", "another"])
def test_objects_that_are_cut_grown_gone_or_exchanged(original, tmp_path, how):
    path, expected = original
    copy = damaged_copy(path, tmp_path)
    for file in objects(copy):
        intact = file.read_bytes()
        siblings = [other for other in objects(copy) if other.suffix == file.suffix and other != file]
        if how == "gone":
            file.unlink()
        elif how == "another":
            file.write_bytes(siblings[0].read_bytes() if siblings else b"{}")
        else:
            file.write_bytes({"empty": b"", "cut": intact[: len(intact) // 2], "grown": intact + b"\0" * 10}[how])
        message = read_or_say(copy, expected)
        assert message is None or NAMES_WHAT.search(message) or "no Hangar repository" in message, (
            f"{file.name}: {message}"
        )
        file.write_bytes(intact)
    assert read_or_say(copy, expected) is None


def test_a_damaged_sample_is_named_and_the_others_are_read(original, tmp_path):
    path, expected = original
    copy = damaged_copy(path, tmp_path)
    commit = max(expected, key=lambda digest: len(expected[digest]["packed"]))
    repository = Repository(copy)
    storage = repository._storage
    entry = storage.commit(commit).columns["big"]
    row = storage.nodes.find(entry.root, entry.schema, "b")
    pack = next(file for file in objects(copy) if file.stem == row.place.pack.hex())
    data = bytearray(pack.read_bytes())
    data[row.place.offset + row.place.stored // 2] ^= 1
    pack.write_bytes(data)
    checkout = Repository(copy).checkout(commit=commit)
    for use in (lambda c: c["b"], lambda c: c.get("b"), lambda c: c.get_batch(["b"]), lambda c: list(c.values())):
        with pytest.raises(CorruptDataError, match=rf"column 'big', sample 'b': .*{pack.name}"):
            use(checkout["big"])
    assert len(checkout["big"]) == 1
    assert all(np.array_equal(value, expected[commit]["packed"][key]) for key, value in checkout["packed"].items())
    checkout.close()


@pytest.mark.parametrize("size", [20_000, 40_000, 100_000])
def test_the_samples_before_a_damaged_one_come_first(tmp_path, size):
    values = {key: noise(key, size) for key in range(40)}
    repository = make_repository(tmp_path)
    entry = repository._storage.commit(add_commit(repository, values, column="value")).columns["value"]
    place = repository._storage.nodes.find(entry.root, entry.schema, 25).place
    pack = next(file for file in objects(tmp_path) if file.stem == place.pack.hex())
    data = bytearray(pack.read_bytes())
    data[place.offset + place.stored // 2] ^= 1
    pack.write_bytes(data)
    column = Repository(tmp_path).checkout()["value"]
    for read in (column.items, column.values, lambda: column.iter_batches(1)):
        given = 0
        with pytest.raises(CorruptDataError, match="column 'value', sample 25: "):
            for _ in read():
                given += 1
        assert given == 25


def test_a_damaged_record_names_column_and_sample(original, tmp_path):
    path, expected = original
    copy = damaged_copy(path, tmp_path)
    for file in objects(copy):
        if file.parent.name == "records":
            data = bytearray(file.read_bytes())
            data[4 : len(data) - 8] = bytes(len(data) - 12)
            file.write_bytes(data)
    checkout = Repository(copy).checkout(commit=next(iter(expected)))
    with pytest.raises(CorruptDataError, match=r"column 'packed', sample 3: its record: records/"):
        checkout["packed", 3]
    with pytest.raises(CorruptDataError, match=r"column 'packed', its records: records/"):
        list(checkout["packed"])
    checkout.close()


def test_a_damaged_commit_is_named(original, tmp_path):
    path, expected = original
    copy = damaged_copy(path, tmp_path)
    for digest in expected:
        file = copy / ".hangar" / "store" / "commits" / f"{digest}.json"
        data = file.read_bytes().replace(b"Test User", b"Evil User")
        file.write_bytes(data)
        with pytest.raises(CorruptDataError, match=rf"commit {digest[:12]} is damaged"):
            Repository(copy).checkout(commit=digest)
        with pytest.raises(CorruptDataError, match="damaged"):
            Repository(copy).log(return_contents=True)


def test_a_forged_commit_with_a_right_checksum_is_found(original, tmp_path):
    path, expected = original
    copy = damaged_copy(path, tmp_path)
    digest = next(iter(expected))
    file = copy / ".hangar" / "store" / "commits" / f"{digest}.json"
    body = unseal(file.read_bytes(), "x")
    body["commit"]["author"] = "Evil User"
    file.write_bytes(seal(body))
    with pytest.raises(CorruptDataError, match=rf"commit {digest[:12]} is damaged: its contents have the digest"):
        Repository(copy).checkout(commit=digest)


def newer(file):
    """Rewrite a sealed object as a later format version would."""
    from hangar_cloud.catalog import sealed_json

    body = unseal(file.read_bytes(), "x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_json, "FORMAT_VERSION", 2)
        file.write_bytes(seal({**body, "something": "new"}))


def test_a_repository_of_a_newer_format(original, tmp_path):
    path, _ = original
    copy = damaged_copy(path, tmp_path)
    file = copy / ".hangar" / "store" / "hangar.json"
    newer(file)
    for use in (
        lambda: Repository(copy),
        lambda: Repository(f"file://{copy}/.hangar/store"),
        lambda: Repository(copy, exists=False).init("a", "b"),
        lambda: Repository(tmp_path / "clone", exists=False).clone("a", "b", f"{copy}/.hangar/store"),
    ):
        with pytest.raises(
            RuntimeError, match=r"format version 2; this hangar-cloud reads version 1. Upgrade"
        ) as caught:
            use()
        assert type(caught.value) is UnsupportedFormatError
    file.write_text(json.dumps({"format": 3, "all": "else", "is": "different"}))
    with pytest.raises(UnsupportedFormatError, match="version 3.*Upgrade"):
        Repository(copy)


def test_a_branch_and_a_commit_of_a_newer_format(original, tmp_path):
    path, expected = original
    for folder in ("commits", "refs/heads/master"):
        copy = damaged_copy(path, tmp_path)
        for file in (copy / ".hangar" / "store" / folder).iterdir():
            newer(file)
        with pytest.raises(UnsupportedFormatError, match="version 2.*upgrade hangar-cloud"):
            Repository(copy).checkout(branch="master")
    assert expected


def test_a_damaged_copy_is_fetched_anew(original, tmp_path):
    path, expected = original
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("a", "b", f"{path}/.hangar/store")
    clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    assert read_all(clone)
    generator = random.Random(5)
    hangar = Path(clone.path) / ".hangar"
    files = [file for part in ("store/packs", "partial") for file in (hangar / part).rglob("*") if file.is_file()]
    files += list((hangar / "store" / "commits").iterdir())
    for file in files:
        data = bytearray(file.read_bytes())
        for position in generator.sample(range(len(data)), min(len(data), 30)):
            data[position] ^= 0x55
        file.write_bytes(data)
    again = Repository(clone.path)
    assert same_columns(read_all(again), expected[again.checkout().commit_hash])
    offline = Repository(clone.path, offline=True)
    assert same_columns(read_all(offline), expected[again.checkout().commit_hash])


def test_damage_in_the_bucket_does_not_enter_the_cache(original, tmp_path):
    path, expected = original
    remote = tmp_path / "remote"
    shutil.copytree(Path(path) / ".hangar" / "store", remote)
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("a", "b", str(remote))
    pack = max((info for info in open_store(str(remote)).list("packs/")), key=lambda info: info.size)
    intact = (remote / pack.path).read_bytes()
    (remote / pack.path).write_bytes(bytes(byte ^ 1 for byte in intact))
    with pytest.raises(CorruptDataError, match=f"{Path(pack.path).stem}"):
        read_all(clone)
    with pytest.raises(CorruptDataError, match=f"{Path(pack.path).stem}"):
        clone.remote.fetch_data("origin", "master")
    (remote / pack.path).write_bytes(intact)
    assert same_columns(read_all(clone), expected[clone.checkout().commit_hash])


def test_writing_goes_on_beside_damage(original, tmp_path):
    path, _ = original
    copy = damaged_copy(path, tmp_path)
    for file in objects(copy):
        if file.suffix == ".pack":
            file.write_bytes(bytes(byte ^ 1 for byte in file.read_bytes()))
    repository = Repository(copy)
    digest = add_commit(repository, {0: np.ones((40, 40), np.uint8)}, column="fresh")
    assert (repository.checkout(commit=digest)["fresh", 0] == 1).all()
