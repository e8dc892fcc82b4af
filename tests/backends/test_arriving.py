"""Blocks on their way: each is brought by one thread, and nobody waits forever."""

from __future__ import annotations

import threading

import pytest

from hangar_cloud.backends.arriving import Arriving
from tests.forked import passes_forked

A, B, C = ((b"pack" * 4, offset) for offset in (8, 100, 200))


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_what_another_thread_brings_is_left_to_it():
    arriving, taken = Arriving(), []

    def other():
        with arriving.bringing([B, C]) as mine:
            taken.extend(mine)

    with arriving.bringing([A, B]) as mine:
        assert mine == [A, B]
        in_thread(other).join(60)
        with arriving.bringing([B]) as again:
            assert again == [B], "the same thread may go on with its own"
    assert taken == [C]
    with arriving.bringing([A, B, C]) as mine:
        assert mine == [A, B, C]


def test_who_waits_goes_on_when_it_is_there_or_has_failed():
    arriving, begun, end, waited = Arriving(), threading.Event(), threading.Event(), []

    def bring():
        try:
            with arriving.bringing([A]):
                begun.set()
                end.wait(60)
                raise OSError
        except OSError:
            pass

    def wait():
        arriving.wait([B, A])
        waited.append(True)

    bringing = in_thread(bring)
    assert begun.wait(60)
    waiting = in_thread(wait)
    arriving.wait([B])
    assert not waited
    end.set()
    waiting.join(60)
    bringing.join(60)
    assert waited == [True]


def test_a_forked_child_brings_what_its_parent_was_bringing():
    arriving, begun, end = Arriving(), threading.Event(), threading.Event()

    def bring():
        with arriving.bringing([A]):
            begun.set()
            end.wait(60)

    bringing = in_thread(bring)
    assert begun.wait(60)

    def brings_it_itself():
        arriving.wait([A])
        with arriving.bringing([A]) as mine:
            return mine == [A]

    try:
        assert passes_forked(brings_it_itself)
    finally:
        end.set()
        bringing.join(60)


def test_who_is_interrupted_while_taking_blocks_leaves_none_behind(monkeypatch):
    arriving = Arriving()

    def interrupted(self, name, mine, take=Arriving._take):
        taken = take(self, name, mine)
        if name[1] == 2:
            raise KeyboardInterrupt
        return taken

    names = [(b"p" * 16, number) for number in range(4)]
    with monkeypatch.context() as patch:
        patch.setattr(Arriving, "_take", interrupted)
        with pytest.raises(KeyboardInterrupt), arriving.bringing(names):
            pass
    other = threading.Thread(target=arriving.wait, args=(names,), daemon=True)
    other.start()
    other.join(20)
    assert not other.is_alive()
    assert not arriving._coming
