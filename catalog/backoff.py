"""Waiting before another attempt at a race that was lost to another writer."""

from __future__ import annotations

import random
import time
from typing import Final

# Eight jobs that commit without a pause on two busy cores lost one race 20 times in a row.
ATTEMPTS: Final = 100
_SECONDS: Final = 0.2
_MOST_SECONDS: Final = 2.0


def back_off(attempt: int) -> None:
    """Sleep at random, longer with every attempt (counted from 0), so that writers do not meet again and again."""
    time.sleep(random.uniform(0, min(_MOST_SECONDS, _SECONDS * (attempt + 1))))
