"""Fixtures for all tests."""

from __future__ import annotations

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
