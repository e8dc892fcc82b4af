"""Putting staged changes away and bringing them back, here or elsewhere."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangar_cloud import Repository
from hangar_cloud.errors import HangarError, StashConflictError, StashExistsError, StashNotFoundError
from tests.repository.making import add_commit, make_repository, read_all, same_columns
from tests.repository.stashing import BIG, change_everything, contents


def test_everything_goes_and_comes_back(committed):
    before = read_all(committed)
    writer = committed.checkout(write=True)
    column = writer["array"]
    changed = change_everything(writer)
    info = writer.stash("one")
    assert same_columns(contents(writer), before)
    assert writer.diff.status() == "CLEAN"
    assert dict(writer.metadata.items()) == {}
    assert same_columns({"array": dict(column.items())}, {"array": before["array"]}), "a handle stays valid"
    assert not list((Path(committed.path) / ".hangar" / "staging" / "0").glob("*.pack"))
    assert (info.name, info.branch, info.base) == ("one", "master", writer.commit_hash)
    assert info.columns == ("", "array", "big", "blob", "text", "words")
    assert info.samples == 3 + 1 + 5 + 1
    assert writer.stash.list() == [info]
    assert "one" in repr(writer.stash)
    with pytest.raises(RuntimeError, match="nothing"):
        writer.commit("nothing")
    assert writer.stash.pop("one") == info
    assert writer.stash.list() == []
    assert same_columns(contents(writer), changed)
    assert writer.metadata["licence"] == "CC0"
    writer.commit("changed")
    writer.close()
    assert same_columns(read_all(committed), changed)


def test_it_survives_close_and_other_work(committed):
    writer = committed.checkout(write=True)
    changed = change_everything(writer)
    writer.stash("one")
    writer.close()
    add_commit(committed, {5: BIG}, column="elsewhere")
    writer = committed.checkout(write=True)
    writer.stash.pop()
    changed["elsewhere"] = {5: BIG}
    assert same_columns(contents(writer), dict(sorted(changed.items())))
    writer.close()
    writer = committed.checkout(write=True)
    assert same_columns(contents(writer), dict(sorted(changed.items()))), "popped changes are staged as any others"
    writer.commit("changed")
    writer.close()
    assert same_columns(read_all(committed), dict(sorted(changed.items())))


def test_onto_another_branch(committed):
    committed.create_branch("dev")
    writer = committed.checkout(write=True)
    writer["array", 50] = np.full(3, 50, np.float32)
    writer.stash("one")
    writer.close()
    add_commit(committed, {60: np.full(3, 60, np.float32)}, branch="dev")
    writer = committed.checkout(write=True, branch="dev")
    writer.stash.pop("one")
    writer.commit("on dev")
    writer.close()
    assert {50, 60} <= set(read_all(committed, branch="dev")["array"])
    assert not {50, 60} & set(read_all(committed, branch="master")["array"])


def test_several_stashes_of_the_same_samples(committed):
    writer = committed.checkout(write=True)
    for number in range(4):
        writer["array", 0] = np.full(3, number, np.float32) + 100
        writer["text", number] = "x" * 5000 + str(number)
        writer.stash(f"s{number}")
    assert [info.name for info in writer.stash.list()] == ["s3", "s2", "s1", "s0"]
    assert len(writer.stash) == 4
    assert writer.stash.pop().name == "s3"
    assert writer["array", 0][0] == 103
    assert writer["text", 3][-1] == "3"
    writer.reset_staging_area()
    writer = committed.checkout(write=True)
    assert writer.stash.drop("s2") == "s2"
    writer.stash.pop("s0")
    assert writer["array", 0][0] == 100
    assert writer["text", 0] == "x" * 5000 + "0"
    writer.commit("s0")
    with pytest.raises(StashConflictError, match="column 'array' sample 0") as caught:
        writer.stash.pop("s1")
    assert caught.value.conflicts[0].key == 0
    assert isinstance(caught.value, ValueError)
    assert [info.name for info in writer.stash.list()] == ["s1"]
    assert writer.diff.status() == "CLEAN"
    writer["text", 99] = "goes on"
    writer.commit("goes on")
    writer.close()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda w: w["text"].__setitem__(3, "other"), "column 'text'"),
        (lambda w: w["array"].__setitem__(1, BIG[:3] + 9), "column 'array' sample 1"),
        (lambda w: w["blob"].__setitem__(1, b"changed"), "column 'blob'"),
        (lambda w: w.columns.alter("array", dtype="<f8"), "column 'array'"),
        (lambda w: w.add_str_column("big"), "column 'big'"),
        (lambda w: w.metadata.__setitem__("licence", "MIT"), "licence"),
        (lambda w: w.columns.delete("text"), "column 'text'"),
        (lambda w: w.columns.rename("array", "renamed"), "column 'array'"),
    ],
)
def test_conflicts_are_named_and_nothing_is_lost(committed, change, names):
    writer = committed.checkout(write=True)
    base = writer.commit_hash
    changed = change_everything(writer)
    writer.stash("one")
    change(writer)
    writer.commit("in the way")
    before = contents(writer)
    with pytest.raises(StashConflictError, match=names):
        writer.stash.pop("one")
    assert same_columns(contents(writer), before)
    assert writer.diff.status() == "CLEAN"
    writer.close()
    committed.create_branch("aside", base)
    writer = committed.checkout(write=True, branch="aside")
    writer.stash.pop("one")
    assert same_columns(contents(writer), changed)
    writer.close()


def test_equal_changes_are_no_conflict(committed):
    writer = committed.checkout(write=True)
    writer["array", 0] = np.full(3, 5, np.float32)
    writer.add_str_column("added")[0] = "x"
    writer.stash("one")
    writer["array", 0] = np.full(3, 5, np.float32)
    writer.add_str_column("added")[0] = "x"
    writer.commit("the same")
    writer.stash.pop()
    with pytest.raises(RuntimeError, match="nothing to commit"):
        writer.commit("nothing")
    writer.close()


def test_a_repository_that_is_made_anew_has_no_stash(committed):
    writer = committed.checkout(write=True)
    writer["text", 0] = "old"
    writer.stash("one")
    writer.close()
    committed.init("Test", "test@example.org", remove_old=True)
    writer = committed.checkout(write=True)
    assert writer.stash.list() == []
    writer.close()


def test_a_writer_that_lost_its_lock_may_not_touch_stashes(committed):
    old = committed.checkout(write=True)
    old["text", 0] = "old"
    old.stash("one")
    old["text", 1] = "older"
    with pytest.warns(ResourceWarning):
        committed.force_release_writer_lock()
    for use in (lambda: old.stash("two"), lambda: old.stash.pop("one"), lambda: old.stash.drop("one")):
        with pytest.raises(PermissionError):
            use()
    writer = committed.checkout(write=True)
    writer.reset_staging_area(force=True)
    writer = committed.checkout(write=True)
    assert writer.stash.pop().name == "one"
    assert writer["text", 0] == "old"
    writer.close()


def test_before_the_first_commit(empty):
    writer = empty.checkout(write=True)
    writer.add_str_column("text")[0] = "zero"
    assert writer.stash("one").base == ""
    assert list(writer) == []
    writer.stash.pop()
    assert writer["text", 0] == "zero"
    writer.commit("first")
    writer.close()


def test_what_is_refused(committed):
    writer = committed.checkout(write=True)
    stash = writer.stash
    for nothing in (stash.pop, lambda: stash.pop("one"), lambda: stash.drop("one")):
        with pytest.raises(StashNotFoundError):
            nothing()
    with pytest.raises(RuntimeError, match="nothing is staged"):
        stash("one")
    writer["text", 0] = "x"
    for name in ("", "a b", "..", "a/b", 5, None):
        with pytest.raises(ValueError):
            stash(name)
    with pytest.raises(ValueError):
        stash.pop("../staging")
    with pytest.raises(ValueError):
        stash.drop("..")
    with writer["text"]:
        for use in (lambda: stash("one"), stash.pop):
            with pytest.raises(PermissionError):
                use()
    stash("one")
    writer["text", 0] = "y"
    with pytest.raises(StashExistsError):
        stash("one")
    with pytest.raises(RuntimeError, match="staged changes"):
        stash.pop("one")
    assert writer["text", 0] == "y"
    writer.close()
    for use in (lambda: stash("two"), stash.list, stash.pop, lambda: stash.drop("one"), lambda: repr(stash)):
        with pytest.raises(PermissionError):
            use()
    with pytest.raises(AttributeError):
        committed.checkout().stash  # noqa: B018


def test_old_handles_and_columns(committed):
    writer = committed.checkout(write=True)
    added = writer.add_str_column("added")
    added[0] = "x"
    staged = iter(writer["text"].items())
    writer["text", 9] = "staged"
    next(staged)
    writer.stash("one")
    with pytest.raises(PermissionError):
        added[0]
    assert dict(staged)[8] == "text 8"
    writer.stash.pop()
    assert writer["added", 0] == "x"
    writer.close()


def test_bytes_of_one_stash_are_never_taken_for_those_of_another(committed):
    """Staging packs are numbered from zero in each stash."""
    writer = committed.checkout(write=True)
    writer.add_ndarray_column("big", prototype=BIG)
    writer.commit("column")
    for number in range(3):
        writer["big", number] = BIG * number
        assert np.array_equal(writer["big", number], BIG * number)
        writer.stash(f"s{number}")
        writer.close()
        writer = committed.checkout(write=True)
    for number in range(3):
        writer.stash.pop(f"s{number}")
        assert np.array_equal(writer["big", number], BIG * number)
        writer["big", 10 + number] = BIG + number
        writer.commit(f"s{number}")
    writer.close()
    found = read_all(committed)["big"]
    for number in range(3):
        assert np.array_equal(found[number], BIG * number)
        assert np.array_equal(found[10 + number], BIG + number)


def test_a_damaged_description_is_named(committed):
    writer = committed.checkout(write=True)
    writer["text", 0] = "x"
    writer.stash("one")
    about = Path(committed.path) / ".hangar" / "stash" / "one" / "stash.json"
    about.write_text("{")
    with pytest.raises(HangarError, match="'one'"):
        writer.stash.list()
    writer.stash.drop("one")
    assert writer.stash.list() == []
    writer.close()


def test_in_a_bucket_with_two_writers_of_one_machine(tmp_path):
    place = f"memory://stash-{uuid4().hex}"
    repository = make_repository(place, cache_dir=tmp_path / "cache")
    add_commit(repository, {key: BIG + key for key in range(5)})
    one, two = repository.checkout(write=True), Repository(place, cache_dir=tmp_path / "cache").checkout(write=True)
    one["array", 10] = BIG * 10
    one.stash("one")
    two["array", 11] = BIG * 11
    two.commit("meanwhile")
    with pytest.raises(RuntimeError, match="nothing"):
        one.commit("nothing")
    assert two.stash.pop().name == "one"
    assert one.stash.list() == []
    two.commit("popped")
    two.close()
    one.close()
    found = read_all(Repository(place, cache_dir=tmp_path / "other"))["array"]
    assert np.array_equal(found[10], BIG * 10)
    assert np.array_equal(found[11], BIG * 11)


def conflicts_of_pop(writer, name):
    """Keys that a stash could not be brought back for; empty if it was."""
    try:
        writer.stash.pop(name)
    except StashConflictError as error:
        return {conflict.key for conflict in error.conflicts}
    return set()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sequence_against_dicts(tmp_path, data):
    repository = make_repository(tmp_path / uuid4().hex)
    writer = repository.checkout(write=True)
    writer.add_str_column("a")
    writer.commit("a")
    base: dict[int, str] = {}
    held: dict[int, str] = {}
    stashes: dict[str, tuple[dict[int, str], dict[int, str]]] = {}
    keys = st.integers(0, 3)
    for step in range(data.draw(st.integers(3, 12))):
        action = data.draw(
            st.sampled_from(["set", "set", "put back", "delete", "stash", "stash", "pop", "pop", "commit", "reopen"])
        )
        if action == "set":
            key = data.draw(keys)
            writer["a", key] = held[key] = f"{step} " * data.draw(st.sampled_from([1, 100]))
        elif action == "put back" and base:
            key = data.draw(st.sampled_from(sorted(base)))
            writer["a", key] = held[key] = base[key]
        elif action == "delete" and held:
            key = data.draw(st.sampled_from(sorted(held)))
            del writer["a"][key], held[key]
        elif action in ("stash", "commit") and held == base:
            with pytest.raises(RuntimeError, match="nothing"):
                (writer.stash if action == "stash" else writer.commit)(f"s{step}")
        elif action == "stash":
            writer.stash(f"s{step}")
            stashes[f"s{step}"] = (base, held)
            held = dict(base)
        elif action == "pop" and stashes and held == base:
            name = data.draw(st.sampled_from(sorted(stashes)))
            was, wanted = stashes[name]
            touched = {key for key in range(4) if was.get(key) != wanted.get(key)}
            clash = {key for key in touched if base.get(key) not in (was.get(key), wanted.get(key))}
            assert conflicts_of_pop(writer, name) == clash
            if not clash:
                del stashes[name]
                for key in touched:
                    held.pop(key, None)
                    if key in wanted:
                        held[key] = wanted[key]
        elif action == "commit":
            writer.commit(f"{step}")
            base = dict(held)
        elif action == "reopen":
            writer.close()
            writer = repository.checkout(write=True)
        held = dict(held)
        assert dict(writer["a"].items()) == dict(sorted(held.items()))
        assert {info.name for info in writer.stash.list()} == set(stashes)
    writer.close()


def test_a_column_of_another_layout_under_the_same_name_comes_and_goes(committed):
    writer = committed.checkout(write=True)
    writer.columns.delete("text")
    nested = writer.add_str_column("text", contains_subsamples=True)
    nested["x"] = {1: "nested"}
    writer.stash("one")
    assert writer["text", 3] == "text 3"
    assert len(writer["text"]) == 10
    with pytest.raises(PermissionError):
        nested["x"]
    writer.stash.pop()
    assert writer["text", "x", 1] == "nested"
    assert list(writer["text"]) == ["x"]
    writer.close()


def test_a_name_that_was_used_and_given_up_does_not_take_away_a_column_of_that_name(committed):
    writer = committed.checkout(write=True)
    writer.add_str_column("passing")
    writer.columns.rename("passing", "other")
    writer["array", 0] = np.full(3, 50, np.float32)
    writer.stash("one")
    writer.add_bytes_column("passing")[0] = b"kept"
    writer.commit("a column of that name")
    writer.stash.pop()
    writer.close()
    writer = committed.checkout(write=True)
    assert writer["passing", 0] == b"kept"
    assert list(writer["other"]) == []
    assert writer["array", 0][0] == 50
    writer.close()


def test_a_value_written_again_is_no_change_when_a_stash_comes_back(committed):
    writer = committed.checkout(write=True)
    writer["text"].update({0: "text 0", 1: "stashed"})
    writer.stash("one")
    writer["text", 0] = "committed"
    writer.commit("in between")
    writer.stash.pop()
    assert (writer["text", 0], writer["text", 1]) == ("committed", "stashed")
    writer.close()


def test_a_column_made_in_both_keeps_what_the_commit_has_in_it(committed):
    """What is staged is a log: taken up on top of a commit that made the column too, it must not empty it."""
    writer = committed.checkout(write=True)
    writer.add_str_column("both")["mine"] = "stashed"
    writer.stash("one")
    writer.add_str_column("both")["theirs"] = "committed"
    writer.commit("made here too")
    writer.stash.pop()
    assert dict(writer["both"].items()) == {"mine": "stashed", "theirs": "committed"}
    writer.close()
    writer = committed.checkout(write=True)
    assert dict(writer["both"].items()) == {"mine": "stashed", "theirs": "committed"}
    writer.commit("both")
    writer.close()
    assert read_all(committed)["both"] == {"mine": "stashed", "theirs": "committed"}
