"""Work done by another process, which is killed at a chosen step."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

_ROOT = str(Path(__file__).parents[2])
_ROOMS = tuple(f"{_ROOT}/{room}/" for room in ("hangar_cloud", "catalog", "backends"))
_CHILD_SECONDS = 60


def run_and_kill(steps: Sequence[Callable[[], Any]], after: int, spared: int = 0) -> tuple[int, bool]:
    """Run steps in a forked process, which kills itself with SIGKILL at some call within the library.

    Args:
        steps: called one after the other.
        after: number of calls in or from the library until then.
        spared: number of steps in which calls are not counted yet.

    Returns:
        how many steps came to their end, and whether the process was killed before all had.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks where threads are around.
        child = os.fork()
    if child == 0:
        _run(steps, after, spared, writing)
    os.close(writing)
    done = 0
    with os.fdopen(reading, "rb") as acknowledged:
        done = len(acknowledged.read())
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.waitstatus_to_exitcode(status) == 0, (
        f"the child failed with status {status}, after {done} steps"
    )
    return done, killed


def _run(steps: Sequence[Callable[[], Any]], after: int, spared: int, writing: int) -> None:
    """The child: never returns."""
    code = 1
    try:
        signal.alarm(_CHILD_SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        for number, step in enumerate(steps):
            if number == spared:
                sys.setprofile(_Killer(after))
            step()
            os.write(writing, b".")
        code = 0
    finally:
        with contextlib.suppress(BaseException):
            sys.setprofile(None)
            if code:
                import traceback

                traceback.print_exc()
        os._exit(code)


class _Killer:
    """A profile function that kills its process at the n-th call in or from the library."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(_ROOMS):
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
