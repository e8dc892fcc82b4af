from __future__ import annotations

import pytest

from hangar_cloud import set_request_limit
from hangar_cloud.backends.store.in_flight import DEFAULT_REQUESTS, REQUESTS


@pytest.fixture(autouse=True)
def _as_before():
    yield
    REQUESTS.set_limit(DEFAULT_REQUESTS)


@pytest.mark.parametrize("most", [0, -1, 1.5, "8", True, None])
def test_limits_that_are_none_are_refused(most):
    with pytest.raises(ValueError, match="from 1 on"):
        set_request_limit(most)
    assert REQUESTS.limit == DEFAULT_REQUESTS


def test_a_limit_of_one_stops_nothing(s3_url, s3_options, gcs_url, gcs_options):
    from hangar_cloud.backends.store import open_store

    set_request_limit(1)
    for url, options in ((s3_url, s3_options), (gcs_url, gcs_options)):
        with open_store(url, options) as store:
            for number in range(5):
                store.put(f"x{number}", b"1" * 200_000)
            assert store.get_many([f"x{number}" for number in range(6)]) == [b"1" * 200_000] * 5 + [None]
            far = [(f"x{number % 5}", 1000 * number, 10) for number in range(20)]
            assert store.get_ranges(far) == [b"1" * 10] * 20
