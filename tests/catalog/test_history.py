"""Walking commits: children before parents, merges once, long histories."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.catalog.commits import Commit
from hangar_cloud.catalog.history import ancestors, is_ancestor, merge_bases


def commit(parents: list[str], time: int) -> Commit:
    return Commit(tuple(parents), {}, "", "", f"2026-01-01T00:00:00.{time:06}", "")


def graph(shape: list[tuple[list[int], int]]) -> dict[str, Commit]:
    return {str(i): commit([str(p) for p in parents], time) for i, (parents, time) in enumerate(shape)}


GRAPHS = st.lists(
    st.tuples(st.lists(st.integers(0, 30), max_size=2, unique=True), st.integers(0, 4)), min_size=1, max_size=30
).map(lambda shape: graph([([p for p in parents if p < i], time) for i, (parents, time) in enumerate(shape)]))


@given(GRAPHS, st.data())
def test_children_come_before_parents_and_nothing_twice(commits, data):
    starts = data.draw(st.lists(st.sampled_from(sorted(commits)), min_size=1, max_size=3))
    asked: Counter[str] = Counter()

    def look_up(digest: str) -> Commit:
        asked[digest] += 1
        return commits[digest]

    order = list(ancestors(starts, look_up))
    assert set(asked.values()) == {1}
    position = {digest: i for i, digest in enumerate(order)}
    for digest in order:
        for parent in commits[digest].parents:
            assert position[parent] > position[digest]
    reachable, waiting = set(), list(starts)
    while waiting:
        digest = waiting.pop()
        if digest not in reachable:
            reachable.add(digest)
            waiting += commits[digest].parents
    assert set(order) == reachable
    random.shuffle(starts)
    assert list(ancestors(starts, commits.__getitem__)) == order
    for digest in commits:
        assert is_ancestor(digest, starts[0], commits.__getitem__) == (
            digest in ancestors([starts[0]], commits.__getitem__)
        )


def test_diamonds_are_walked_once():
    shape: list[tuple[list[int], int]] = [([], 0)]
    for i in range(40):  # 2**40 paths
        base = len(shape) - 1
        shape += [([base], 3 * i + 1), ([base], 3 * i + 2), ([base + 1, base + 2], 3 * i + 3)]
    commits = graph(shape)
    order = list(ancestors([str(len(shape) - 1)], commits.__getitem__))
    assert order == [str(i) for i in reversed(range(len(shape)))]
    assert is_ancestor("0", order[0], commits.__getitem__)


def test_five_thousand_commits_in_a_line():
    commits = graph([([i - 1] if i else [], i) for i in range(5000)])
    assert list(ancestors(["4999"], commits.__getitem__)) == [str(i) for i in reversed(range(5000))]
    assert is_ancestor("0", "4999", commits.__getitem__)
    assert not is_ancestor("4999", "0", commits.__getitem__)


def test_clocks_that_go_backwards_do_not_turn_history_round():
    commits = graph([([i - 1] if i else [], 100 - i) for i in range(50)])
    assert list(ancestors(["49"], commits.__getitem__)) == [str(i) for i in reversed(range(50))]


@given(GRAPHS, st.data())
def test_merge_bases_are_the_best_common_ancestors_however_clocks_go(commits, data):
    one, other = (data.draw(st.sampled_from(sorted(commits))) for _ in range(2))
    behind = {digest: set(ancestors([digest], commits.__getitem__)) for digest in commits}
    common = behind[one] & behind[other]
    best = {digest for digest in common if not any(digest in behind[c] for c in common if c != digest)}
    assert merge_bases(one, other, commits.__getitem__) == sorted(best)


def test_merge_bases_of_a_long_history_are_found_at_its_end():
    line = [([i - 1] if i else [], i) for i in range(5000)]
    branches = [([4990], 5001), ([5000], 5003), ([4999], 5002), ([5002], 5004)]
    commits = graph(line + branches)
    asked: set[str] = set()

    def look_up(digest: str) -> Commit:
        asked.add(digest)
        return commits[digest]

    assert merge_bases("5001", "5003", look_up) == ["4990"]
    assert len(asked) < 30
    assert merge_bases("5001", "5001", look_up) == ["5001"]
    assert merge_bases("4990", "5003", look_up) == ["4990"]
    assert len(asked) < 30


def test_merge_bases_of_a_criss_cross_and_of_strangers():
    commits = graph([([], 0), ([0], 1), ([0], 2), ([1, 2], 3), ([2, 1], 4), ([], 5)])
    assert merge_bases("3", "4", commits.__getitem__) == ["1", "2"]
    assert merge_bases("5", "4", commits.__getitem__) == []
