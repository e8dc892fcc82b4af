"""What is fetched before it is read: in order, no more than there is room for, and nobody waits for ever."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from hangar_cloud.loaders.bringing import Bringer
from hangar_cloud.loaders.order import BlockShuffle

PER_BLOCK = 10
SECONDS = 20


class Source:
    """Samples of a byte each: `gate` lets parts come, `held` are those that nobody has read yet."""

    def __init__(self, bring=None):
        self.lock = threading.Lock()
        self.gate = threading.Semaphore(0)
        self.held: set[int] = set()
        self.began: list[list[int]] = []
        self.most = 0
        self._bring = bring or (lambda positions: True)

    strip_bytes = 2 * PER_BLOCK
    sample_bytes = 1

    @property
    def brought_bytes(self):
        return len(self.held)

    def bytes_of(self, positions):
        return len(positions)

    def strips(self, positions):
        positions = np.sort(positions)
        return [positions[i : i + 2 * PER_BLOCK] for i in range(0, len(positions), 2 * PER_BLOCK)]

    def bring(self, positions, size, held):
        assert held
        with self.lock:
            self.began.append(positions.tolist())
        assert self.gate.acquire(timeout=SECONDS)
        with self.lock:
            self.held.update(positions.tolist())
            self.most = max(self.most, len(self.held))
        return self._bring(positions)

    def read(self, positions):
        with self.lock:
            assert self.held >= set(positions.tolist())
            self.held -= set(positions.tolist())


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def ordered(count=400, blocks=4):
    return BlockShuffle(np.arange(0, count + 1, PER_BLOCK), blocks, 0, 0, 2)


@pytest.mark.parametrize("room", [1, 100, 10_000])
@pytest.mark.parametrize("start", [0, 137])
def test_all_of_an_epoch_comes_once_and_no_more_is_held_than_there_is_room_for(pool, room, start):
    source, order = Source(), ordered()
    source.gate.release(10_000)
    bringer = Bringer(source, order, start, pool, 3, room)
    bringer.go_on()
    for place in range(start, order.count, 15):
        end = min(place + 15, order.count)
        bringer.wait(end)
        source.read(order.positions(place, end))
        bringer.go_on()
    assert sorted(position for part in source.began for position in part) == sorted(
        order.positions(start, order.count).tolist()
    )
    assert not source.held
    # What is wanted comes in any case: the rest of a round, beside as many parts as are under way.
    assert source.most <= max(room, 8 * PER_BLOCK + 3 * 2 * PER_BLOCK)


def test_nothing_is_begun_beyond_the_room_before_somebody_waits(pool):
    source, order = Source(), ordered()
    bringer = Bringer(source, order, 0, pool, 3, 100)
    source.gate.release(10_000)
    bringer.go_on()
    for _ in range(100):
        with bringer._changed:
            if bringer._changed.wait_for(lambda: not bringer._running, 0.05) and len(source.held) >= 80:
                break
    assert 80 <= len(source.held) <= 100
    bringer.stop()


def test_who_waits_is_told_what_went_wrong(pool):
    def fail(positions):
        raise ZeroDivisionError

    source = Source(fail)
    source.gate.release(10_000)
    bringer = Bringer(source, ordered(), 0, pool, 3, 100)
    with pytest.raises(ZeroDivisionError):
        bringer.wait(5)


def test_what_is_in_vain_lets_everybody_read_and_begins_nothing_more(pool):
    source = Source(lambda positions: False)
    source.gate.release(10_000)
    bringer = Bringer(source, ordered(), 0, pool, 2, 10_000)
    bringer.wait(400)
    assert bringer.in_vain
    bringer.go_on()
    assert len(source.began) <= 2


def test_who_waits_is_let_go_when_the_epoch_is_broken_off(pool):
    source = Source()
    bringer = Bringer(source, ordered(), 0, pool, 2, 100)
    waiting = ThreadPoolExecutor(1).submit(bringer.wait, 5)
    while not source.began:
        pass
    bringer.stop()
    with pytest.raises(CancelledError):
        waiting.result(SECONDS)
    source.gate.release(10_000)
    bringer.go_on()
    assert len(source.began) <= 2


def test_a_program_that_ends_is_not_held_up():
    pool = ThreadPoolExecutor(2)
    pool.shutdown()
    bringer = Bringer(Source(), ordered(), 0, pool, 2, 100)
    bringer.wait(5)
