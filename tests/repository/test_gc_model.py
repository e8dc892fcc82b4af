"""Random histories with repacks in them, then a garbage collection: whatever a name reaches is as it was, and nothing
else is left."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned, history
from hangar_cloud.errors import HangarError, NothingToCommitError
from hangar_cloud.progress import set_progress

BRANCHES = ["master", "b", "c"]
STEPS = st.one_of(
    st.tuples(st.just("commit"), st.sampled_from(BRANCHES), st.integers(0, 5), st.integers(0, 8)),
    st.tuples(st.just("branch"), st.sampled_from(BRANCHES), st.sampled_from(BRANCHES)),
    st.tuples(st.just("delete"), st.sampled_from(BRANCHES)),
    st.tuples(st.just("restore"), st.sampled_from(BRANCHES)),
    st.tuples(st.just("reset"), st.sampled_from(BRANCHES), st.integers(0, 3)),
    st.tuples(st.just("tag"), st.sampled_from(BRANCHES), st.integers(0, 1)),
    st.tuples(st.just("untag"), st.integers(0, 1)),
    st.tuples(st.just("merge"), st.sampled_from(BRANCHES), st.sampled_from(BRANCHES)),
    st.tuples(st.just("stash"), st.sampled_from(BRANCHES), st.integers(0, 8)),
    st.tuples(st.just("stage"), st.sampled_from(BRANCHES), st.integers(0, 8)),
    st.tuples(st.just("gc")),
    st.tuples(st.just("repack")),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.001)
    set_progress(False)


def _value(number: int) -> Any:
    return np.full(300, number, np.uint16)


class History:
    """A repository to which things happen, and what each commit held when it was made."""

    def __init__(self, place: str, cache: Path) -> None:
        self._place, self._cache = place, cache
        self.repository = self.open()
        self.repository.init("Model", "model@example.org")
        writer = self.repository.checkout(write=True)
        writer.add_ndarray_column("x", shape=300, dtype=np.uint16)
        writer["x", 0] = _value(0)
        writer.commit("first")
        writer.close()
        self.held: dict[str, dict[int, bytes]] = {}
        self.stashes = 0
        self.note()
        for step in (("branch", "b", "master"), ("commit", "b", 1, 7), ("tag", "b", 0), ("delete", "b")):
            self.step(*step)

    def open(self, machine: str = "one") -> Repository:
        return Repository(self._place, exists=False, cache_dir=self._cache / machine)

    def note(self) -> None:
        for branch in self.repository.list_branches():
            checkout = self.repository.checkout(branch=branch)
            digest = checkout.commit_hash
            if digest not in self.held:
                self.held[digest] = {key: value.tobytes() for key, value in checkout["x"].items()}

    def step(self, action: str, *arguments: Any) -> None:
        try:
            getattr(self, f"do_{action}")(*arguments)
        except (HangarError, NothingToCommitError):
            return  # such a branch is not there, is staged on, conflicts …
        self.note()

    def do_commit(self, branch: str, key: int, value: int) -> None:
        writer = self.repository.checkout(write=True, branch=branch)
        try:
            writer["x", key] = _value(value)
            writer.commit("changed")
        finally:
            writer.close()

    def do_branch(self, name: str, base: str) -> None:
        self.repository.create_branch(name, self.repository.checkout(branch=base).commit_hash)

    def do_delete(self, name: str) -> None:
        self.repository.remove_branch(name, force_delete=True)

    def do_restore(self, name: str) -> None:
        self.repository.restore_branch(name)

    def do_reset(self, name: str, back: int) -> None:
        self.repository.reset_branch(name, f"{name}@{{{back}}}")

    def do_tag(self, branch: str, number: int) -> None:
        self.repository.create_tag(f"t-{number}", self.repository.checkout(branch=branch).commit_hash)

    def do_untag(self, number: int) -> None:
        self.repository.delete_tag(f"t-{number}")

    def do_merge(self, one: str, other: str) -> None:
        self.repository.merge("merged", one, other, strategy="theirs")

    def do_stage(self, branch: str, value: int) -> None:
        writer = self.repository.checkout(write=True, branch=branch)
        writer["x", 100 + value] = _value(value)
        writer.close()

    def do_stash(self, branch: str, value: int) -> None:
        writer = self.repository.checkout(write=True, branch=branch)
        try:
            writer["x", 200 + value] = _value(value)
            writer.stash(f"s-{self.stashes}")
            self.stashes += 1
        finally:
            writer.close()

    def do_gc(self) -> None:
        self.repository.gc(grace=0)

    def do_repack(self) -> None:
        self.repository.repack()

    def reachable(self) -> set[str]:
        repository = self.open("fresh")
        starts = [repository.checkout(branch=branch).commit_hash for branch in repository.list_branches()]
        starts += [tag.digest for tag in repository.list_tags()]
        return set(history.ancestors(starts, repository._storage.commit))

    def check_collected(self) -> None:
        """A collection that keeps nothing but what is named leaves that whole, and, of commits, nothing else."""
        before = self.reachable()
        self.repository.gc(grace=0, keep_reflog=0)
        assert self.reachable() == before
        fresh = self.open("fresh again")
        for digest in before & self.held.keys():
            found = {key: value.tobytes() for key, value in fresh.checkout(commit=digest)["x"].items()}
            assert found == self.held[digest]
        assert not [finding for finding in fresh.fsck() if finding.is_damage]
        planned = self.repository.gc(True, grace=0, keep_reflog=0)
        assert planned.names == []
        self.check_staged()

    def check_staged(self) -> None:
        """What is staged or stashed can still be committed."""
        for branch in self.repository.list_branches():
            try:
                writer = self.repository.checkout(write=True, branch=branch)
            except HangarError:
                continue
            staged = {key: int(writer["x"][key][0]) for key in writer["x"] if key >= 100}
            assert all(value == key % 100 for key, value in staged.items())
            if writer.diff.status() == "DIRTY":
                writer.commit("what was staged")
            for info in writer.stash.list():
                try:
                    writer.stash.pop(info.name)
                except HangarError:
                    continue
                writer.commit("what was stashed") if writer.diff.status() == "DIRTY" else None
            writer.close()
            found = self.open("fresh " + branch).checkout(branch=branch)["x"]
            assert all(int(found[key][0]) == key % 100 for key in found if key >= 100)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_what_is_named_is_whole_and_the_rest_is_gone(kind, steps):
    folder = Path(tempfile.mkdtemp(prefix="hangar-gc-"))
    try:
        place = str(folder / "repository") if kind == "folder" else f"memory://gc-model-{uuid4().hex}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = History(place, folder / "cache")
            for step in steps:
                model.step(*step)
            model.check_collected()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
