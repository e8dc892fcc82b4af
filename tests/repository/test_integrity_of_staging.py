"""Integrity of what is not committed: staging areas, stashes, and the caches that writers use."""

from __future__ import annotations

import os
import signal

import duckdb
import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.blocks import Place
from tests.repository.filling import noise
from tests.repository.forging import damage, flip, kinds
from tests.repository.making import add_commit, files_of, make_repository, start_process, wait_for_line

LARGE = np.random.default_rng(4).integers(0, 256, 100_000, np.uint8)


def write(repository):
    """A writer with three staged samples: one inline, two packed."""
    writer = repository.checkout(write=True)
    writer["labels", "staged"] = "a label"
    writer["shared", 1000] = noise(1000)
    writer["shared", 1001] = noise(1001)
    return writer


@pytest.fixture(params=["staging", "stash"])
def area(request, healthy):
    """Folder of a staging area, or of a stash, with changes in it."""
    writer = write(healthy)
    if request.param == "stash":
        writer.stash("later")
    writer.close()
    return healthy._storage.root / ("staging/0" if request.param == "staging" else "stash/later")


def edit(area, statement):
    with duckdb.connect(str(area / "staging.duckdb")) as connection:
        connection.execute(statement)


def test_sound_changes_give_no_finding_and_are_left_as_they_are(healthy, area):
    before = files_of(healthy.path)
    assert healthy.fsck() == []
    assert healthy.fsck(level="records") == []
    assert files_of(healthy.path) == before


def test_a_flipped_byte_in_a_staged_pack_names_the_samples(healthy, area, capsys):
    (pack,) = area.glob("*.pack")
    flip(pack, 200)
    findings = damage(healthy)
    assert {(f.kind, f.object, f.column) for f in findings} == {("staging", str(area), "shared")}
    assert {finding.key for finding in findings} <= {1000, 1001}
    assert damage(healthy, level="records") == []
    assert healthy.verify_repo_integrity() is False
    printed = capsys.readouterr().out
    assert str(area) in printed
    assert "sample 1000" in printed


@pytest.mark.parametrize("level", ["all", "records"])
@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_a_staged_pack_that_is_gone_or_shorter(healthy, area, how, level):
    (pack,) = area.glob("*.pack")
    if how == "gone":
        pack.unlink()
    else:
        os.truncate(pack, 100)
    findings = damage(healthy, level=level)
    assert {(f.kind, f.column) for f in findings} == {("staging", "shared")}
    assert {f.key for f in findings} == {1000, 1001}


def test_a_database_that_is_gone(healthy, area):
    for path in area.glob("staging.duckdb*"):
        path.unlink()
    (finding,) = damage(healthy)
    assert (finding.kind, finding.object) == ("staging", str(area))
    assert "lost its database" in finding.message


@pytest.mark.parametrize("text", [b"", b"no database", bytes(20_000)])
def test_a_database_that_is_none(healthy, area, text):
    (area / "staging.duckdb").write_bytes(text)
    (finding,) = damage(healthy)
    assert "cannot be read" in finding.message
    assert "verify-" not in finding.message, "the copy that was looked at is nobody's concern"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE settings SET value = repeat('0', 64) WHERE name = 'base'", "based on commit 000000000000"),
        ('UPDATE samples SET "offset" = 5 WHERE key_int = 1000', "never recorded as written"),
        ("DELETE FROM extents", "never recorded as written"),
        ("UPDATE samples SET pack = repeat('p', 16)::BLOB WHERE key_int = 1000", "is not in"),
        ("UPDATE samples SET key_int = NULL WHERE key_int = 1000", "cannot be read"),
        ("INSERT INTO columns VALUES (99, 'x', 'create', '{')", "cannot be read"),
        ("DROP TABLE samples; CREATE TABLE samples (a INT)", "cannot be read"),
    ],
)
def test_a_database_that_contradicts_itself_or_the_repository(healthy, area, statement, message):
    edit(area, statement)
    findings = damage(healthy)
    assert {finding.kind for finding in findings} == {"staging"}
    assert all(message in finding.message for finding in findings)


@pytest.mark.parametrize("text", [None, b"{", b"[]", b'{"time": 1}'])
def test_a_stash_whose_description_is_damaged(healthy, text):
    writer = write(healthy)
    writer.stash("later")
    writer.close()
    path = healthy._storage.root / "stash/later/stash.json"
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    (finding,) = damage(healthy)
    assert (finding.kind, finding.object) == ("staging", str(path.parent))
    assert "'later'" in finding.message


def test_an_open_writer_is_not_disturbed(healthy):
    writer = write(healthy)
    assert healthy.fsck() == []
    writer["shared", 1002] = noise(1002)
    assert healthy.fsck() == []
    writer.commit("all three")
    writer.close()
    assert healthy.fsck() == []


def test_what_a_killed_writer_staged_is_sound(healthy):
    script = """
        import sys, time
        import numpy as np
        from hangar_cloud import Repository
        writer = Repository(sys.argv[1]).checkout(write=True)
        writer["shared", 1000] = np.arange(300, dtype=np.uint8)
        print("staged", flush=True)
        time.sleep(60)
    """
    process = start_process(script, str(healthy.path))
    assert wait_for_line(process) == "staged"
    assert healthy.fsck() == []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = files_of(healthy._storage.root / "staging")
    assert healthy.fsck() == []
    assert files_of(healthy._storage.root / "staging") == before


def test_staged_changes_for_a_bucket_are_checked_too(tmp_path):
    repository = make_repository(f"memory://{tmp_path.name}-staged", cache_dir=tmp_path / "cache")
    add_commit(repository, {0: LARGE})
    writer = repository.checkout(write=True)
    writer["array", 1] = LARGE[::-1].copy()
    assert repository.fsck() == []
    writer.close()
    (pack,) = repository._storage.root.glob("staging/0/*.pack")
    flip(pack, 5000)
    assert [(f.kind, f.column, f.key) for f in damage(repository)] == [("staging", "array", 1)]


def place_of(repository, digest, column, key):
    entry = repository._storage.commit(digest).columns[column]
    row = repository._storage.nodes.find(entry.root, entry.schema, key)
    return row.identity[1:], row.place


def test_a_stale_index_of_digests_does_no_harm(tmp_path):
    """What it says of a pack that is gone is passed over, and the sample is stored again."""
    repository = make_repository(tmp_path / "repository")
    first = add_commit(repository, {0: LARGE})
    digest, place = place_of(repository, first, "array", 0)
    repository._storage.store.local_path(f"packs/{place.pack.hex()[:2]}/{place.pack.hex()}.pack").unlink()
    second = add_commit(Repository(tmp_path / "repository"), {1: LARGE, 2: LARGE + 1})
    assert place_of(repository, second, "array", 1)[1].pack != place.pack
    assert {(f.kind, f.key) for f in damage(repository)} == {("missing", None), ("missing", 0)}
    assert digest == place_of(repository, second, "array", 1)[0]


def test_a_wrong_index_of_digests_is_found_in_what_was_committed_by_it(tmp_path):
    repository = make_repository(tmp_path / "repository")
    _, place = place_of(repository, add_commit(repository, {0: LARGE}), "array", 0)
    other = make_repository(tmp_path / "other")
    digest, _ = place_of(other, add_commit(other, {0: LARGE[::-1].copy()}), "array", 0)
    repository._storage.index.add([(digest, Place(*place))])
    add_commit(repository, {1: LARGE[::-1].copy()})
    assert kinds(repository, level="records") == set()
    assert {(f.column, f.key) for f in damage(repository)} == {("array", 1)}
