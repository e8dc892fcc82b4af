"""`hangar verify`: what it says of repositories that are healthy, damaged, in parts, locked, absent or out of reach."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import main
from tests.cli.running import invoke
from tests.cli.test_terminal import on_terminal
from tests.repository.forging import flip, store_files


@pytest.fixture
def damaged(filled):
    """The filled repository with a flipped byte in its one pack."""
    (pack,) = store_files(filled, "packs/*/*")
    flip(pack, 40)
    return pack


@pytest.fixture
def clone(shared, bucket, tmp_path):
    """A clone of the filled repository that holds no data."""
    made = Repository(tmp_path / "clone", exists=False)
    made.clone("Ben", "ben@example.org", bucket)
    return made


def test_a_healthy_repository(filled):
    assert invoke(main, "verify").stdout == "Nothing is damaged.\n"
    said = invoke(main, "verify", "--level", "records").stdout
    assert said == "Nothing is damaged; the samples' bytes were not read.\n"
    assert json.loads(invoke(main, "verify", "--json").stdout) == {"damaged": False, "findings": []}


def test_a_damaged_repository(damaged):
    result = invoke(main, "verify", code=1)
    first, *samples, verdict, advice = result.stdout.splitlines()
    assert first.startswith(f"damaged: its bytes do not match its name (pack {damaged.stem[:12]}); ")
    assert all("column 'images' | sample " in line for line in samples)
    assert verdict == f"The repository is damaged: {len(samples) + 1} findings."
    assert "delete the one here" in advice
    assert result.stderr == ""


def test_findings_as_json(damaged):
    document = json.loads(invoke(main, "verify", "--json", code=1).stdout)
    found = document["findings"]
    assert document["damaged"]
    assert {finding["kind"] for finding in found} <= {"damaged", "digest"}
    assert all(finding["is_damage"] and finding["object"].endswith(damaged.name) for finding in found)


def test_damaged_samples_are_no_concern_of_the_records(damaged):
    invoke(main, "verify", "--level", "records")


def test_a_clone_without_data(clone, monkeypatch):
    monkeypatch.chdir(clone.path)
    note, verdict = invoke(main, "verify").stdout.splitlines()
    assert note.startswith("note: the records of 20 samples (over all commits) are not on this machine")
    assert "`hangar verify --fetch`" in note
    assert verdict == "Nothing that was checked is damaged."
    assert invoke(main, "verify", "--fetch").stdout == "Nothing is damaged.\n"


def test_a_remote_that_lost_what_a_clone_needs(clone, tmp_path, monkeypatch):
    monkeypatch.chdir(clone.path)
    shutil.rmtree(tmp_path / "bucket" / "records")
    said = invoke(main, "verify", code=1).stdout
    assert "missing: records/" in said
    assert f"nor in {tmp_path / 'bucket'}" in said


def test_a_bucket(shared, bucket):
    assert invoke(main, "-C", bucket, "verify").stdout == "Nothing is damaged.\n"


def test_a_repository_that_is_being_written_to(filled):
    writer = filled.checkout(write=True)
    writer["images", 99] = np.zeros((28, 28), np.uint8)
    assert invoke(main, "verify").stdout == "Nothing is damaged.\n"
    writer.close()


def test_no_repository(place):
    result = invoke(main, "verify", code=1)
    assert f"no Hangar repository at {place}" in result.stderr
    assert result.stdout == ""


def test_a_repository_whose_mark_is_gone(filled):
    store_files(filled, "hangar.json")[0].unlink()
    for command in ("verify", "log"):
        said = invoke(main, command, code=1).stderr
        assert "hangar.json is gone from" in said
        assert "copy it from a clone or a remote" in said
        assert "init" not in said, "a new repository in its place would have another id"


def test_a_bucket_that_cannot_be_reached():
    options = ("--storage-option", "anon=true", "--storage-option", "endpoint_url=http://127.0.0.1:9")
    result = invoke(main, "-C", "s3://nobody/here", *options, "verify", code=1)
    assert "the server cannot be reached" in result.stderr
    assert "damaged" not in result.stdout + result.stderr


def test_starting_anew(filled):
    (filled._storage.root / "verified.jsonl").write_text("[]\n")
    assert invoke(main, "verify", "--restart").stdout == "Nothing is damaged.\n"
    assert not (filled._storage.root / "verified.jsonl").exists()


@pytest.mark.parametrize("flags", [[], ["--no-progress"]])
def test_progress_is_drawn_on_a_terminal_unless_it_is_turned_off(filled, place, flags):
    seen = on_terminal(*flags, "verify", cwd=place)
    assert ("checking records" in seen) is (flags == [])
    assert ("checking samples" in seen) is (flags == [])
    assert "Nothing is damaged." in seen
