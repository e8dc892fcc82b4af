"""Commits, resets, and reaching samples through the checkout."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud.errors import NothingToCommitError
from tests.repository.making import add_commit, files_of, read_all


def test_commit_without_changes(committed):
    writer = committed.checkout(write=True)
    head = writer.commit_hash
    with pytest.raises(RuntimeError, match="nothing to commit on branch 'master'") as caught:
        writer.commit("nothing")
    assert type(caught.value) is NothingToCommitError
    old = writer["array", 0]
    writer["array", 0] = old + 1
    writer["array", 0] = old
    with pytest.raises(RuntimeError, match="equal those of its last commit"):
        writer.commit("there and back")
    writer["array", 77] = old
    del writer["array"][77]
    with pytest.raises(RuntimeError, match="nothing to commit"):
        writer.commit("there and gone")
    assert writer.commit_hash == head
    writer["array", 77] = old
    writer.commit("something")
    writer.close()


@pytest.mark.parametrize("message", [None, 5, b"x", "\ud800"])
def test_commit_messages_are_text(committed, message):
    writer = committed.checkout(write=True)
    writer["array", 0] = np.full(3, 9, np.float32)
    with pytest.raises(ValueError, match="commit message"):
        writer.commit(message)
    writer.commit("Zoë 😀\nsecond line")
    writer.close()
    committed.log()
    assert "Zoë 😀\nsecond line" in {s["commit_message"] for s in committed.log(return_contents=True)["specs"].values()}


def test_reset_staging_area(committed):
    before = read_all(committed)
    writer = committed.checkout(write=True)
    head = writer.commit_hash
    with pytest.raises(RuntimeError, match="nothing to reset"):
        writer.reset_staging_area()
    writer["array", 0] = np.full(3, 9, np.float32)
    writer["blob", "big"] = bytes(1_000_000)
    writer.columns.delete("text")
    assert writer.reset_staging_area() == head
    writer = committed.checkout(write=True)
    assert "text" in writer
    assert "big" not in writer["blob"]
    with pytest.raises(RuntimeError, match="nothing to commit"):
        writer.commit("nothing")
    assert writer.reset_staging_area(force=True) == head
    assert read_all(committed).keys() == before.keys()
    assert read_all(committed)["array"][0][0] == 0
    add_commit(committed, {0: np.full(3, 9, np.float32)})
    assert not [
        path for path in files_of(committed.path) if path.startswith(".hangar/staging") and path.endswith(".pack")
    ]


def test_checkout_access(committed):
    for checkout in (committed.checkout(), committed.checkout(write=True)):
        assert list(checkout) == list(checkout.keys()) == ["array", "blob", "text"]
        assert [name for name, _ in checkout.items()] == [column.column for column in checkout.values()]
        assert (len(checkout), "array" in checkout, "nope" in checkout, 5 in checkout) == (3, True, False, False)
        assert checkout["array"].column == "array"
        assert checkout["text", 3] == "text 3"
        assert checkout[("text", 1), ("blob", 0)] == ["text 1", bytes(200)]
        assert checkout[[("text", 2), ("text", 1)]] == ["text 2", "text 1"]
        assert checkout[("text", 1),] == ["text 1"]
        assert checkout.get("nope") is None
        assert checkout.get("nope", 5) == 5
        assert checkout.get(("text", "x"), "default") == "default"
        assert checkout.get(("nope", 1), "default") == "default"
        assert checkout.get([("text", 1), ("text", "x")], "d") == ["text 1", "d"]
        for wrong in ("nope", ("text", "x"), ("nope", 1), [("text", 1), ("text", "x")]):
            with pytest.raises(KeyError):
                checkout.get(wrong, except_missing=True)
            with pytest.raises(KeyError):
                checkout[wrong]
        for odd in (5, None, (), [5], [("text", 1), "text"], ("text", 1, 2)):
            with pytest.raises(ValueError, match="index|indices"):
                checkout[odd]
        with checkout, checkout as opened:
            assert opened["text", 0] == "text 0"
        checkout.close()


def test_writing_through_the_checkout(writer):
    writer["text", "k"] = "v"
    assert writer["text"]["k"] == "v"
    with pytest.raises(KeyError, match="no column 'nope'"):
        writer["nope", "k"] = "v"
    for wrong in ("text", ("text",), 5):
        with pytest.raises(ValueError, match="written to as"):
            writer[wrong] = "v"
    with pytest.raises(ValueError, match="column 'text' is flat"):
        writer["text", 1, 2] = "v"


def test_many_small_commits(empty, writer):
    column = writer["array"]
    for number in range(120):
        column[number % 7] = np.full(3, number, np.float32)
        writer.commit(f"commit {number}")
    order = writer.log(return_contents=True)["order"]
    writer.close()
    assert len(order) == 120
    assert [read_all(empty, commit=order[119 - n])["array"][n % 7][0] for n in (0, 50, 119)] == [0, 50, 119]
