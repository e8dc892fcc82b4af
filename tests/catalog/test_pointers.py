"""Branches: the head is found from any hint or none, and of racing writers one wins."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud.backends.errors import CorruptDataError, StoreUnavailableError
from hangar_cloud.backends.store.counting import CountingStore
from hangar_cloud.backends.store.local import LocalStore
from hangar_cloud.backends.store.memory import MemoryStore
from hangar_cloud.catalog.errors import HeadMovedError, InvalidNameError
from hangar_cloud.catalog.hint import HINT_PATH
from hangar_cloud.catalog.pointers import Pointer, PointerLog, fresh_hint, pointer_path
from hangar_cloud.catalog.sealed_json import seal, unseal


@pytest.fixture
def store(tmp_path):
    return CountingStore(LocalStore(tmp_path))


def plant(store, branch: str, count: int) -> list[Pointer]:
    """A log of `count` entries, written without the code under test."""
    pointers = [Pointer(branch, i, f"{i:064x}", "commit", "2026", "me", f"{i:032x}") for i in range(count)]
    for pointer in pointers:
        store.put(pointer_path(branch, pointer.seq), pointer.encode())
    return pointers


HINTS = {
    "none": None,
    "empty": b"",
    "corrupt": b'{"branches":{"b":3},"checksum":"0","format":1}\n',
    "stale": seal({"branches": {"b": 1}}),
    "zero": seal({"branches": {"b": 0}}),
    "exact": seal({"branches": {"b": 49}}),
    "lying": seal({"branches": {"b": 1_000_000}}),
    "just over": seal({"branches": {"b": 50}}),
    "huge": seal({"branches": {"b": 10**30}}),
    "negative": seal({"branches": {"b": -5}}),
    "wrong type": seal({"branches": {"b": "many", "c": None}}),
    "wrong shape": seal({"branches": [1, 2]}),
    "other": seal({"branches": {"../../x": 3, "": 1}}),
    "no member": seal({}),
}


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 50])
def test_the_head_is_found_whatever_the_hint_says(store, hint, count):
    pointers = plant(store, "b", count)
    text = HINTS[hint]
    if text is not None:
        store.put(HINT_PATH, text)
    expected = pointers[-1] if pointers else None
    log = PointerLog(store)
    assert log.head("b") == expected
    assert log.head("b") == expected
    primed = PointerLog(store)
    primed.prime(text)
    assert primed.head("b") == expected
    assert PointerLog(store).heads() == ({"b": expected} if expected else {})
    if expected is not None:
        moved = log.move("b", expected, "f" * 64, "commit")
        assert PointerLog(store).head("b") == moved
        assert primed.head("b") == moved


@given(st.integers(0, 300), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_galloping_finds_any_head_from_any_bound(count, lower):
    store = MemoryStore(f"memory://gallop-{time.monotonic_ns()}")
    pointers = plant(store, "b", count)
    store.put(HINT_PATH, seal({"branches": {"b": lower}}))
    assert PointerLog(store).head("b") == (pointers[-1] if pointers else None)


def test_galloping_is_short(store):
    plant(store, "b", 600)
    assert PointerLog(store).head("b") is not None
    assert store.requests["get"] < 40
    store.put(HINT_PATH, seal({"branches": {"b": 599}}))
    store.reset()
    assert PointerLog(store).head("b") is not None
    assert store.requests["get"] <= 3


def test_every_byte_of_the_head_counts_and_older_entries_do_not_matter(store):
    pointers = plant(store, "b", 5)
    path = pointer_path("b", 4)
    for position in range(len(pointers[4].encode())):
        damaged = bytearray(pointers[4].encode())
        damaged[position] ^= 1
        store.put(path, bytes(damaged))
        with pytest.raises(CorruptDataError, match="pointer 4 of branch 'b'"):
            PointerLog(store).head("b")
    store.put(path, pointers[4].encode())
    for seq in range(4):
        store.put(pointer_path("b", seq), b"rotten")
    assert PointerLog(store).head("b") == pointers[4]
    with pytest.raises(CorruptDataError):
        PointerLog(store).entry("b", 2)
    store.put(path, pointers[3].encode())
    with pytest.raises(CorruptDataError, match="belongs to"):
        PointerLog(store).head("b")


def _race(folder: str, number: int, start: float) -> str:
    log = PointerLog(LocalStore(folder), f"writer {number}")
    head = log.head("b")
    time.sleep(max(0.0, start - time.time()))
    try:
        return log.move("b", head, f"{number:064x}", "commit").nonce
    except HeadMovedError:
        return "lost"


def test_of_racing_processes_one_wins_and_the_rest_are_told(tmp_path):
    PointerLog(LocalStore(tmp_path)).start("b")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        start = time.time() + 0.5
        outcomes = pool.starmap(_race, [(str(tmp_path), number, start) for number in range(8)], chunksize=1)
    head = PointerLog(LocalStore(tmp_path)).head("b")
    assert head is not None
    # The pool has four processes: the second round of races sees the first's winner and adds to it.
    assert head.seq == 8 - outcomes.count("lost")
    assert outcomes.count("lost") >= 3
    assert head.nonce in outcomes


def test_of_racing_threads_one_wins(store):
    PointerLog(store).start("b")
    head = PointerLog(store).head("b")
    outcomes: list[object] = []

    def move(number: int) -> None:
        try:
            outcomes.append(PointerLog(store).move("b", head, f"{number:064x}", "commit"))
        except HeadMovedError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=move, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, Pointer) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, HeadMovedError) for outcome in outcomes) == 11


class LosesAnswers(CountingStore):
    """Writes land, and the caller hears of a broken connection instead."""

    lose = False

    def put_if_absent(self, path: str, data: bytes) -> bool:
        outcome = super().put_if_absent(path, data)
        if self.lose and path.startswith("refs/heads"):
            self.lose = False
            raise StoreUnavailableError("the connection broke")
        return outcome


def test_a_lost_answer_followed_by_the_same_request_is_ours(tmp_path):
    store = LosesAnswers(LocalStore(tmp_path))
    log = PointerLog(store)
    log.start("b")
    head = log.head("b")
    store.lose = True
    with pytest.raises(StoreUnavailableError):
        log.move("b", head, "a" * 64, "commit", nonce="n" * 32)
    landed = PointerLog(store).head("b")
    assert landed is not None
    assert (landed.commit, landed.nonce) == ("a" * 64, "n" * 32)
    # The very same bytes once more are ours; another nonce is another writer.
    assert store.put_if_absent(pointer_path("b", 1), landed.encode())
    with pytest.raises(HeadMovedError):
        PointerLog(store).move("b", head, "a" * 64, "commit")


def test_a_deleted_branch_is_gone_until_made_anew(store):
    log = PointerLog(store, "me")
    log.start("b")
    log.start("b")
    first = log.move("b", log.head("b"), "a" * 64, "commit")
    gone = log.move("b", first, None, "delete")
    assert not gone.alive
    assert PointerLog(store).heads() == {}
    assert PointerLog(store).head("b") == gone
    again = PointerLog(store).move("b", gone, "a" * 64, "create")
    assert PointerLog(store).heads() == {"b": again}
    assert [PointerLog(store).entry("b", i).action for i in range(4)] == ["init", "commit", "delete", "create"]
    assert PointerLog(store).entry("b", 4) is None


def test_branches_are_found_without_listing(store, tmp_path):
    log = PointerLog(store)
    for name in ("master", "side", "v1.0"):
        log.start(name)
    plain = CountingStore(LocalStore(tmp_path))
    plain.can_list = False
    assert sorted(PointerLog(plain).heads()) == ["master", "side", "v1.0"]
    assert plain.requests["list_children"] == 0
    plain.put(HINT_PATH, seal({"branches": {"master": 99, "side": 0, "never": 4}}))
    assert sorted(PointerLog(plain).heads()) == ["master", "side"]
    assert PointerLog(plain).head("v1.0") is not None
    (Path(tmp_path) / HINT_PATH).unlink()
    assert list(PointerLog(plain).heads()) == ["master"]  # which every repository starts with
    assert PointerLog(plain).head("master") is not None


def test_files_that_are_no_branches_are_passed_over(store, tmp_path):
    PointerLog(store).start("master")
    (tmp_path / "refs" / "heads" / "not a branch").mkdir()
    (tmp_path / "refs" / "heads" / "empty").mkdir()
    assert list(PointerLog(store).heads()) == ["master"]


def test_a_hint_that_cannot_be_written_is_no_failure(tmp_path):
    class NoHints(CountingStore):
        def put(self, path: str, data: bytes) -> None:
            raise StoreUnavailableError("throttled")

    log = PointerLog(NoHints(LocalStore(tmp_path)))
    log.start("b")
    assert PointerLog(LocalStore(tmp_path)).head("b") == log.head("b")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "ä", "a b", "x" * 65, "a\n", None, 3])
def test_names_that_may_not_be_branches(store, name):
    with pytest.raises(InvalidNameError, match="not suitable"):
        PointerLog(store).move(name, None, None, "init")


def test_a_pointer_log_survives_its_store_being_emptied_and_made_anew(store, tmp_path):
    import shutil

    log = PointerLog(store)
    pointers = plant(store, "b", 9)
    assert log.head("b") == pointers[-1]
    shutil.rmtree(tmp_path / "refs")
    assert log.head("b") is None
    anew = plant(store, "b", 2)
    assert log.head("b") == anew[-1]


def test_a_fresh_hint_names_what_is_there(store, tmp_path):
    """As the server of a repository gives it, whatever became of the one that writers keep."""
    log, tags = PointerLog(store), PointerLog(store, kind="tags")
    log.start("master")
    log.move("dev", None, "a" * 64, "create")
    tags.move("v1", None, "a" * 64, "tag")
    for hint in (None, b"damaged", seal({"branches": {"master": 99, "never": 4}})):
        (tmp_path / HINT_PATH).unlink(missing_ok=True)
        if hint is not None:
            (tmp_path / HINT_PATH).write_bytes(hint)
        assert unseal(fresh_hint(store), "hint") == {
            "branches": {"master": 0, "dev": 0},
            "tags": {"v1": 0},
            "commits": {"dev": "a" * 64},
        }
