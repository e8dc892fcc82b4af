"""Waiting before another attempt at a race that was lost to another writer."""

from __future__ import annotations

import random
import time
from typing import Final

ATTEMPTS: Final = 20
_SECONDS: Final = 0.2
_MOST_SECONDS: Final = 5.0


def back_off(attempt: int) -> None:
    """Sleep at random, longer with every attempt (counted from 0), so that writers do not meet again and again."""
    time.sleep(random.uniform(0, min(_MOST_SECONDS, _SECONDS * (attempt + 1))))
