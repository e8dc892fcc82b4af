"""Threads that fetch ahead: a few for the whole process, gone when there is nothing to do, and harmless to a fork."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from functools import partial

import numpy as np

from hangar_cloud.backends.background import MOST_THREADS, Background
from hangar_cloud.backends.fork_lock import ForkLock
from tests.forked import passes_forked


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came about")


def test_a_few_at_a_time_in_order_and_no_thread_stays():
    background, gate, before = Background(), threading.Event(), threading.active_count()
    begun: list[int] = []

    def work(n):
        begun.append(n)
        assert gate.wait(60)

    for n in range(20):
        assert background.submit(partial(work, n))
    wait_until(lambda: len(begun) == MOST_THREADS)
    assert threading.active_count() == before + MOST_THREADS
    gate.set()
    wait_until(lambda: threading.active_count() == before)
    assert sorted(begun) == list(range(20))
    assert set(begun[:MOST_THREADS]) == set(range(MOST_THREADS))


def test_work_that_fails_keeps_no_other_from_being_done():
    background, done = Background(1), threading.Event()
    background.submit(lambda: 1 // 0)
    background.submit(done.set)
    assert done.wait(60)


def test_what_another_thread_held_is_free_in_a_forked_child():
    background, lock, gate, held = Background(1), ForkLock(), threading.Event(), threading.Event()

    def hold():
        with lock.lock:
            held.set()
            gate.wait(60)

    background.submit(hold)
    assert held.wait(60)

    def works_here():
        done = threading.Event()
        with lock.lock:
            background.submit(done.set)
        return done.wait(20)

    try:
        assert passes_forked(works_here)
    finally:
        gate.set()


def test_control_c_leaves_no_lock_behind():
    """Methods of ours were left between taking the lock and the block: half of all interrupts kept it locked."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before, locked = signal.signal(signal.SIGALRM, interrupt), 0
    random = np.random.default_rng(0)
    try:
        for _ in range(300):
            turn = ForkLock()
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 1e-3))
                while True:
                    with turn.lock:
                        pass
            locked += turn.lock.locked()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert locked == 0
