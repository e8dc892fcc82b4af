"""How many requests this process may have under way."""

from __future__ import annotations

from hangar_cloud.backends.store.in_flight import REQUESTS
from hangar_cloud.errors import InvalidArgumentError


def set_request_limit(most: int) -> None:
    """Have at most so many requests to buckets under way at once, in this process; 64 by default.

    Each holds a connection, and up to 8 MiB of memory. Who waits for a turn waits without an error.

    Raises:
        ValueError: not a whole number from 1 on.
    """
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise InvalidArgumentError(f"have so many requests under way: a whole number from 1 on, not {most!r}")
    REQUESTS.set_limit(most)
