"""What is staged, written anew as what it comes to: it gives the same columns, also on a base that moved meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangar_cloud.backends.store.local import LocalStore
from hangar_cloud.catalog import committer
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import CommitConflictError, NothingToCommitError, StagingError
from hangar_cloud.catalog.normal_form import normal_form
from hangar_cloud.catalog.rebase import rebase
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import ColumnEvent, SampleEvents, StagingArea
from tests.catalog.bench import Bench, committed
from tests.model.killing import run_and_kill

NAMES = ["a", "b", "c", "passing.0"]
NEVER = 10**9
START = {"a": {0: "a0", 1: "a1"}, "b": {0: "b0"}}


def add(bench: Bench, name: str, rows: dict[int, str | None], kind: str = "str") -> None:
    """Make a column of text, or of bytes, and fill it."""
    bench.working.add_column(name, ColumnEntry(ColumnSchema(kind), None, "i0"))
    bench.put(name, rows)


def start(folder: Path) -> Bench:
    """A writer on a commit of the columns "a" and "b"."""
    bench = join(folder)
    for name, rows in START.items():
        add(bench, name, dict(rows))
    bench.commit("start")
    return bench


def join(folder: Path) -> Bench:
    """Another writer of the same store."""
    store = folder.parent / "store"
    store.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    if not (folder / "store").exists():
        (folder / "store").symlink_to(Path("..", "store"))
    return Bench(folder, LocalStore(store))


def state(bench: Bench) -> dict[str, Any]:
    """All that a writer sees of its columns."""
    return {name: (column.entry, bench.contents(name)) for name, column in sorted(bench.working.columns.items())}


def texts(bench: Bench) -> dict[str, dict[Any, Any]]:
    """The samples of every column."""
    return {name: bench.contents(name) for name in sorted(bench.working.columns)}


def change(bench: Bench, step: tuple[Any, ...]) -> None:
    """One change, if it is possible now."""
    action, name, other, number = step
    columns = bench.working.columns
    if action == "add" and name not in columns:
        add(bench, name, {}, ["str", "bytes"][number % 2])
    elif name not in columns:
        return
    elif action == "remove":
        bench.working.remove_column(name)
    elif action == "rename" and other not in columns:
        bench.working.rename_column(name, other)
    elif action == "change":
        bench.working.change_column(name, "p0", {"level": number})
    elif action in ("put", "delete"):
        value = f"{name}{number % 2}" if action == "put" else None
        if value is not None and columns[name].entry.schema.column_type == "bytes":
            bench.put(name, {number: value.encode()})
        elif value is not None or number in columns[name]:
            bench.put(name, {number: value})


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "remove", "remove", "rename", "rename", "change", "put", "put", "delete"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.integers(0, 3),
    ),
    max_size=10,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_it_gives_the_same_columns_on_the_same_base(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    bench = start(tmp_path / uuid4().hex / "one")
    for step in steps:
        change(bench, step)
    before = state(bench)
    events = list(normal_form(bench.working))
    for name in bench.working.columns:
        assert sum(isinstance(event, SampleEvents) and event.name == name for event in events) <= 1
    bench.staging.replace(events)
    bench = bench.reopen()
    assert state(bench) == before
    assert list(normal_form(bench.working)) == events, "and is its own normal form"
    bench.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ours=steps, theirs=steps)
def test_what_is_put_on_another_commit_is_the_same_after_reopening(tmp_path: Path, ours: Any, theirs: Any) -> None:
    folder = tmp_path / uuid4().hex
    one = start(folder / "one")
    two = join(folder / "two")
    for step in theirs:
        change(two, step)
    for step in ours:
        change(one, step)
    before = state(one)
    with contextlib.suppress(NothingToCommitError):
        two.commit("theirs")
    head = two.look_up(two.base or "").trees
    two.close()
    try:
        one.committer._move_base(one.working, one.staging, "master", two.base, committer.DEFAULT_RULES)
    except CommitConflictError:
        one = one.reopen()
        assert state(one) == before
    else:
        now = state(one)
        assert one.working.base == head
        one = one.reopen()
        assert state(one) == now
    one.close()


def test_a_column_made_removed_and_made_again_keeps_what_the_other_writer_has_in_it(tmp_path: Path) -> None:
    one = start(tmp_path / "one")
    two = join(tmp_path / "two")
    add(one, "new", {0: "old"}, "str")
    one.working.remove_column("new")
    add(one, "new", {1: "mine"})
    add(two, "new", {2: "theirs"})
    two.commit("theirs")
    one.committer._move_base(one.working, one.staging, "master", two.base, committer.DEFAULT_RULES)
    assert one.contents("new") == {1: "mine", 2: "theirs"}
    one = one.reopen()
    assert one.contents("new") == {1: "mine", 2: "theirs"}
    assert not [event for event in one.staging.events() if isinstance(event, ColumnEvent)]
    one.commit("both")
    assert committed(tmp_path, "new") == {1: "mine", 2: "theirs"}
    one.close()
    two.close()


def test_columns_that_changed_names_with_each_other_do_so_on_another_commit(tmp_path: Path) -> None:
    one = start(tmp_path / "one")
    two = join(tmp_path / "two")
    for name, new in (("a", "c"), ("b", "a"), ("c", "b")):
        one.working.rename_column(name, new)
    one.put("a", {5: "more"})
    add(two, "elsewhere", {0: "x"})
    two.commit("theirs")
    one.committer._move_base(one.working, one.staging, "master", two.base, committer.DEFAULT_RULES)
    one = one.reopen()
    assert texts(one) == {"a": {**START["b"], 5: "more"}, "b": START["a"], "elsewhere": {0: "x"}}
    one.close()
    two.close()


def test_a_column_that_both_renamed_alike_is_no_conflict(tmp_path: Path) -> None:
    one = start(tmp_path / "one")
    two = join(tmp_path / "two")
    for bench in (one, two):
        bench.working.rename_column("a", "new")
    one.put("b", {1: "mine"})
    two.commit("theirs")
    one.committer._move_base(one.working, one.staging, "master", two.base, committer.DEFAULT_RULES)
    one = one.reopen()
    assert texts(one) == {"b": {**START["b"], 1: "mine"}, "new": START["a"]}
    one.commit("both")
    one.close()
    two.close()


def test_a_value_written_again_gives_way_to_the_other_writers(tmp_path: Path) -> None:
    one = start(tmp_path / "one")
    two = join(tmp_path / "two")
    one.put("a", {0: "a0", 1: "mine"})
    two.put("a", {0: "theirs"})
    two.commit("theirs")
    one.commit("mine")
    assert committed(tmp_path, "a") == {0: "theirs", 1: "mine"}
    one.close()
    two.close()


def prepare(folder: Path) -> None:
    """Staged changes of many kinds, and a commit of another writer that they go together with."""
    one = start(folder / "one")
    two = join(folder / "two")
    one.put("a", {0: "a0", 1: "mine"})
    add(one, "new", {0: "old"})
    one.working.remove_column("new")
    add(one, "new", {1: "mine"})
    one.working.rename_column("b", "renamed")
    two.put("a", {0: "theirs"})
    add(two, "new", {2: "theirs"})
    two.commit("theirs")
    one.close()
    two.close()


OLD = {"a": {0: "a0", 1: "mine"}, "new": {1: "mine"}, "renamed": START["b"]}
NEW = {"a": {0: "theirs", 1: "mine"}, "new": {1: "mine", 2: "theirs"}, "renamed": START["b"]}


def commit_and_die(folder: Path, after: int) -> None:
    """Die before the n-th statement that the move onto the other commit makes, or right after it."""
    left = NEVER
    execute, move = StagingArea._execute, rebase

    def counted(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*arguments)

    def moved(*arguments: Any, **options: Any) -> None:
        nonlocal left
        left = after
        move(*arguments, **options)
        os._exit(0)

    patched = pytest.MonkeyPatch()
    patched.setattr(StagingArea, "_execute", counted)
    patched.setattr(committer, "rebase", moved)
    join(folder / "one").commit("both")


def test_killed_at_any_step_it_is_on_the_old_commit_or_the_new(tmp_path: Path) -> None:
    prepare(tmp_path / "made")
    seen = []
    for after in count():
        folder = tmp_path / str(after)
        shutil.copytree(tmp_path / "made", folder, symlinks=True)
        _, killed = run_and_kill([partial(commit_and_die, folder, after)], NEVER)
        one = join(folder / "one")
        seen.append(texts(one) == NEW)
        assert texts(one) == (NEW if seen[-1] else OLD)
        assert (one.base == one.log()[0].digest()) == seen[-1]
        one.commit("both")
        assert texts(one) == NEW
        one = one.reopen()
        assert texts(one) == NEW
        one.close()
        if not killed:
            break
    assert seen == sorted(seen), "and it happens at one moment"
    assert seen[0] is False
    assert seen[-1] is True
    assert len(seen) > 5


@pytest.mark.parametrize("statement", ["DELETE FROM samples", "INSERT INTO columns", "UPDATE settings"])
def test_a_disk_that_fails_leaves_everything_on_the_old_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    prepare(tmp_path)
    one = join(tmp_path / "one")
    execute = StagingArea._execute

    def failing(area: StagingArea, sql: str, *arguments: Any) -> Any:
        if sql.startswith(statement):
            raise StagingError("the disk is full")
        return execute(area, sql, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(StagingArea, "_execute", failing)
        with pytest.raises(StagingError, match="disk is full"):
            one.commit("both")
    assert texts(one) == OLD
    one.put("new", {3: "more"})
    one = one.reopen()
    assert texts(one) == {**OLD, "new": {1: "mine", 3: "more"}}
    one.commit("both")
    assert texts(one) == {**NEW, "new": {1: "mine", 2: "theirs", 3: "more"}}
    one.close()
