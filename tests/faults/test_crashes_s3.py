"""A process that dies while it works on a real bucket: the same as where the bucket is a folder."""

from __future__ import annotations

import uuid

import pytest

from tests.faults.crash_runs import CrashRunsOnServer, quick_folder, spread
from tests.faults.crash_works import named, of_kind

_MOST = 1
_ESSENTIAL = named(
    "push",
    "commit to a bucket after a lost race",
    "gc of a bucket",
)


@pytest.fixture
def runs_on_s3(server, s3_server, request):
    def new_bucket():
        return f"{s3_server.url}/{uuid.uuid4().hex}", s3_server.storage_options

    with quick_folder() as folder:
        yield CrashRunsOnServer(server, folder, request.param, new_bucket)


@pytest.mark.parametrize("runs_on_s3", _ESSENTIAL, ids=str, indirect=True)
def test_dying_here_and_there(runs_on_s3):
    for moment in spread(runs_on_s3.all_states(), _MOST):
        runs_on_s3.die_at(moment, look=moment % 2 == 0)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("runs_on_s3", of_kind("remote", "bucket"), ids=str, indirect=True)
def test_dying_at_every_moment_that_changes_something(runs_on_s3):
    for moment in runs_on_s3.all_states():
        runs_on_s3.die_at(moment, look=moment % 2 == 0)
