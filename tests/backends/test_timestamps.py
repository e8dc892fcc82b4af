from __future__ import annotations

from datetime import datetime, timezone

import pytest

from hangar_cloud.backends.store.timestamps import parse_time


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-11-21T11:32:16Z", 0),
        ("2026-11-21T11:32:16.5Z", 500_000),
        ("2026-11-21T11:32:16.62139Z", 621_390),
        ("2026-11-21T12:32:16.621391123+01:00", 621_391),
        ("2026-11-21T11:32:16.25", 250_000),
    ],
)
def test_times_of_servers(text, microsecond):
    assert parse_time(text) == datetime(2026, 11, 21, 11, 32, 16, microsecond, tzinfo=timezone.utc)
