"""`hangar status` says what is staged, whoever staged it, and disturbs nobody."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import cli
from hangar_cloud.status import read_status
from tests.cli.running import clean_environment, invoke


def said(repo: Repository) -> list[str]:
    return invoke(cli.status, obj=repo).stdout.splitlines()


def test_nothing_at_all(repo):
    lines = said(repo)
    assert lines[:2] == ["On branch master, without a commit yet", "Staging area: CLEAN"]
    assert "`hangar column create NAME DTYPE SHAPE`" in lines[-1]
    assert "`hangar import COLUMN FOLDER`" in lines[-1]


def test_clean(filled):
    digest = filled.log(return_contents=True)["head"]
    assert said(filled)[:2] == [f"On branch master, at commit {digest[:12]}", "Staging area: CLEAN"]


def test_every_kind_of_change(filled):
    co = filled.checkout(write=True)
    co["images"][3] = np.full((28, 28), 99, np.uint8)
    co["images"][4] = np.full((28, 28), 4, np.uint8)  # as it was
    co["images"]["new"] = np.zeros((28, 28), np.uint8)
    co["images"]["gone-again"] = np.zeros((28, 28), np.uint8)
    del co["images"]["gone-again"]
    del co["images"][5], co["images"][6]
    extra = co.add_ndarray_column("extra", shape=(3,), dtype=np.float32, variable_shape=True)
    with extra:
        for i in range(2000):
            extra[i] = np.ones(1, np.float32)
    co.columns.delete("labels")
    co.close()
    lines = said(filled)
    assert lines[1] == "Staging area: DIRTY"
    assert lines[2:5] == [
        "  new column       extra (float32, at most 3): 2,000 added",
        "  changed column   images (uint8, 28 x 28): 1 added, 1 changed, 2 removed",
        "  removed column   labels (str): 10 removed",
    ]
    assert '`hangar commit -m "what changed"`' in lines[-1]


def test_a_column_that_was_made_anew(filled):
    co = filled.checkout(write=True)
    co.columns.delete("labels")
    co.add_ndarray_column("labels", shape=(), dtype=np.int64)
    co.close()
    assert "  replaced column  labels (int64, single numbers)" in said(filled)


def test_another_backend(filled):
    co = filled.checkout(write=True)
    co["images"].change_backend("p0", {"codec": "zstd"})
    co.close()
    assert "  changed column   images (uint8, 28 x 28): backend changed" in said(filled)


def test_columns_that_were_renamed_or_altered_and_metadata(filled):
    co = filled.checkout(write=True)
    co.columns.rename("labels", "names")
    co.columns.alter("images", shape=(30, 30), variable_shape=True)
    co.metadata.update({"licence": "CC0", "author": "Ada"})
    assert said(filled)[3:7] == [
        "  metadata: 2 added",
        "  replaced column  images (uint8, at most 30 x 30): 10 added",
        "  removed column   labels (str): 10 removed",
        "  new column       names (str): 10 added",
    ]
    co.commit("renamed")
    co.columns.alter("images", shape=(40, 40))
    co.metadata["licence"] = "MIT"
    co.close()
    assert said(filled)[2:4] == [
        "  metadata: 1 changed",
        "  changed column   images (uint8, at most 40 x 40): schema changed",
    ]


def test_what_was_undone(filled):
    co = filled.checkout(write=True)
    co["labels"][1] = "other"
    co["labels"][1] = "label 1"
    assert any("everything that was staged was undone" in line.lower() for line in said(filled))
    co.close()
    assert said(filled)[1] == "Staging area: CLEAN"


def test_a_writer_in_another_process(filled, place):
    """The copy of the staging area is read while the writer is open, and the writer goes on."""
    program = f"""
from hangar_cloud import Repository
co = Repository({str(place)!r}).checkout(write=True)
co["labels"]["from-elsewhere"] = "x"
print("staged", flush=True)
input()
co["labels"]["later"] = "y"
print(co.commit("from elsewhere"))
co.close()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(place),
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "staged\n"
        lines = said(filled)
        assert lines[1].startswith("A writer is open")
        assert "  changed column   labels (str): 1 added" in lines
        assert "the writer lock" in invoke(cli.commit, "-m", "mine", obj=filled, code=1).stderr
        writer.stdin.write("\n")
        writer.stdin.flush()
        digest = writer.stdout.readline().strip()
    assert filled.log(return_contents=True)["head"] == digest
    assert "Staging area: CLEAN" in said(filled)


def test_after_a_release_by_force_the_newest_area_counts(filled):
    old = filled.checkout(write=True)
    old["labels"]["old"] = "x"
    invoke(cli.writer_lock_held, "--force-release", obj=filled)
    assert "  changed column   labels (str): 1 added" in said(filled)
    new = filled.checkout(write=True)
    new["labels"]["new"] = "y"
    new.close()
    assert "  changed column   labels (str): 2 added" in said(filled)
    with pytest.raises(PermissionError):
        old["labels"]["more"] = "z"


def test_reading_it_changes_nothing(filled, place):
    co = filled.checkout(write=True)
    co["labels"]["x"] = "y"
    co.close()
    before = {path: path.stat().st_mtime_ns for path in (place / ".hangar" / "staging").rglob("*")}
    read_status(filled._storage, "master")
    assert {path: path.stat().st_mtime_ns for path in (place / ".hangar" / "staging").rglob("*")} == before
