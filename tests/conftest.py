"""Fixtures for all tests."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

from tests.servers import (
    gcs_options,
    gcs_proxy,
    gcs_server,
    gcs_url,
    s3_options,
    s3_proxy,
    s3_server,
    s3_url,
)

__all__ = [
    "gcs_options",
    "gcs_proxy",
    "gcs_server",
    "gcs_url",
    "s3_options",
    "s3_proxy",
    "s3_server",
    "s3_url",
]

# No clock: an example that takes its time on a busy machine is not a failure.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture
def heard():
    """SIGINT reaches child processes; a shell starts what goes to the background without, and that is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
