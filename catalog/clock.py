"""Seconds that pass, also while a machine sleeps."""

from __future__ import annotations

import time


def passing_seconds() -> float:
    """A clock that only ever goes forward, and goes on while the machine is suspended where the system can tell.

    Promises between writers and garbage collections rest on it: a laptop that wakes up must not take an hour ago
    for now.
    """
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
