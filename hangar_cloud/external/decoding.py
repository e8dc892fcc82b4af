"""Decoding many files in threads, in order, with few of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from hangar_cloud.errors import HangarError, InvalidArgumentError

_MOST_WORKERS: Final = 8
_AHEAD: Final = 2
_Task = TypeVar("_Task")


def worker_count(asked: int | None) -> int:
    """How many threads decode: as many as asked, or one for each processor, at most 8.

    Raises:
        InvalidArgumentError: fewer than one was asked.
    """
    if asked is None:
        return min(os.cpu_count() or 1, _MOST_WORKERS)
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise InvalidArgumentError(f"workers is the number of threads that decode, at least 1; not {asked!r}")
    return asked


def in_threads(
    work: Callable[[_Task], Any], tasks: Iterable[_Task], workers: int
) -> Iterator[tuple[_Task, Any, Exception | None]]:
    """Each task with its result, or with the error that says what is wrong with it, in the order of the tasks.

    The libraries that decode let other threads run meanwhile. At most twice as many results as threads are kept.
    """
    pending: deque[tuple[_Task, Future[Any]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="hangar-decode")
    try:
        for task in tasks:
            pending.append((task, pool.submit(work, task)))
            if len(pending) >= workers * _AHEAD:
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(task: _Task, future: Future[Any]) -> tuple[_Task, Any, Exception | None]:
    try:
        return task, future.result(), None
    except (ImportError, InvalidArgumentError):
        # A missing package, or a wrong option: the same for every file.
        raise
    except (HangarError, OSError) as error:
        return task, None, error
