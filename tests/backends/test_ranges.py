from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.backends.store.ranges import join_ranges

OBJECTS = {"a": bytes(range(256)) * 2, "b": bytes(reversed(range(256)))}


@st.composite
def requests_within(draw):
    path = draw(st.sampled_from(sorted(OBJECTS)))
    offset = draw(st.integers(0, len(OBJECTS[path])))
    return path, offset, draw(st.integers(0, len(OBJECTS[path]) - offset))


@given(st.lists(requests_within(), max_size=30), st.integers(0, 50), st.integers(1, 300))
def test_joined_requests_answer_every_range(requests, join_gap, max_joined):
    plan = join_ranges(requests, join_gap=join_gap, max_joined=max_joined)
    longest = max((length for _, _, length in requests), default=0)

    results = [b""] * len(requests)
    for joined in plan:
        data = OBJECTS[joined.path][joined.offset : joined.offset + joined.length]
        assert len(data) == joined.length > 0
        assert joined.length <= max(max_joined, longest)
        for index, part in joined.slices(data):
            results[index] = part

    assert results == [OBJECTS[path][offset : offset + length] for path, offset, length in requests]
    answered = sorted(index for joined in plan for index, _, _ in joined.parts)
    assert answered == [index for index, (_, _, length) in enumerate(requests) if length]
    assert sum(joined.length for joined in plan) <= sum(length for _, _, length in requests) + join_gap * len(requests)


@given(st.lists(requests_within(), max_size=30))
def test_without_a_limit_no_two_requests_are_near(requests):
    plan = join_ranges(requests, join_gap=10, max_joined=10_000)

    for first, second in itertools.pairwise(plan):
        if first.path == second.path:
            assert second.offset - (first.offset + first.length) > 10


@pytest.mark.parametrize(
    ("gap", "expected"),
    [(0, [(0, 10), (20, 5)]), (9, [(0, 10), (20, 5)]), (10, [(0, 25)])],
)
def test_the_gap_counts_bytes_between(gap, expected):
    plan = join_ranges([("x", 20, 5), ("x", 0, 10)], join_gap=gap)

    assert [(joined.offset, joined.length) for joined in plan] == expected


def test_one_long_range_stays_one_request_and_takes_in_what_it_covers():
    plan = join_ranges([("x", 0, 1000), ("x", 500, 10), ("x", 1000, 10)], max_joined=100)

    assert [(joined.offset, joined.length) for joined in plan] == [(0, 1000), (1000, 10)]


def test_views_keep_little_more_in_memory_than_what_is_wanted():
    data = bytes(range(250)) * 4
    dense = join_ranges([("x", 0, 400), ("x", 500, 500)], join_gap=1000)
    sparse = join_ranges([("x", 0, 10), ("x", 990, 10)], join_gap=1000)
    alone = join_ranges([("x", 0, 1000)])
    kinds = []
    for (plan,), wanted in ((dense, [(0, 400), (500, 500)]), (sparse, [(0, 10), (990, 10)]), (alone, [(0, 1000)])):
        parts = [part for _, part in sorted(plan.views([data]))]
        assert parts == [data[offset : offset + length] for offset, length in wanted]
        kinds.append({type(part) for part in parts})
    assert kinds == [{memoryview}, {bytes}, {bytes}]


@given(st.lists(requests_within(), max_size=30), st.integers(0, 20), st.integers(1, 200))
def test_an_answer_in_pieces_is_the_same_as_in_one(requests, gap, most):
    for joined in join_ranges(requests, join_gap=gap, max_joined=most):
        data = bytes((joined.offset + i) % 251 for i in range(joined.length))
        assert sum(joined.lengths) == joined.length
        cuts = [sum(joined.lengths[:number]) for number in range(len(joined.lengths) + 1)]
        pieces = [data[begin:end] for begin, end in itertools.pairwise(cuts)]
        whole = {index: bytes(part) for index, part in joined.views([data])}
        assert {index: bytes(part) for index, part in joined.views(pieces)} == whole
