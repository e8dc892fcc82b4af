"""Attributes that are computed at first use, by many threads and across a fork."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from hangar_cloud.backends.lazy_property import lazy_property
from tests.forked import passes_forked


class Thing:
    def __init__(self, before=lambda: None):
        self._before = before
        self.computed = 0

    @lazy_property
    def value(self):
        """What it is."""
        self._before()
        self.computed += 1
        return object()


def test_it_is_computed_once_when_it_is_asked_for():
    thing = Thing()
    assert thing.computed == 0
    assert thing.value is thing.value
    assert thing.computed == 1
    assert Thing.value.__doc__ == "What it is."


def test_threads_that_ask_at_once_get_the_same():
    together = threading.Barrier(4, timeout=60)
    thing = Thing(together.wait)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: thing.value, range(4)))) == 1


def test_a_child_that_was_forked_meanwhile_computes_its_own():
    begun, end = threading.Event(), threading.Event()

    def wait_for_the_end():
        begun.set()
        assert end.wait(60)

    thread = threading.Thread(target=lambda: Thing(wait_for_the_end).value)
    thread.start()
    assert begun.wait(60)
    try:
        assert passes_forked(lambda: Thing().value, seconds=20)
    finally:
        end.set()
        thread.join()
