"""Bulk imports that are ended in the midst: the repository is as it was, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.bulk_importer import UDF_Return, run_bulk_import
from hangar_cloud.errors import CommitConflictError
from tests.repository import bulk_functions as functions
from tests.repository.making import ROOT, files_of, make_repository, read_all, start_process
from tests.terminal import all_seen, new_terminal

SCRIPT = """
    import os, sys, time
    from pathlib import Path
    import numpy as np
    from hangar_cloud import Repository
    from hangar_cloud.bulk_importer import UDF_Return, run_bulk_import

    def stays(key, folder):
        yield UDF_Return("big", key, np.arange(2**20, dtype=np.int64) + key)
        Path(folder, f"{key}.at-work").write_text(str(os.getpid()))
        while True:
            time.sleep(0.02)

    def quick(key, folder):
        yield UDF_Return("big", key, np.arange(2**20, dtype=np.int64) + key)

    def die(*_, **__):
        os.kill(os.getpid(), 9)

    place, folder, what = sys.argv[1:]
    if what == "before the commit":
        from hangar_cloud.catalog.committer import Committer
        Committer._publish = die
    if what == "after the commit":
        from hangar_cloud.catalog.committer import Committer
        Committer._settle = die
    udf = stays if what == "at work" else quick
    items = [{"key": n, "folder": folder} for n in range(2)]
    run_bulk_import(Repository(place), "master", ["big"], udf, items, ncpus=2)
"""


@pytest.fixture
def repository(tmp_path):
    made = make_repository(tmp_path / "repository")
    checkout = made.checkout(write=True)
    checkout.add_ndarray_column("big", shape=(2**20,), dtype=np.int64)
    checkout.add_str_column("text")
    checkout["text", "there"] = "before"
    checkout.commit("columns")
    checkout.close()
    return made


def objects(repository):
    return {name: data for name, data in files_of(repository.path).items() if "/store/" in name}


def scratch(repository):
    return list(Path(repository.path, ".hangar").glob("staging/*/bulk/*"))


def status(repository):
    checkout = repository.checkout(write=True)
    found = checkout.diff.status()
    checkout.close()
    return found


def at_work(folder):
    """The processes of `stays`, once both are at work and have written packs."""
    names = [folder / "0.at-work", folder / "1.at-work"]
    functions.wait_for(lambda: all(name.exists() and name.read_text() for name in names))
    return [int(name.read_text()) for name in names]


def living(process):
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")


def check_as_before(repository, before):
    assert status(repository) == "CLEAN"
    assert scratch(repository) == []
    assert not list(Path(repository.path, ".hangar").glob("staging/*/*.pack"))
    assert objects(repository) == before
    assert run_bulk_import(repository, "master", ["text"], functions.text, [{"key": "next"}])
    assert read_all(repository)["text"] == {"next": "some text", "there": "before"}
    assert repository.verify_repo_integrity()


def test_a_main_process_that_is_killed_takes_its_workers_along(repository, tmp_path):
    before = objects(repository)
    process = start_process(SCRIPT, repository.path, str(tmp_path), "at work")
    workers = at_work(tmp_path)
    assert len(scratch(repository)) == 1
    process.kill()
    process.communicate()
    functions.wait_for(lambda: not any(map(living, workers)), 20)
    assert repository.verify_repo_integrity()
    check_as_before(repository, before)


@pytest.mark.usefixtures("heard")
def test_control_c_ends_it_all_at_once(repository, tmp_path):
    before = objects(repository)
    process = start_process(SCRIPT, repository.path, str(tmp_path), "at work")
    workers = at_work(tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert not any(map(living, workers))
    assert scratch(repository) == []
    check_as_before(repository, before)


def test_killed_between_staging_and_commit_it_is_taken_back(repository, tmp_path):
    before = objects(repository)
    process = start_process(SCRIPT, repository.path, str(tmp_path), "before the commit")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(Path(repository.path, ".hangar").glob("staging/*/*.pack"))
    check_as_before(repository, before)


def test_killed_right_after_the_commit_it_is_committed(repository, tmp_path):
    process = start_process(SCRIPT, repository.path, str(tmp_path), "after the commit")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert status(repository) == "CLEAN"
    assert sorted(read_all(repository)["big"]) == [0, 1]
    assert repository.verify_repo_integrity()


def test_control_c_while_it_is_committed_takes_it_back(repository, monkeypatch):
    before = objects(repository)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hangar_cloud.catalog.committer.Committer._publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_bulk_import(repository, "master", ["text"], functions.text, [{"key": "a"}])
    monkeypatch.undo()
    check_as_before(repository, before)


def test_what_could_not_be_committed_is_staged(tmp_path):
    """Another writer is first, with another value: that is for people to decide, and the work is not lost."""
    options = {"cache_dir": str(tmp_path / "one")}
    repository = make_repository(f"file://{tmp_path}/bucket", **options)
    checkout = repository.checkout(write=True)
    checkout.add_str_column("text")
    checkout.commit("column")
    checkout.close()

    def races(key):
        other = Repository(f"file://{tmp_path}/bucket", cache_dir=str(tmp_path / "two"))
        writer = other.checkout(write=True)
        writer["text", key] = "of the other"
        writer.commit("first")
        writer.close()
        yield UDF_Return("text", key, "of the import")

    with pytest.raises(CommitConflictError, match="sample 'a'"):
        run_bulk_import(repository, "master", ["text"], races, [{"key": "a"}], recheck=0)
    checkout = repository.checkout(write=True)
    assert checkout["text", "a"] == "of the import"
    checkout.commit("settled", on_conflict="ours")
    checkout.close()
    assert read_all(repository)["text"] == {"a": "of the import"}


NOTEBOOK = """
    import asyncio, sys
    from hangar_cloud import Repository
    from hangar_cloud.bulk_importer import UDF_Return, run_bulk_import
    from hangar_cloud.progress import set_progress

    prefix = "from the cell"

    def helper(key):
        return f"{prefix} {key}"

    def of_the_cell(key):
        yield UDF_Return("text", key, helper(key))

    async def cell():  # as in Jupyter, where a loop is running
        repository = Repository(sys.argv[1])
        set_progress(sys.argv[2] == "shown")
        run_bulk_import(repository, "master", ["text"], of_the_cell, [{"key": f"k{n}"} for n in range(9)], ncpus=2)

    asyncio.run(cell())
"""


def test_functions_of_a_notebook(repository):
    process = start_process(NOTEBOOK, repository.path, "shown")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")
    assert read_all(repository)["text"]["k8"] == "from the cell k8"


@pytest.mark.parametrize("shown", ["shown", "not"])
def test_a_script_without_a_guard_shows_progress_on_a_terminal(repository, tmp_path, shown):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(NOTEBOOK))
    ours, theirs = new_terminal()
    process = subprocess.Popen(
        [sys.executable, str(script), repository.path, shown], cwd=ROOT, stderr=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    seen = all_seen(ours)
    assert process.wait(60) == 0, seen
    assert (b"importing" in seen and b"9/9" in seen) if shown == "shown" else seen == b""
    assert len(read_all(repository)["text"]) == 10
