"""Checks in a forked child, which never outlives its test."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable


def passes_forked(check: Callable[[], object], seconds: int = 60) -> bool:
    """Whether a check is true in a child that is forked here; what it raises is printed.

    A child that hangs says where, and is killed: one that lived on kept the ends of other tests' pipes, and with them
    the whole run from its end.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks where threads are around.
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)
        signal.alarm(seconds)
        status = 0 if check() else 2
    except BaseException:  # noqa: BLE001 - nothing may leave the child
        traceback.print_exc()
    finally:
        os._exit(status)
