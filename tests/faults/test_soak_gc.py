"""Garbage collections in a loop beside writers and readers: nobody ever misses an object."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from hangar_cloud import Repository
from tests.faults.churn import Task, seed
from tests.faults.crew import make_columns, start_module
from tests.faults.ingest import lines_of
from tests.repository.making import finish, start_process

QUICK = {"SETTLE_SECONDS": 4.0, "SWEEP_SECONDS": 48.0, "LEASE_SECONDS": 120.0}
PATIENCE = 120


def churn(url, options, folder, seconds, writers, readers, times):
    """Let them all work for some seconds, and look at what they leave; returns what each role noted."""
    make_columns(url, options, folder / "owner")
    note = seed(Repository(url, storage_options=options, cache_dir=folder / "owner"))
    (folder / "write-owner.notes").write_text(json.dumps(note) + "\n")
    roles = [("collect", 0), *(("write", n) for n in range(writers)), *(("read", n) for n in range(readers))]
    processes = {}
    for role, number in roles:
        name = f"{role}-{number}"
        notes = str(folder / f"{name}.notes")
        task = Task(role, number, url, options, str(folder / name), seconds, notes, times)
        processes[name] = start_module("tests.faults.churn", task.encode())
    try:
        failures = {name: process.communicate(timeout=seconds + PATIENCE)[1] for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    told = [f"{name}: {text[-4000:]}" for name, text in failures.items() if processes[name].returncode]
    assert not told, "\n".join(told)
    noted = {
        role: [json.loads(line) for line in lines_of(folder.glob(f"{role}-*.notes"))]
        for role in ("collect", "write", "read")
    }
    everything = folder / "everything.notes"
    everything.write_text("".join(json.dumps(note) + "\n" for note in noted["write"]))
    script = "from tests.faults.churn import check; import sys; check(*sys.argv[1:])"
    finish(start_process(script, url, json.dumps(options), str(folder / "checker"), str(everything)))
    return noted


def assert_it_was_worth_it(noted):
    """Something was deleted while others read and wrote."""
    total = sum((Counter(note) for note in noted["collect"]), Counter())
    print({role: len(notes) for role, notes in noted.items()}, dict(total))
    assert total["commits"] > 0
    assert total["records"] > 0
    assert sum(note["read"] for note in noted["read"]) > 0
    return total


def test_two_writers_and_two_readers(s3_url, s3_options, tmp_path):
    assert_it_was_worth_it(churn(s3_url, s3_options, tmp_path, 12, 2, 2, QUICK))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_four_writers_and_four_readers_for_two_minutes(s3_url, s3_options, tmp_path):
    total = assert_it_was_worth_it(churn(s3_url, s3_options, tmp_path, 120, 4, 4, {}))
    assert total["packs"] > 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_four_writers_and_four_readers_of_gcs_for_two_minutes(gcs_url, gcs_options, tmp_path):
    total = assert_it_was_worth_it(churn(gcs_url, gcs_options, tmp_path, 120, 4, 4, {}))
    assert total["packs"] > 0
