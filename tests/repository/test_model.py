"""The whole repository against plain dicts: whatever is done to it, it holds what the dicts hold."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hangar_cloud import Repository
from hangar_cloud.errors import ColumnExistsError, DirtyStagingError, NothingToCommitError
from hangar_cloud.progress import set_progress

Columns = dict[str, dict[int | str, Any]]

NAMES = ["a", "b", "c"]
KEYS = st.one_of(st.integers(0, 8), st.sampled_from(["0", "1", "x", "dir/file.png", "z-1"]))
KINDS = {
    "a": [("ndarray", (2, 40), "<f4", False), ("ndarray", (), "<i8", False)],
    "b": [("ndarray", (5, 30), "|u1", True), ("str",)],
    "c": [("bytes",), ("ndarray", (1,), "<f8", False)],
}
EXAMPLES = int(os.environ.get("HANGAR_MODEL_EXAMPLES", "25"))


def _make_value(kind: tuple[Any, ...], seed: int) -> Any:
    if kind[0] == "str":
        return "täxt " * (seed % 40) + str(seed)
    if kind[0] == "bytes":
        return bytes([seed % 256]) * (seed * 13 % 400)
    _, shape, dtype, variable = kind
    if variable:
        shape = tuple(1 + seed * (i + 1) % n for i, n in enumerate(shape))
    return np.full(shape, seed % 100, dtype)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _same_columns(one: Columns, other: Columns) -> bool:
    if one.keys() != other.keys():
        return False
    return all(
        one[name].keys() == other[name].keys() and all(_equal(one[name][key], other[name][key]) for key in one[name])
        for name in one
    )


class RepositoryModel(RuleBasedStateMachine):
    """Writers come and go, are killed, switch branches, push and clone; the dicts remember."""

    bucket = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hangar-model-"))
        self.place = f"memory://model-{uuid4().hex}" if self.bucket else str(self.folder / "repository")
        self.repository = self._open()
        self.repository.init("Model", "model@example.org")
        self.kinds: dict[str, dict[str, tuple[Any, ...]]] = {"master": {}}
        self.committed: dict[str, Columns] = {"master": {}}
        self.history: dict[str, Columns] = {}
        self.heads: dict[str, str] = {}
        self.branch = "master"
        self.working: Columns = {}
        self.staged = False
        self.remote = str(self.folder / "remote")
        self.has_remote = False
        self.checkout = self.repository.checkout(write=True)

    def _open(self) -> Repository:
        return Repository(self.place, exists=False, cache_dir=self.folder / "cache")

    def teardown(self) -> None:
        self.checkout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @initialize(name=st.sampled_from(NAMES), choice=st.integers(0, 1))
    def first_column(self, name: str, choice: int) -> None:
        self.add_column(name, choice)

    @rule(name=st.sampled_from(NAMES), choice=st.integers(0, 1))
    def add_column(self, name: str, choice: int) -> None:
        kind = KINDS[name][choice % len(KINDS[name])]
        kinds = self.kinds[self.branch]
        try:
            if kind[0] == "ndarray":
                self.checkout.add_ndarray_column(name, shape=kind[1], dtype=np.dtype(kind[2]), variable_shape=kind[3])
            elif kind[0] == "str":
                self.checkout.add_str_column(name)
            else:
                self.checkout.add_bytes_column(name)
        except ColumnExistsError:
            assert name in self.working
            return
        assert name not in self.working
        self.working[name] = {}
        kinds[name] = kind
        self.staged = True

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def remove_column(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.working)))
        assert self.checkout.columns.delete(name) == name
        del self.working[name]
        self.staged = True

    @precondition(lambda self: self.working)
    @rule(data=st.data(), key=KEYS, seed=st.integers(0, 500))
    def set_sample(self, data: st.DataObject, key: int | str, seed: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.working)))
        value = _make_value(self.kinds[self.branch][name], seed)
        self.checkout[name, key] = value
        self.working[name][key] = copy.deepcopy(value)
        self.staged = True

    @precondition(lambda self: self.working)
    @rule(data=st.data(), pairs=st.dictionaries(KEYS, st.integers(0, 500), min_size=1, max_size=12), fail=st.booleans())
    def write_block(self, data: st.DataObject, pairs: dict[int | str, int], fail: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.working)))
        column = self.checkout[name]
        kind = self.kinds[self.branch][name]
        try:
            with column:
                for key, seed in pairs.items():
                    column[key] = _make_value(kind, seed)
                    self.working[name][key] = _make_value(kind, seed)
                if fail:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        self.staged = True

    @precondition(lambda self: any(self.working.values()))
    @rule(data=st.data())
    def delete_sample(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(name for name, samples in self.working.items() if samples)))
        key = data.draw(st.sampled_from(sorted(self.working[name], key=str)))
        value = self.checkout[name].pop(key)
        assert _equal(value, self.working[name].pop(key))
        self.staged = True

    @rule()
    def commit(self) -> None:
        try:
            digest = self.checkout.commit("model")
        except NothingToCommitError:
            same_kinds = self.kinds[self.branch] == getattr(self, "_committed_kinds", {}).get(self.branch, {})
            assert _same_columns(self.working, self.committed[self.branch]) or not same_kinds
            return
        assert self.staged
        self.committed[self.branch] = copy.deepcopy(self.working)
        self.history[digest] = copy.deepcopy(self.working)
        self.heads[self.branch] = digest
        self._remember_kinds()
        self.staged = False

    @precondition(lambda self: self.staged)
    @rule()
    def reset(self) -> None:
        self.checkout.reset_staging_area()
        self.working = copy.deepcopy(self.committed[self.branch])
        self.kinds[self.branch] = dict(getattr(self, "_committed_kinds", {}).get(self.branch, {}))
        self.staged = False
        self.checkout = self.repository.checkout(write=True, branch=self.branch)

    @rule()
    def close_and_reopen(self) -> None:
        self.checkout.close()
        self.repository = self._open()
        self.checkout = self.repository.checkout(write=True, branch=self.branch)

    @precondition(lambda self: not self.bucket)
    @rule()
    def kill(self) -> None:
        """A copy of the folder while the writer is open is what a killed writer leaves behind."""
        killed = self.checkout
        target = self.folder / f"copy-{uuid4().hex}"
        shutil.copytree(self.place, target)
        killed.close()
        shutil.rmtree(self.place)
        self.place = str(target)
        self.repository = self._open()
        self.checkout = self.repository.checkout(write=True, branch=self.branch)

    @precondition(lambda self: self.branch in self.heads and len(self.committed) < 4)
    @rule()
    def create_branch(self) -> None:
        name = f"branch{len(self.committed)}"
        head = self.repository.create_branch(name, self.heads[self.branch])
        assert head.digest == self.heads[self.branch]
        self.committed[name] = copy.deepcopy(self.committed[self.branch])
        self.kinds[name] = dict(self._committed_kinds[self.branch])
        self._committed_kinds[name] = dict(self._committed_kinds[self.branch])
        self.heads[name] = head.digest

    @rule(data=st.data())
    def switch_branch(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.committed)))
        self.checkout.close()
        try:
            self.checkout = self.repository.checkout(write=True, branch=name)
        except DirtyStagingError:
            assert self.staged
            assert name != self.branch
            assert not self.bucket
            self.checkout = self.repository.checkout(write=True, branch=self.branch)
            return
        if self.bucket and self.staged and name != self.branch:
            # On a bucket the other branch gets a staging area of its own; go back to the first.
            self.checkout.close()
            self.checkout = self.repository.checkout(write=True, branch=self.branch)
            return
        assert not self.staged or name == self.branch
        if name != self.branch:
            self.branch = name
            self.working = copy.deepcopy(self.committed[name])

    @precondition(lambda self: not self.bucket and self.branch in self.heads)
    @rule()
    def push_and_clone(self) -> None:
        if not self.has_remote:
            self.repository.remote.add("origin", f"file://{self.remote}")
            self.has_remote = True
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.repository.remote.push("origin", self.branch)
            clone = Repository(str(self.folder / f"clone-{uuid4().hex}"), exists=False)
            clone.clone("Other", "other@example.org", f"file://{self.remote}")
            clone.remote.fetch("origin", self.branch)
        reader = clone.checkout(branch=f"origin/{self.branch}")
        assert reader.commit_hash == self.heads[self.branch]
        assert _same_columns(_contents(reader), self.committed[self.branch])

    @invariant()
    def writer_agrees(self) -> None:
        assert _same_columns(_contents(self.checkout), self.working)
        assert {name: len(self.checkout[name]) for name in self.checkout} == {
            name: len(samples) for name, samples in self.working.items()
        }

    @invariant()
    def readers_agree(self) -> None:
        for digest in list(self.history)[-2:]:
            reader = self.repository.checkout(commit=digest)
            assert _same_columns(_contents(reader), self.history[digest])
            reader.close()
        for branch, digest in self.heads.items():
            assert self.repository.checkout(branch=branch).commit_hash == digest

    def _remember_kinds(self) -> None:
        if not hasattr(self, "_committed_kinds"):
            self._committed_kinds: dict[str, dict[str, tuple[Any, ...]]] = {}
        self.kinds[self.branch] = {name: self.kinds[self.branch][name] for name in self.working}
        self._committed_kinds[self.branch] = dict(self.kinds[self.branch])


class BucketModel(RepositoryModel):
    """The same, directly on a bucket."""

    bucket = True


def _contents(checkout: Any) -> Columns:
    found = {}
    for name, column in checkout.items():
        found[name] = dict(column.items())
        assert list(column.keys()) == sorted(found[name], key=lambda key: (isinstance(key, str), key))
        assert all(_equal(column[key], value) for key, value in found[name].items())
    return found


@pytest.mark.parametrize("model", [RepositoryModel, BucketModel])
def test_the_repository_holds_what_the_dicts_hold(
    model: type[RepositoryModel], capsys: pytest.CaptureFixture[str]
) -> None:
    set_progress(False)
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    capsys.readouterr()
