"""The hint: what is in it, and that nothing in it has to be right."""

from __future__ import annotations

from typing import Any

import pytest

from hangar_cloud.backends.store.local import LocalStore
from hangar_cloud.catalog.hint import HINT_PATH, MOST_COMMITS, Hint, decode_hint
from hangar_cloud.catalog.pointers import PointerLog
from hangar_cloud.catalog.sealed_json import seal, unseal

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


def said(store) -> Hint:
    return decode_hint(store.get(HINT_PATH))


def test_it_names_the_commit_that_a_branch_was_moved_to(store):
    log = PointerLog(store)
    log.start("master")
    assert said(store).commits == {}
    head = log.move("master", log.head("master"), ONE, "commit")
    log.move("dev", None, ONE, "create")
    PointerLog(store, kind="tags").move("v1", None, TWO, "tag")
    log.move("master", head, TWO, "commit")
    assert said(store).commits == {"master": TWO, "dev": ONE}
    log.move("dev", log.head("dev"), None, "delete")
    assert said(store).commits == {"master": TWO}
    assert said(store).bounds == {"heads": {"master": 2, "dev": 1}, "tags": {"v1": 0}}


def test_a_program_that_does_not_know_of_commits_leaves_a_hint_that_is_read(store):
    log = PointerLog(store)
    log.move("master", None, ONE, "commit")
    members = unseal(store.get(HINT_PATH), "hint")
    store.put(HINT_PATH, seal({"branches": members["branches"]}))
    log.move("dev", None, TWO, "create")
    assert said(store).commits == {"dev": TWO}


def test_it_names_the_commits_of_few_branches():
    hint = Hint()
    for number in range(3 * MOST_COMMITS):
        hint.place("master" if number == 5 else f"branch-{number}", ONE)
        assert len(hint.commits) <= MOST_COMMITS
        assert number < 5 or "master" in hint.commits
    assert decode_hint(hint.encode()) == hint


@pytest.mark.parametrize(
    ("commits", "taken"),
    [
        (3, {}),
        ([ONE], {}),
        (None, {}),
        ({"master": 3}, {}),
        ({"master": ONE[1:]}, {}),
        ({"master": "../" + ONE}, {}),
        ({"../x": ONE, "dev": TWO}, {"dev": TWO}),
        ({f"b{n}": ONE for n in range(MOST_COMMITS + 1)}, {}),
    ],
)
def test_commits_that_cannot_be_meant_are_passed_over(commits: Any, taken: dict[str, str]):
    hint = decode_hint(seal({"branches": {"master": 7}, "commits": commits}))
    assert (hint.commits, hint.bounds["heads"]) == (taken, {"master": 7})
