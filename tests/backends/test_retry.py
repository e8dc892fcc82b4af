from __future__ import annotations

import asyncio
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.backends.store.bounded import gather_bounded
from hangar_cloud.backends.store.retry import Fault, RetryPolicy, with_retries

FAST = RetryPolicy(attempts=4, base=0.0, cap=0.0)


class _FaultError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.name)
        self.fault = fault


def _run(faults: list[Fault], policy: RetryPolicy) -> tuple[object, int]:
    calls = 0

    async def operation() -> str:
        nonlocal calls
        calls += 1
        if faults:
            raise _FaultError(faults.pop(0))
        return "done"

    def classify(error: BaseException) -> Fault:
        assert isinstance(error, _FaultError)
        return error.fault

    try:
        return asyncio.run(with_retries(operation, classify, policy)), calls
    except _FaultError as error:
        return error.fault, calls


def test_transient_faults_are_retried_until_the_policy_gives_up():
    assert _run([Fault.TRANSIENT] * 3, FAST) == ("done", 4)
    assert _run([Fault.TRANSIENT] * 9, FAST) == (Fault.TRANSIENT, 4)
    assert _run([Fault.TRANSIENT, Fault.EXISTS], FAST) == (Fault.EXISTS, 2)


@pytest.mark.parametrize("fault", [fault for fault in Fault if not fault.retryable])
def test_other_faults_are_final(fault):
    assert _run([fault], FAST) == (fault, 1)


def test_a_server_out_of_reach_is_given_up_early():
    policy = RetryPolicy(attempts=100, base=0.0, cap=0.0, unreachable_after=0.0)

    assert _run([Fault.UNREACHABLE] * 9, policy) == (Fault.UNREACHABLE, 1)
    assert _run([Fault.TRANSIENT] * 9, policy) == ("done", 10)


def test_a_busy_server_is_asked_for_as_long_as_the_policy_says_and_that_takes_no_attempt_away():
    patient = RetryPolicy(attempts=2, base=0.0, cap=0.0, busy_for=60.0)

    assert _run([Fault.BUSY] * 9, patient) == ("done", 10)
    assert _run([Fault.BUSY] * 9 + [Fault.TRANSIENT], patient) == ("done", 11)
    assert _run([Fault.BUSY] * 9 + [Fault.TRANSIENT] * 2, patient) == (Fault.TRANSIENT, 11)
    assert _run([Fault.BUSY] * 9, RetryPolicy(attempts=9, base=0.0, cap=0.0, busy_for=0.0)) == (Fault.BUSY, 1)
    assert _run([Fault.BUSY], RetryPolicy(attempts=1)) == (Fault.BUSY, 1)


@given(st.integers(1, 200), st.floats(0, 10), st.floats(0, 10))
def test_waits_have_full_jitter_below_the_cap(failures, base, cap):
    wait = RetryPolicy(base=base, cap=cap).wait(failures)

    assert 0 <= wait <= min(cap, base * 2.0 ** min(failures - 1, 60))


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"base": -1}, {"cap": -1}])
def test_nonsense_policies_are_refused(bad):
    with pytest.raises(ValueError, match="attempts"):
        RetryPolicy(**bad)


def test_gathering_keeps_order_and_bound():
    running = peak = 0

    async def work(number: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.001)
        running -= 1
        return number

    assert asyncio.run(gather_bounded([functools.partial(work, n) for n in range(20)], 4)) == list(range(20))
    assert peak == 4
    assert asyncio.run(gather_bounded([], 4)) == []


def test_the_first_failure_ends_the_rest():
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("cancelled")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(gather_bounded([wait, fail, wait], 2))
    assert ended == ["cancelled"]
