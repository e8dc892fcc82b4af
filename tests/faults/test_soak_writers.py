"""Many writers on one branch of one bucket, some of them killed: nothing is lost, doubled, half there or sent twice."""

from __future__ import annotations

import pytest

from tests.faults.crew import Crew, make_columns

MOST_SENT = 1.5


@pytest.fixture
def make_crew(s3_url, s3_options, tmp_path):
    """Makes jobs that write to a bucket."""
    make_columns(s3_url, s3_options, tmp_path / "owner")
    return lambda **size: Crew(tmp_path, s3_url, s3_options, **size)


def assert_little_was_sent(crew):
    ratio = crew.sent().total() / crew.payload
    print(f"sent {ratio:.2f} times the payload of {crew.payload:,} bytes: {dict(crew.sent())}")
    assert ratio < MOST_SENT


def test_four_writers_of_which_one_is_killed(make_crew, s3_options):
    crew = make_crew(writers=4, batches=5, images=60)
    crew.work(killed=1)
    crew.check(s3_options)
    assert_little_was_sent(crew)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_eight_writers_of_which_two_are_killed(make_crew, s3_options):
    crew = make_crew(writers=8, batches=20, images=200)
    crew.work(killed=2)
    crew.check(s3_options)
    assert_little_was_sent(crew)
