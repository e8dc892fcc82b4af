"""Fixtures for all tests."""

from __future__ import annotations

import signal

import pytest

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


@pytest.fixture
def heard():
    """SIGINT reaches child processes; a shell starts what goes to the background without, and that is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
