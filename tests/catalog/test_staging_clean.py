"""The note that nothing is staged: believed where it is true, and only there."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import duckdb
import pytest

from hangar_cloud import Repository
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import ColumnEvent, StagingArea
from tests.catalog.bench import run_python

ENTRY = {"schema": ColumnSchema("str").to_json(), "backend": "i0", "backend_options": {}}
CREATED = ColumnEvent("text", "create", ENTRY)


@pytest.fixture
def clean(tmp_path):
    """The folder of a staging area in which nothing is staged, and that was closed."""
    area = StagingArea(tmp_path / "0")
    area.clear("master", "abc")
    area.close()
    return tmp_path / "0"


def opened(folder):
    """What is in an area: whether its database had to be opened, its settings, and what is staged."""
    area = StagingArea(folder)
    try:
        return area._connection is not None, area.setting("branch"), area.setting("base"), list(area.events())
    finally:
        area.close()


def test_a_clean_area_is_opened_without_its_database(clean):
    assert opened(clean) == (False, "master", "abc", [])
    area = StagingArea(clean)
    assert not area.dirty
    assert (area.extents(), area.sealed(), area.packs(), area.spares(), area.size()) == ({}, {}, set(), {}, (0, 0))
    area.close()
    assert opened(clean)[0] is False


def test_what_is_staged_is_there_and_the_note_is_gone_before(clean):
    area = StagingArea(clean)
    area.stage_column(CREATED)
    assert sorted(path.name for path in clean.glob("*.json")) == []
    area.close()
    assert opened(clean) == (True, "master", "abc", [CREATED])


def test_another_base_survives_with_and_without_the_note(clean):
    area = StagingArea(clean)
    area.clear("other", "def")
    area.close()
    assert opened(clean) == (False, "other", "def", [])
    area = StagingArea(clean)
    area.clear("third", None)
    area.stage_column(CREATED)
    area.close()
    assert opened(clean) == (True, "third", None, [CREATED])
    area = StagingArea(clean)
    area.clear("master", "fed")
    area.close()
    (clean / "clean.json").unlink()
    assert opened(clean) == (True, "master", "fed", [])


DYING = """
import os, signal, sys
from pathlib import Path
from tests.catalog.test_staging_clean import CREATED
from hangar_cloud.catalog.staging import StagingArea

area = StagingArea(Path(sys.argv[1]))
assert area._connection is None
area.stage_column(CREATED)
if sys.argv[2] == "cleared":
    area.clear("master", "def")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("last", "staged", "base"), [("staged", [CREATED], "abc"), ("cleared", [], "def")])
def test_a_process_that_died_leaves_what_it_staged_and_no_note(clean, last, staged, base):
    outcome = run_python(DYING, str(clean), last)
    assert outcome.returncode == -signal.SIGKILL, outcome.stderr
    assert not (clean / "clean.json").exists()
    assert opened(clean) == (True, "master", base, staged)


def test_the_note_of_a_database_that_another_program_changed_counts_for_nothing(clean):
    note = (clean / "clean.json").read_bytes()
    with duckdb.connect(str(clean / "staging.duckdb")) as other:  # as a version does that knows of no notes
        entry = '{"backend": "i0", "backend_options": {}, "schema": ' + __import__("json").dumps(ENTRY["schema"]) + "}"
        other.execute("INSERT INTO columns VALUES (0, 'text', 'create', ?)", [entry])
    assert (clean / "clean.json").read_bytes() == note
    assert opened(clean) == (True, "master", "abc", [CREATED])


def test_the_note_of_another_file_counts_for_nothing(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "dirty")
    area = StagingArea(tmp_path / "dirty")
    area.stage_column(CREATED)
    area.close()
    shutil.copyfile(tmp_path / "dirty" / "staging.duckdb", clean / "staging.duckdb")
    assert opened(clean) == (True, "master", "abc", [CREATED])


def test_a_log_beside_the_database_is_not_passed_over(clean):
    (clean / "staging.duckdb.wal").write_bytes(b"")
    assert opened(clean)[0] is True


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"database": null}', b'{"database": [1, 2, 3], "settings": {}}', b"\xff" * 99, b"0" * 99_999],
)
def test_a_damaged_note_counts_for_nothing(clean, text):
    (clean / "clean.json").write_bytes(text)
    assert opened(clean) == (True, "master", "abc", [])


@pytest.mark.parametrize("settings", ["7", "[]", '{"branch": 7}', "null"])
def test_settings_of_another_type_are_no_settings(clean, settings):
    note = (clean / "clean.json").read_text()
    start = note.index('"settings": ') + len('"settings": ')
    (clean / "clean.json").write_text(note[:start] + settings + "}")
    assert opened(clean) == (True, "master", "abc", [])


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")
def test_a_pipe_in_the_place_of_the_note_stops_nobody(clean):
    (clean / "clean.json").unlink()
    os.mkfifo(clean / "clean.json")
    assert opened(clean) == (True, "master", "abc", [])


def test_a_closed_area_is_not_opened_by_who_still_has_it(clean):
    area = StagingArea(clean)
    area.close()
    with pytest.raises(StagingError, match="was closed"):
        area.stage_column(CREATED)
    assert opened(clean) == (False, "master", "abc", [])


WRITER = """
import sys
from hangar_cloud import Repository

repository = Repository(sys.argv[1])
writer = repository.checkout(write=True)
assert writer["text", 0] == "zero"
assert writer.diff.status() == "CLEAN"
writer.close()
print("duckdb" in sys.modules, end=" ")
repository.create_branch("dev")
print(repository.merge("nothing new", "master", "dev") == repository.checkout().commit_hash, end=" ")
print("duckdb" in sys.modules)
"""


def test_a_writer_that_stages_nothing_loads_no_database(tmp_path):
    repository = Repository(tmp_path, exists=False)
    repository.init("Name", "name@example.org")
    writer = repository.checkout(write=True)
    writer.add_str_column("text")[0] = "zero"
    writer.commit("zero")
    writer.close()
    outcome = run_python(WRITER, str(tmp_path))
    assert outcome.stdout.splitlines()[-1] == "False True False", outcome.stderr


def test_a_merge_of_a_clean_area_leaves_the_next_writer_on_its_commit(tmp_path):
    repository = Repository(tmp_path, exists=False)
    repository.init("Name", "name@example.org")
    writer = repository.checkout(write=True)
    writer.add_str_column("text")[0] = "zero"
    writer.commit("zero")
    writer.close()
    repository.create_branch("dev")
    for branch, key in (("master", 1), ("dev", 2)):
        writer = repository.checkout(write=True, branch=branch)
        writer["text", key] = branch
        writer.commit(branch)
        writer.close()
    merged = repository.merge("both", "master", "dev")
    writer = Repository(tmp_path).checkout(write=True, branch="master")
    assert writer.commit_hash == merged
    assert dict(writer["text"].items()) == {0: "zero", 1: "master", 2: "dev"}
    writer["text", 3] = "goes on"
    writer.close()
    writer = Repository(tmp_path).checkout(write=True, branch="master")
    assert writer["text", 3] == "goes on"
    writer.commit("goes on")
    writer.close()
