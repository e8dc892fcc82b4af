"""Work of which most runs outside of Python (codecs, digests), on several cores, in order and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

_MOST_THREADS: Final = 8
_WAITING_EACH: Final = 2

T = TypeVar("T")


def in_order(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What each task gives, in order. Two tasks a thread are ahead of who takes the results, no more.

    One task, or one core, needs no threads. They end with the iteration: a pool that stayed would be dead after a fork.
    """
    waiting = iter(tasks)
    first, second = next(waiting, None), next(waiting, None)
    threads = min(_cores(), _MOST_THREADS)
    if first is None:
        return
    if second is None or threads < 2:
        yield first()
        if second is not None:
            yield second()
        yield from (task() for task in waiting)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="hangar-encode") as pool:
        ahead: deque[Future[T]] = deque((pool.submit(first), pool.submit(second)))
        try:
            for task in waiting:
                if len(ahead) >= threads * _WAITING_EACH:
                    yield ahead.popleft().result()
                ahead.append(pool.submit(task))
            while ahead:
                yield ahead.popleft().result()
        finally:
            for left in ahead:
                left.cancel()


def _cores() -> int:
    """Those that this process may use: in a container often fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
