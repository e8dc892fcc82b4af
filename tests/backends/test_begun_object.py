"""An object whose fetching begins before it is wanted: nobody waits in vain for it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

import pytest

from hangar_cloud.backends.begun_object import BegunObject
from hangar_cloud.backends.errors import StoreUnavailableError
from hangar_cloud.backends.store.local import LocalStore
from tests.forked import passes_forked


class _Slow(LocalStore):
    """Answers when it is let."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.asked, self.answers, self.fails = Event(), Event(), False

    def get_many(self, paths: Sequence[str]) -> list[bytes | None]:
        self.asked.set()
        assert self.answers.wait(60)
        if self.fails:
            raise StoreUnavailableError("it is away")
        return super().get_many(paths)


@pytest.fixture
def store(tmp_path):
    slow = _Slow(tmp_path)
    slow.put("one", b"text")
    yield slow
    slow.answers.set()


def test_what_was_begun_is_waited_for_once(store):
    begun = BegunObject(store)
    begun.begin("one")
    assert store.asked.wait(60)
    assert begun.take("other") is None
    store.answers.set()
    assert begun.take("one") == b"text"
    assert begun.take("one") is None


def test_what_is_missing_or_fails_is_none(store):
    store.answers.set()
    begun = BegunObject(store)
    assert begun.take("one") is None
    begun.begin("two")
    assert begun.take("two") is None
    store.fails = True
    begun.begin("one")
    assert begun.take("one") is None


def test_a_forked_child_does_not_wait_for_a_thread_that_it_has_not(store):
    begun = BegunObject(store)
    begun.begin("one")
    assert store.asked.wait(60)

    assert passes_forked(lambda: begun.take("one") is None)
