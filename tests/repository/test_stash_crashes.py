"""Stashes when something dies or fails: the changes are staged or in the stash, whole, and never in neither."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from hangar_cloud import Repository
from tests.repository.making import add_commit, read_all, same_columns, start_process, wait_for_line
from tests.repository.stashing import BIG, change_everything, contents


class Copier:
    """Copies a repository's folder before and after every step that moves or writes something: as a kill leaves it."""

    def __init__(self, folder, target, monkeypatch):
        self.folder, self.target, self.copies = Path(folder), target, []
        for module, name in [
            (os, "rename"),
            (os, "replace"),
            (shutil, "rmtree"),
        ]:
            self._wrap(monkeypatch, module, name)
        for name in ("open", "close", "clear", "set_settings"):
            self._wrap(monkeypatch, __import__("hangar_cloud.catalog.staging", fromlist=["x"]).StagingArea, name)

    def _wrap(self, monkeypatch, owner, name):
        step = getattr(owner, name)

        def watched(*arguments, **options):
            self.copy()
            try:
                return step(*arguments, **options)
            finally:
                self.copy()

        monkeypatch.setattr(owner, name, watched)

    def copy(self):
        if self.folder.exists():
            target = self.target / str(len(self.copies))
            # Real calls: the copying itself is not watched.
            finish_copy(self.folder, target)
            self.copies.append(target)


def finish_copy(folder, target):
    for here, _, names in os.walk(folder):
        there = target / Path(here).relative_to(folder)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            (there / name).write_bytes((Path(here) / name).read_bytes())


@pytest.mark.parametrize("operation", ["stash", "pop", "pop elsewhere", "drop"])
def test_killed_after_any_step_it_has_happened_or_not(committed, tmp_path, monkeypatch, operation):
    before = read_all(committed)
    committed.create_branch("dev")
    writer = committed.checkout(write=True)
    changed = change_everything(writer)
    branch = "master"
    if operation != "stash":
        writer.stash("one")
    if operation == "pop elsewhere":
        writer.close()
        add_commit(committed, {5: BIG}, column="elsewhere", branch="dev")
        before["elsewhere"] = changed["elsewhere"] = {5: BIG}
        before, changed = dict(sorted(before.items())), dict(sorted(changed.items()))
        branch = "dev"
        writer = committed.checkout(write=True, branch=branch)
    with monkeypatch.context() as patched:
        copier = Copier(committed.path, tmp_path / "copies", patched)
        if operation == "stash":
            writer.stash("one")
        elif operation == "drop":
            writer.stash.drop("one")
        else:
            writer.stash.pop("one")
    writer.close()
    seen = []
    for copy in copier.copies:
        checkout = Repository(copy).checkout(write=True, branch=branch)
        stashes = [info.name for info in checkout.stash.list()]
        staged = checkout.diff.status() == "DIRTY"
        seen.append((staged, stashes))
        assert same_columns(contents(checkout), changed if staged else before)
        if operation == "drop":
            assert not staged
        else:
            assert staged != bool(stashes), "the changes are in one place, whole"
        if stashes:
            checkout.stash.pop("one")
        if staged or stashes:
            assert same_columns(contents(checkout), changed)
            checkout.commit("changed")
            assert same_columns(contents(checkout), changed)
        checkout.close()
    first, last = (True, []), (False, ["one"])
    if operation.startswith("pop"):
        first, last = last, first
    elif operation == "drop":
        first, last = (False, ["one"]), (False, [])
    assert seen[0] == first
    assert seen[-1] == last
    assert seen == sorted(seen, key=lambda item: item == last), "and it happens at one moment"


STASHING = """
    import sys
    import numpy as np
    from hangar_cloud import Repository
    writer = Repository(sys.argv[1]).checkout(write=True)
    print("ready", flush=True)
    while True:
        if writer.diff.status() == "DIRTY":
            writer.stash("one")
        else:
            writer.stash.pop("one")
"""


def test_killed_at_random(committed):

    writer = committed.checkout(write=True)
    changed = change_everything(writer)
    writer.close()
    for seed in range(6):
        process = start_process(STASHING, committed.path)
        assert wait_for_line(process) == "ready"
        time.sleep(random.Random(seed).uniform(0, 0.4))
        process.kill()
        process.communicate()
        writer = committed.checkout(write=True)
        staged = writer.diff.status() == "DIRTY"
        assert staged != bool(writer.stash.list())
        if not staged:
            writer.stash.pop()
        assert same_columns(contents(writer), changed)
        writer.close()


def test_a_failing_rename_leaves_everything_as_it_was(committed, monkeypatch):
    writer = committed.checkout(write=True)
    changed = change_everything(writer)

    def fail(*_):
        raise OSError("no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="no"):
            writer.stash("one")
    assert same_columns(contents(writer), changed)
    writer.stash("one")
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="no"):
            writer.stash.pop("one")
    assert writer.diff.status() == "CLEAN"
    writer.stash.pop("one")
    assert same_columns(contents(writer), changed)
    writer.close()


def test_after_a_release_by_force_the_old_changes_do_not_come_back(committed):
    writer = committed.checkout(write=True)
    writer["text", 0] = "staged"
    writer.close()
    with pytest.warns(ResourceWarning):
        committed.force_release_writer_lock()
    left = Path(committed.path) / ".hangar" / "staging" / "0"
    kept = left.with_name("kept")
    shutil.copytree(left, kept)
    writer = committed.checkout(write=True)
    writer.close()
    os.rename(kept, left)  # as if the process had died before it removed what it took over
    writer = committed.checkout(write=True)
    writer.stash("one")
    folder = Path(writer._staging.folder)
    writer.close()
    shutil.rmtree(folder)  # as if the process had died before it made a new area
    writer = committed.checkout(write=True)
    assert writer.diff.status() == "CLEAN"
    assert [info.name for info in writer.stash.list()] == ["one"]
    writer.close()


def test_after_a_commit_whose_answer_never_came(committed, monkeypatch):
    writer = committed.checkout(write=True)
    writer["text", 0] = "staged"
    with monkeypatch.context() as patched:
        patched.setattr(
            "hangar_cloud.catalog.committer.Committer._settle", lambda *_: (_ for _ in ()).throw(OSError("gone"))
        )
        with pytest.raises(OSError, match="gone"):
            writer.commit("landed, but nobody knows")
    writer.stash("one")
    writer["text", 1] = "more"
    writer.commit("more")
    writer.stash.pop("one")
    with pytest.raises(RuntimeError, match="nothing to commit"):
        writer.commit("nothing")
    writer.close()
    assert read_all(committed)["text"][0] == "staged"
