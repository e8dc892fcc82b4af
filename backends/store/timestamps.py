"""Reading the times that servers write."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_FRACTION = re.compile(r"\.(\d+)")


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 time in UTC; without an offset it is taken for UTC. Raises ValueError."""
    # Python 3.10 reads neither "Z" nor fractions of other than three or six digits, and servers trim zeros.
    exact = _FRACTION.sub(lambda match: f".{match.group(1)[:6]:0<6}", text).replace("Z", "+00:00")
    moment = datetime.fromisoformat(exact)
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
