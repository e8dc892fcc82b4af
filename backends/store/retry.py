"""When to try again, and how long to wait first."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from hangar_cloud.backends.store.driving import pause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Fault(Enum):
    """What a failed request means, whichever driver reported it."""

    ABSENT = "the object does not exist"
    NO_BUCKET = "the bucket does not exist"
    EXISTS = "an object of that name exists already"
    SHORT = "the object ends before the range that was asked for"
    NO_CREDENTIALS = "no credentials were found"
    WRONG_CREDENTIALS = "the credentials were refused"
    NO_PERMISSION = "the credentials do not allow this"
    UNREACHABLE = "the server cannot be reached"
    BUSY = "the server asks for fewer requests"
    TRANSIENT = "the server failed or the connection was lost"
    PERMANENT = "the server refused the request"
    NOT_ASKED = "its driver does not take the storage_options"

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self in (Fault.UNREACHABLE, Fault.BUSY, Fault.TRANSIENT)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to retry: exponential backoff with full jitter.

    attempts: tries in all, the first included; those that a busy server refused are not counted.
    base, cap: the n-th wait is uniform between 0 and ``min(cap, base * 2**n)`` seconds.
    unreachable_after: seconds after which a server that cannot be reached at all is given up, so that a
        missing network is reported soon although each connection attempt may take ten seconds to time out.
    busy_for: seconds for which a server that asks for fewer requests is asked again, ever more slowly (unless
        ``attempts`` is 1): it is there, and after some seconds it will answer.
    """

    attempts: int = 6
    base: float = 0.1
    cap: float = 5.0
    unreachable_after: float = 12.0
    busy_for: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base < 0 or self.cap < 0:
            raise ValueError(f"attempts must be at least 1, base and cap not negative: {self}")

    def wait(self, failures: int) -> float:
        """Seconds to wait after ``failures`` (>= 1) failed attempts, drawn at random."""
        return random.uniform(0.0, min(self.cap, self.base * 2.0 ** min(failures - 1, 60)))

    def allows(self, fault: Fault, failures: int, elapsed: float) -> bool:
        """Whether to try again after ``failures`` attempts, the last with ``fault``, in ``elapsed`` seconds."""
        if fault is Fault.BUSY:
            return self.attempts > 1 and elapsed < self.busy_for
        if not fault.retryable or failures >= self.attempts:
            return False
        return fault is not Fault.UNREACHABLE or elapsed < self.unreachable_after


async def with_retries(
    operation: Callable[[], Awaitable[_Result]],
    classify: Callable[[BaseException], Fault],
    policy: RetryPolicy,
) -> _Result:
    """Await ``operation()`` until it succeeds or ``policy`` gives up, then raise its last exception unchanged."""
    started = time.monotonic()
    failures = busy = 0
    while True:
        try:
            return await operation()
        except Exception as error:
            fault = classify(error)
            if fault is Fault.BUSY:
                busy += 1
            else:
                failures += 1
            if not policy.allows(fault, failures, time.monotonic() - started):
                raise
            wait = policy.wait(failures + busy)
            _log.debug("attempt %d failed (%s); next in %.2f s", failures + busy, fault.name, wait)
        await pause(wait)
