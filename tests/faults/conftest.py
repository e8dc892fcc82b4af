"""Fixtures for what dies on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.crash_runs import CrashRuns, crash_server, quick_folder
from tests.faults.crash_server import CrashServer


@pytest.fixture(scope="session")
def server() -> Iterator[CrashServer]:
    """A process whose children can be told to die."""
    with crash_server() as started:
        yield started


@pytest.fixture
def runs(server: CrashServer, request: pytest.FixtureRequest) -> Iterator[CrashRuns]:
    """An operation, given as the parameter, in a place of its own on this machine."""
    with quick_folder() as folder:
        yield CrashRuns(server, folder, request.param)
