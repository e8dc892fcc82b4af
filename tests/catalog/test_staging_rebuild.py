"""Making the database of a staging area anew."""

from __future__ import annotations

import pytest

from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import ColumnEvent, StagingArea
from hangar_cloud.catalog.staging_rebuild import rebuild

ENTRY = {"schema": ColumnSchema("str").to_json(), "backend": "i0", "backend_options": {}}


@pytest.fixture
def folder(tmp_path):
    """A staging area with one change."""
    area = StagingArea(tmp_path / "0")
    area.set_settings(branch="master", base=None)
    area.stage_column(ColumnEvent("text", "create", ENTRY))
    area.close()
    return tmp_path / "0"


@pytest.mark.parametrize("left", ["staging.duckdb", "staging.duckdb.wal", "staging.duckdb.incoming"])
def test_what_a_process_left_that_died_at_it_is_no_hindrance(folder, left):
    (folder / "rebuilding").mkdir()
    (folder / "rebuilding" / left).write_bytes(b"half")
    rebuild(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["staging.duckdb"]
    area = StagingArea(folder)
    assert [(event.name, event.action) for event in area.events()] == [("text", "create")]
    assert area.setting("branch") == "master"
    area.close()
