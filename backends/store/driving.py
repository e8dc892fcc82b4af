"""Coroutines without an event loop: for drivers that block, each thread runs its own from beginning to end.

Retries, bounds and creates are written once, as coroutines. A driver that waits in ``socket.recv`` needs no loop for
them, and a request then costs no hop between threads: it is sent by the thread that wants its answer.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

_Result = TypeVar("_Result")
_MOST_THREADS: Final = 64


class Abandoned(Exception):  # noqa: N818 - it tells nobody of an error
    """Work that nobody waits for any more."""


class _Here(threading.local):
    driving = False
    crew: Crew | None = None


_here = _Here()


def is_driving() -> bool:
    """Whether the coroutine that asks is run by `drive`, and so must not wait for an event loop."""
    return _here.driving


def drive(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine that waits for nothing but `pause`, `in_thread`, `gather_driven` and what blocks the thread."""
    before, _here.driving = _here.driving, True
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("_Result", end.value)
    finally:
        _here.driving = before
    coroutine.close()
    raise RuntimeError("a coroutine that was run without an event loop waits for one")


async def pause(seconds: float) -> None:
    """Wait, however the coroutine is run."""
    if not _here.driving:
        await asyncio.sleep(seconds)
    elif _here.crew is None:
        time.sleep(seconds)
    elif _here.crew.stopped.wait(seconds):
        raise Abandoned


async def in_thread(function: Callable[[], _Result]) -> _Result:
    """What a function that blocks returns, without holding up others."""
    return function() if _here.driving else await asyncio.to_thread(function)


@contextmanager
def interruptible(interrupt: Callable[[], None]) -> Iterator[None]:
    """While the block waits for an answer, `interrupt` makes it fail if nobody wants that any more."""
    crew = _here.crew
    if crew is None:
        yield
        return
    crew.enter(interrupt)
    try:
        yield
    except Exception as error:
        if crew.stopped.is_set():
            raise Abandoned from error
        raise
    finally:
        crew.leave(interrupt)


class Crew:
    """Threads that do the operations of one call together, with the thread that asked for them.

    Args:
        operations: what is to be done; each is begun once.
    """

    def __init__(self, operations: Sequence[Callable[[], Awaitable[Any]]]) -> None:
        self.results: list[Any] = [None] * len(operations)
        self.error: BaseException | None = None
        self.stopped = threading.Event()
        self._operations = operations
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._next = 0
        self._helping = 0
        self._interrupts: list[Callable[[], None]] = []

    def help(self) -> None:
        """Do operations until there are no more; in a thread of the pool."""
        with self._lock:
            if self.stopped.is_set() or self._next >= len(self._operations):
                return
            self._helping += 1
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            self.stop(error)
        finally:
            with self._lock:
                self._helping -= 1
                self._idle.notify_all()

    def work(self) -> None:
        """Do operations until there are no more. Raises what the first one raises that fails."""
        before, _here.crew = _here.crew, self
        try:
            while not self.stopped.is_set():
                with self._lock:
                    number = self._next
                    self._next += 1
                if number >= len(self._operations):
                    return
                operation = cast("Coroutine[Any, Any, Any]", self._operations[number]())
                self.results[number] = drive(operation)
        finally:
            _here.crew = before

    def stop(self, error: BaseException) -> None:
        """Have everybody end what they do, since it failed."""
        with self._lock:
            if self.error is None:
                self.error = error
            self.stopped.set()
            interrupts = list(self._interrupts)
        for interrupt in interrupts:
            interrupt()

    def wait(self) -> None:
        """Return when nobody helps any more."""
        with self._lock:
            while self._helping:
                self._idle.wait()

    def enter(self, interrupt: Callable[[], None]) -> None:
        """Note how to end a wait."""
        with self._lock:
            if self.stopped.is_set():
                raise Abandoned
            self._interrupts.append(interrupt)

    def leave(self, interrupt: Callable[[], None]) -> None:
        """The wait is over."""
        with self._lock:
            self._interrupts.remove(interrupt)


def gather_driven(operations: Sequence[Callable[[], Awaitable[_Result]]], limit: int) -> list[_Result]:
    """Do every operation, at most ``limit`` at once, and return their results in order.

    The first failure interrupts the rest, waits until they have ended, and is raised. The calling thread works too,
    so that nobody waits for a thread of the pool to be free.
    """
    crew = Crew(operations)
    for _ in range(min(limit, len(operations)) - 1):
        _pool().submit(crew.help)
    try:
        crew.work()
    except BaseException as error:  # noqa: BLE001 - raised below, when all have ended
        crew.stop(error)
    try:
        crew.wait()
    except BaseException as error:
        crew.stop(error)
        crew.wait()
        raise
    if crew.error is not None:
        raise crew.error
    return crew.results


class _Pool:
    """Threads that wait for work, made as they are needed. They do not hold up the end of the process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0

    def submit(self, task: Callable[[], None]) -> None:
        with self._lock:
            enough = self._waiting > self._tasks.qsize() or self._threads >= _MOST_THREADS
            if not enough:
                self._threads += 1
            self._tasks.put(task)
        if not enough:
            threading.Thread(target=self._serve, name="hangar-requests", daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._waiting += 1
            task = self._tasks.get()
            with self._lock:
                self._waiting -= 1
            task()
            # A task holds its results; this thread may wait for hours for the next.
            del task


_pools: list[_Pool] = []


def _pool() -> _Pool:
    # The threads of a parent process are not there in a forked one.
    if not _pools or _pools[-1].process != os.getpid():
        _pools[:] = [_Pool()]
    return _pools[-1]
