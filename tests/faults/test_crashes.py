"""A process that dies while it changes or shares a repository: nothing is lost or half there, and it can go on."""

from __future__ import annotations

import pytest

from tests.faults.crash_runs import spread
from tests.faults.crash_works import of_kind

_MOST = 2

by_operation = pytest.mark.parametrize("runs", of_kind("local", "remote", "bucket"), ids=str, indirect=True)


@by_operation
def test_dying_here_and_there(runs):
    for moment in spread(runs.all_states(), _MOST):
        runs.die_at(moment, look=moment % 2 == 0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@by_operation
def test_dying_at_every_moment(runs):
    for moment in range(len(runs.moments)):
        runs.die_at(moment, look=moment % 2 == 0)
