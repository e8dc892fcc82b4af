"""Committing: whatever step dies, the commit has landed or everything is still staged; and then it lands once."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangar_cloud.backends.errors import CorruptDataError, StoreUnavailableError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.counting import CountingStore
from hangar_cloud.backends.store.local import LocalStore
from hangar_cloud.backends.store.memory import MemoryStore
from hangar_cloud.catalog import backoff, publishing
from hangar_cloud.catalog.errors import CommitConflictError, HeadMovedError, NothingToCommitError
from tests.catalog.bench import BRANCH, Bench, committed, image, plains, run_python


class Crash(BaseException):
    """The process dies here: nothing catches this."""


class StepStore(CountingStore):
    """Counts writes; fails before or after the write with a given number, as a dying process or a network does."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.step = 0
        self.fail_at: int | None = None
        self.after = False
        self.error: Callable[[], BaseException] = Crash
        self.names: list[str] = []

    def _guarded(self, path: str, write: Callable[[], Any]) -> Any:
        self.step += 1
        self.names.append(path)
        failing = self.step == self.fail_at
        if failing and not self.after:
            raise self.error()
        outcome = write()
        if failing:
            raise self.error()
        return outcome

    def put_if_absent(self, path: str, data: bytes) -> bool:
        return bool(self._guarded(path, lambda: CountingStore.put_if_absent(self, path, data)))

    def put(self, path: str, data: bytes) -> None:
        self._guarded(path, lambda: CountingStore.put(self, path, data))

    def upload(self, path: str, source: Path, **options: Any) -> None:
        self._guarded(path, lambda: CountingStore.upload(self, path, source, **options))

    def local_path(self, path: str) -> Path | None:
        return None  # as a bucket: packs are uploaded


def unavailable() -> BaseException:
    return StoreUnavailableError("the connection broke")


FIRST = {i: image(i) for i in range(30)}
SECOND: dict[Any, Any] = {**{i: image(100 + i) for i in range(5, 9)}, "new": image(7), 0: None, 1: None}


def result_of(*batches: dict[Any, Any]) -> dict[Any, Any]:
    merged: dict[Any, Any] = {}
    for batch in batches:
        merged.update(batch)
    return plains({key: value for key, value in merged.items() if value is not None})


def stage_second(bench: Bench) -> None:
    bench.put("images", SECOND)
    bench.add("text")
    bench.put("text", {"a": "alpha", 1: "one"})


def prepared(folder: Path) -> tuple[Bench, StepStore]:
    """A repository with one commit, and a second staged."""
    store = StepStore(LocalStore(folder / "store"))
    bench = Bench(folder, store)
    bench.add("images")
    bench.put("images", FIRST)
    bench.commit("first")
    stage_second(bench)
    store.step = 0
    store.names.clear()
    return bench, store


def steps() -> list[str]:
    """The names that one commit writes, in order, with the parts that differ each time left out."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        bench, store = prepared(Path(folder))
        bench.commit("second")
        bench.close()
        return [name.partition("/")[0] if not name.startswith("refs/") else name for name in store.names]


STEPS = steps()


def test_objects_are_written_before_what_refers_to_them():
    assert STEPS == ["packs", "records", "records", "commits", "refs/heads/master/0000000002.json", "refs/hint.json"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, len(STEPS) + 1), ids=lambda n: STEPS[n - 1].partition("/")[0] + str(n))
def test_a_process_that_dies_at_any_write(tmp_path, step, after):
    bench, store = prepared(tmp_path)
    store.fail_at, store.after = step, after
    with pytest.raises(Crash):
        bench.commit("second")
    store.fail_at = None
    landed = step > 5 or (step == 5 and after)
    bench = bench.reopen()
    assert len(bench.log()) == (2 if landed else 1)
    assert bench.working.dirty == (not landed)
    assert bench.contents("images") == result_of(FIRST, SECOND)
    assert bench.contents("text") == {"a": "alpha", 1: "one"}
    if not landed:
        assert committed(tmp_path, "images") == plains(FIRST)
        bench.commit("second")
    assert [commit.message for commit in bench.log()] == ["second", "first"]
    assert committed(tmp_path, "images") == result_of(FIRST, SECOND)
    assert committed(tmp_path, "text") == {"a": "alpha", 1: "one"}
    with pytest.raises(NothingToCommitError):
        bench.commit("third")
    bench.close()


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, 6))
def test_a_store_that_fails_at_any_write_and_a_second_attempt(tmp_path, step, after, reopen, more):
    """`more`: further changes are staged before the second attempt, and must not be lost either."""
    bench, store = prepared(tmp_path)
    store.fail_at, store.after, store.error = step, after, unavailable
    with pytest.raises(StoreUnavailableError):
        bench.commit("second")
    store.fail_at = None
    landed = step == 5 and after
    third: dict[Any, Any] = {}
    if more:
        third = {"later": image(77), 2: None, 6: image(600)}
        bench.put("images", third)
        bench.put("text", {1: None, "b": "beta"})
    text = {"a": "alpha", "b": "beta"} if more else {"a": "alpha", 1: "one"}
    if reopen:
        bench = bench.reopen()
    assert bench.contents("images") == result_of(FIRST, SECOND, third)
    assert bench.contents("text") == text
    if landed and reopen and not more:
        assert not bench.working.dirty
    else:
        bench.commit("again")
    expected = ["first"] if not landed else ["second", "first"]
    assert [commit.message for commit in bench.log()] == (["again", *expected] if more or not landed else expected)
    assert bench.contents("images") == result_of(FIRST, SECOND, third)
    assert committed(tmp_path, "images") == result_of(FIRST, SECOND, third)
    assert committed(tmp_path, "text") == text
    assert not bench.working.dirty
    bench.put("images", {"last": image(1)})
    bench.commit("last")
    assert committed(tmp_path, "images") == result_of(FIRST, SECOND, third, {"last": image(1)})
    bench.close()


@pytest.mark.parametrize("column", ["kept", "made anew"])
def test_changes_on_top_of_a_commit_of_unknown_outcome_reach_open_handles(tmp_path, column):
    bench, store = prepared(tmp_path)
    store.fail_at, store.after, store.error = 5, True, unavailable
    with pytest.raises(StoreUnavailableError):
        bench.commit("second")
    store.fail_at = None
    if column == "made anew":
        bench.working.remove_column("images")
        bench.add("images")
    handle = bench.working.columns["images"]
    bench.put("images", {"later": image(77)})
    bench.commit("third")
    assert bench.working.columns["images"] is handle
    expected = (
        result_of({"later": image(77)}) if column == "made anew" else result_of(FIRST, SECOND, {"later": image(77)})
    )
    assert bench.contents("images") == committed(tmp_path, "images") == expected
    assert [commit.message for commit in bench.log()] == ["third", "second", "first"]
    bench.close()


class Delayed(StepStore):
    """The pointer of the first attempt arrives after it was given up: just before the second's."""

    waiting: tuple[str, bytes] | None = None
    armed = False

    def put_if_absent(self, path: str, data: bytes) -> bool:
        if path.startswith("refs/heads") and self.armed:
            self.armed = False
            self.waiting = (path, data)
            raise StoreUnavailableError("timed out")
        if path.startswith("refs/heads") and self.waiting is not None:
            late, self.waiting = self.waiting, None
            assert super().put_if_absent(*late)
        return super().put_if_absent(path, data)


@pytest.mark.parametrize("reopen", [False, True])
def test_a_pointer_that_lands_late_is_recognised(tmp_path, reopen):
    store = Delayed(LocalStore(tmp_path / "store"))
    bench = Bench(tmp_path, store)
    bench.add("images")
    bench.put("images", FIRST)
    bench.commit("first")
    bench.put("images", SECOND)
    store.armed = True
    with pytest.raises(StoreUnavailableError):
        bench.commit("second")
    if reopen:
        bench = bench.reopen()
        assert bench.working.dirty
    bench.commit("second")
    assert [commit.message for commit in bench.log()] == ["second", "first"]
    assert committed(tmp_path, "images") == result_of(FIRST, SECOND)
    bench.close()


LOCAL_STEPS = ["seal", "record_sealed", "pack linked", "add_landing", "move", "settle", "index", "clear", "after clear"]


@pytest.mark.parametrize("step", LOCAL_STEPS)
def test_a_process_that_dies_between_writes_of_a_local_repository(tmp_path, monkeypatch, step):
    bench = Bench(tmp_path)
    bench.add("images")
    bench.put("images", FIRST)
    bench.commit("first")
    stage_second(bench)

    def die(*_args: Any, **_options: Any) -> None:
        raise Crash

    def then_die(real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> None:
            real(*args, **options)
            raise Crash

        return run

    if step == "seal":
        monkeypatch.setattr(bench.staging, "record_sealed", die)
    elif step == "record_sealed":
        monkeypatch.setattr(bench.staging, "record_sealed", then_die(bench.staging.record_sealed))
    elif step == "pack linked":
        monkeypatch.setattr(publishing, "_link", then_die(publishing._link))
    elif step == "add_landing":
        monkeypatch.setattr(bench.staging, "add_landing", then_die(bench.staging.add_landing))
    elif step == "move":
        monkeypatch.setattr(bench.pointers, "move", then_die(bench.pointers.move))
    elif step == "settle":
        monkeypatch.setattr(bench.committer, "_settle", die)
    elif step == "index":
        monkeypatch.setattr(bench.index, "add_rows", then_die(bench.index.add_rows))
    elif step == "clear":
        real_unlink = Path.unlink

        def unlink(path: Path, missing_ok: bool = False) -> None:
            if path.suffix == ".pack" and path.parent.name == "staging":
                raise Crash
            real_unlink(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", unlink)
    else:
        monkeypatch.setattr(bench.staging, "clear", then_die(bench.staging.clear))
    with pytest.raises(Crash):
        bench.commit("second")
    monkeypatch.undo()
    bench = bench.reopen()
    landed = LOCAL_STEPS.index(step) >= LOCAL_STEPS.index("move")
    assert bench.working.dirty == (not landed)
    assert bench.contents("images") == result_of(FIRST, SECOND)
    if not landed:
        bench.commit("second")
    bench.put("images", {"more": image(5000)})
    assert committed(tmp_path, "images") == result_of(FIRST, SECOND)
    bench.commit("third")
    assert [commit.message for commit in bench.log()] == ["third", "second", "first"]
    assert committed(tmp_path, "images") == result_of(FIRST, SECOND, {"more": image(5000)})
    bench.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.catalog.bench import Bench, image
from hangar_cloud.backends.store.local import LocalStore

bench = Bench(Path(sys.argv[1]))
bench.add("images")
bench.put("images", {i: image(i) for i in range(30)})
wanted = int(sys.argv[2])
steps = 0
real = os.link

def link(*args, **options):
    global steps
    steps += 1
    if steps == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **options)

os.link = link
bench.commit("only")
print(steps)
bench.close()
"""


@pytest.mark.parametrize("step", range(1, 6))
def test_a_killed_process_commits_exactly_once_in_the_end(tmp_path, step):
    outcome = run_python(KILLED, str(tmp_path), str(step))
    assert outcome.returncode in (0, -signal.SIGKILL), outcome.stderr
    bench = Bench(tmp_path)
    assert bench.contents("images") == plains(FIRST)
    if bench.working.dirty:
        bench.commit("only")
    assert [commit.message for commit in bench.log()] == ["only"]
    assert committed(tmp_path, "images") == plains(FIRST)
    bench.close()


# ---------------------------------------------------------------- other writers


def two_writers(folder: Path) -> tuple[Bench, Bench]:
    """Two writers of one store, each with a staging area of its own, on the same commit."""
    store = LocalStore(folder / "store")
    first = Bench(folder / "one", store)
    first.local = folder / "store"
    first.add("images")
    first.put("images", FIRST)
    first.commit("first")
    for bench in (first,):
        bench.close()
    return opened(folder, "one"), opened(folder, "two")


def opened(folder: Path, name: str) -> Bench:
    (folder / name).mkdir(exist_ok=True)
    if not (folder / name / "store").exists():
        (folder / name / "store").symlink_to(folder / "store", target_is_directory=True)
    return Bench(folder / name, LocalStore(folder / "store"))


def test_disjoint_changes_of_two_writers_are_both_kept(tmp_path):
    one, two = two_writers(tmp_path)
    one.put("images", {"one": image(1001), 1: None})
    two.put("images", {"two": image(1002), 2: None})
    two.add("text")
    two.put("text", {0: "two"})
    one.commit("of one")
    two.commit("of two")
    assert committed(tmp_path, "images") == result_of(FIRST, {1: None, 2: None, "one": image(1001), "two": image(1002)})
    assert two.contents("images") == committed(tmp_path, "images")
    assert [commit.message for commit in two.log()] == ["of two", "of one", "first"]
    one.close()
    two.close()


@pytest.mark.parametrize("ours", ["set", "delete"])
def test_a_conflict_keeps_everything_staged(tmp_path, ours):
    one, two = two_writers(tmp_path)
    one.put("images", {5: image(1001), "one": image(8)})
    two.put("images", {5: None if ours == "delete" else image(1002), "two": image(9)})
    one.commit("of one")
    for _ in range(2):
        with pytest.raises(CommitConflictError, match="column 'images' sample 5"):
            two.commit("of two")
    two = two.reopen()
    assert two.working.dirty
    expected: dict[Any, Any] = {**FIRST, 5: None if ours == "delete" else image(1002), "two": image(9)}
    assert two.contents("images") == result_of(expected)
    assert committed(tmp_path, "images") == result_of(FIRST, {5: image(1001), "one": image(8)})
    two.put("images", {5: image(1001)})
    two.commit("given in")
    assert committed(tmp_path, "images") == result_of(FIRST, {5: image(1001), "one": image(8), "two": image(9)})
    one.close()
    two.close()


def test_a_deleted_branch_is_not_brought_back_by_a_commit(tmp_path):
    one, two = two_writers(tmp_path)
    two.put("images", {"two": image(9)})
    one.pointers.move(BRANCH, one.pointers.head(BRANCH), None, "delete")
    with pytest.raises(HeadMovedError, match="deleted"):
        two.commit("of two")
    assert two.pointers.heads() == {}
    assert two.contents("images") == result_of(FIRST, {"two": image(9)})
    one.close()
    two.close()


class Beaten(StepStore):
    """Another writer is always first."""

    def put_if_absent(self, path: str, data: bytes) -> bool:
        if path.startswith("refs/heads"):
            return False
        return super().put_if_absent(path, data)


def test_a_writer_who_always_loses_is_told_and_keeps_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(backoff, "_SECONDS", 0.0)
    bench, _ = prepared(tmp_path)
    monkeypatch.setattr(bench.pointers, "_store", Beaten(LocalStore(tmp_path / "store")))
    with pytest.raises(HeadMovedError):
        bench.commit("second")
    monkeypatch.undo()
    bench = bench.reopen()
    assert bench.contents("images") == result_of(FIRST, SECOND)
    bench.commit("second")
    assert [commit.message for commit in bench.log()] == ["second", "first"]
    bench.close()


# ---------------------------------------------------------------- what is there already


def test_a_damaged_object_of_the_same_name_is_not_vouched_for(tmp_path):
    one, two = two_writers(tmp_path)
    one.put("images", {"x": image(55)})
    landed = one.commit("of one")
    root = landed.commit.columns["images"].root
    assert root is not None
    one.put("images", {"x": None})
    one.commit("undone")
    path = tmp_path / "store" / f"records/{root.place.object.hex()}.parquet"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.unlink()
    path.write_bytes(data)
    two.close()
    one = one.reopen()
    one.put("images", {"x": image(55)})
    with pytest.raises(CorruptDataError, match=root.place.object.hex()):
        one.commit("once more")
    assert one.working.dirty
    path.unlink()
    one.commit("once more")
    assert committed(tmp_path, "images") == result_of(FIRST, {"x": image(55)})
    one.close()


def test_a_cut_short_pack_of_the_same_name_is_not_vouched_for(tmp_path):
    bench = Bench(tmp_path)
    bench.add("images")
    bench.put("images", FIRST)
    pack = bench.samples.seal()[0]
    target = tmp_path / "store" / "packs" / pack.hex()[:2] / f"{pack.hex()}.pack"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"short")
    with pytest.raises(CorruptDataError, match="damaged"):
        bench.commit()
    target.unlink()
    bench.commit()
    assert committed(tmp_path, "images") == plains(FIRST)
    bench.close()


def test_packs_go_across_file_systems(tmp_path, monkeypatch):
    import errno
    import os

    bench = Bench(tmp_path)
    bench.add("images")
    bench.put("images", FIRST)
    real = os.link

    def link(source: Any, target: Any) -> None:
        if str(source).endswith(".pack"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    bench.commit()
    monkeypatch.undo()
    assert committed(tmp_path, "images") == plains(FIRST)
    assert [path.name for path in (tmp_path / "store").rglob("*incoming*")] == []
    bench.close()


def test_a_commit_to_a_bucket_keeps_what_it_uploads_readable_here(tmp_path):
    remote = MemoryStore(f"memory://committer-{tmp_path.name}")
    bench = Bench(tmp_path, remote, cache=True)
    bench.add("images")
    bench.put("images", FIRST)
    bench.commit("first")
    stage_second(bench)
    bench.commit("second")
    counting = CountingStore(remote)
    bench.store = counting
    assert bench.contents("images") == result_of(FIRST, SECOND)
    assert counting.requests["get_range"] == 0
    shutil.rmtree(tmp_path / "store")
    bench.source.forget()
    bench.nodes.forget()
    bench.packs.forget()
    assert bench.contents("images") == result_of(FIRST, SECOND)
    assert counting.requests["get_range"] > 0
    bench.close()


def test_contents_equal_to_the_base_are_nothing_to_commit(tmp_path):
    bench = Bench(tmp_path)
    bench.add("images")
    bench.put("images", FIRST)
    bench.commit()
    bench.put("images", {3: image(3), 4: None})
    bench.put("images", {4: image(4), 99: image(1)})
    bench.put("images", {99: None})
    with pytest.raises(NothingToCommitError):
        bench.commit()
    assert len(bench.log()) == 1
    bench.add("text")
    bench.commit()
    bench.working.change_column("images", "p0", {"codec": "lz4"})
    assert bench.commit().commit.columns["images"].backend_options == {"codec": "lz4"}
    bench.working.remove_column("text")
    assert list(bench.commit().commit.columns) == ["images"]
    bench.close()


def test_only_what_is_used_is_published(tmp_path):
    bench = Bench(tmp_path)
    bench.add("images")
    bench.put("images", FIRST)
    nothing: dict[Any, Any] = dict.fromkeys(FIRST)
    bench.put("images", nothing)
    bench.add("labels")
    bench.put("labels", {0: np.array(1)})
    bench.commit()
    assert list((tmp_path / "store").rglob("*.pack")) == []
    assert bench.contents("images") == {}
    bench.close()


def test_many_commits_of_one_writer(tmp_path):
    bench = Bench(tmp_path)
    bench.add("images")
    model: dict[Any, Any] = {}
    random = np.random.default_rng(3)
    for i in range(25):
        changes: dict[Any, Any] = {int(k): image(int(v)) for k, v in random.integers(0, 40, (6, 2))}
        changes |= {int(k): None for k in random.integers(0, 40, 2) if int(k) in model}
        changes["count"] = image(9000 + i)
        model.update(changes)
        bench.put("images", changes)
        if i % 5 == 4:
            bench = bench.reopen()
        bench.commit(str(i))
        assert bench.contents("images") == result_of(model)
    assert committed(tmp_path, "images") == result_of(model)
    assert len(bench.log()) == 25
    bench.close()
