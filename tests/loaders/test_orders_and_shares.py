"""The pure core: orders of samples, shares of ranks and workers, and going on in the middle of an epoch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.loaders.order import BlockShuffle, FixedOrder, FullShuffle, block_edges, mixing
from hangar_cloud.loaders.permutations import permutation
from hangar_cloud.loaders.shares import Shares

COUNTS = st.integers(0, 300)


@st.composite
def orders(draw):
    """Some order of some samples, made twice from the same arguments."""
    count, seed, epoch = draw(COUNTS), draw(st.integers(0, 2**64)), draw(st.integers(0, 10**6))
    sizes = draw(st.one_of(st.integers(0, 50), st.lists(st.integers(0, 50), min_size=count, max_size=count)))
    edges = block_edges(sizes if isinstance(sizes, int) else np.array(sizes, np.int64), count, draw(st.integers(1, 99)))
    kind, blocks = draw(st.sampled_from(["blocks", "full", "fixed"])), draw(st.integers(1, len(edges)))
    strip = draw(st.integers(1, 4))
    steps = draw(st.none() | st.lists(st.integers(1, 5), min_size=len(edges) - 1, max_size=len(edges) - 1))
    lanes = None if steps is None else np.cumsum(np.array(steps, np.int64))

    def make():
        if kind == "blocks":
            return BlockShuffle(edges, blocks, seed, epoch, strip, lanes)
        if kind == "full":
            return FullShuffle(count, seed, epoch)
        fixed = permutation(count, seed, "fixed") if blocks % 2 else None
        return FixedOrder(count, fixed, edges[1:] if count and strip > 1 else None)

    return make(), make()


@given(st.integers(0, 5000), st.integers(0, 2**70), st.text(max_size=5))
def test_a_permutation_has_each_number_once(count, seed, name):
    found = permutation(count, seed, name)
    assert sorted(found.tolist()) == list(range(count))
    assert found.tolist() == permutation(count, seed, name).tolist()


def test_permutations_stay_what_they_are():
    """An epoch that is gone on with after an upgrade goes on in the same order."""
    assert permutation(10, 0, 0, "all").tolist() == [4, 1, 5, 9, 0, 2, 8, 6, 7, 3]
    assert permutation(7, 3, 1, "window", 2).tolist() == [2, 5, 1, 4, 0, 6, 3]
    edges = block_edges(10, 20, 40)
    assert edges.tolist() == [0, 4, 8, 12, 16, 20]
    order = BlockShuffle(edges, 2, 5, 6)
    assert order.positions(0, 20).tolist() == [0, 2, 1, 3, 14, 12, 15, 13, 19, 17, 18, 16, 7, 11, 10, 4, 5, 6, 8, 9]


def test_orders_in_strips_stay_what_they_are():
    order = BlockShuffle(block_edges(10, 22, 20), 3, 5, 6, 2)
    found = " ".join(map(str, order.positions(0, 22).tolist()))
    assert found == "0 2 1 3 12 13 21 19 20 15 18 14 7 16 17 6 10 11 5 9 8 4"


def test_permutations_are_uniform():
    """Each number comes at each place about as often, and neighbours do not stay together."""
    seen = np.array([permutation(8, seed, "uniform") for seed in range(4000)])
    for place in range(8):
        counts = np.bincount(seen[:, place], minlength=8)
        assert ((counts - 500) ** 2 / 500).sum() < 30, "chi-square of 7 degrees of freedom: 30 is one in 10,000"
    assert abs((np.diff(seen) == 1).mean() - 1 / 8) < 0.02


@given(orders(), st.integers(0, 320), st.integers(0, 320))
def test_an_order_has_each_position_once_and_any_part_of_it_is_the_same_part(made, start, stop):
    order, again = made
    whole = order.positions(0, order.count)
    assert sorted(whole.tolist()) == list(range(order.count))
    start, stop = sorted((min(start, order.count), min(stop, order.count)))
    assert again.positions(start, stop).tolist() == whole[start:stop].tolist()


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(1, 100))
def test_blocks_cover_all_samples_in_runs_of_about_the_bytes_asked_for(sizes, block_bytes):
    edges = block_edges(np.array(sizes, np.int64), len(sizes), block_bytes)
    assert edges[0] == 0
    assert edges[-1] == len(sizes)
    assert (np.diff(edges) > 0).all()
    for start, stop in pairwise(edges.tolist()):
        assert sum(sizes[start:stop]) < block_bytes + 40
        assert sum(sizes[start:stop]) - sizes[stop - 1] < block_bytes


@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 9), st.integers(0, 9))
def test_a_window_has_whole_blocks(count, per_block, blocks, epoch):
    edges = block_edges(1, count, per_block)
    order = BlockShuffle(edges, blocks, 1, epoch)
    place, seen = 0, []
    while place < count:
        end = order.window_end(place)
        window = order.positions(place, end).tolist()
        touched = {position // per_block for position in window}
        assert len(touched) <= blocks
        assert len(window) == sum(min(per_block, count - block * per_block) for block in touched)
        seen += window
        place = end
    assert sorted(seen) == list(range(count))


@given(st.integers(1, 900), st.integers(1, 9), st.integers(1, 9), st.integers(2, 5), st.integers(0, 9))
def test_a_window_takes_a_block_of_each_strip_that_is_open(count, per_block, blocks, strip, epoch):
    edges = block_edges(1, count, per_block)
    order = BlockShuffle(edges, blocks, 1, epoch, strip)
    whole = order._strips._length
    assert 1 <= whole <= max(1, min(strip, blocks, (len(edges) - 1) // blocks))
    place, number, left, seen = 0, 0, {}, []
    while place < count:
        opened = [sorted({int(p) // per_block for p in positions}) for positions in order.opened(place, False)]
        if whole > 1:
            assert all(those == list(range(those[0], those[0] + len(those))) for those in opened)
            assert all(len(those) == whole or those[-1] == len(edges) - 2 for those in opened)
            left.update((those[0] // whole, len(those)) for those in opened)
        end = order.window_end(place)
        window = {position // per_block for position in order.positions(place, end).tolist()}
        seen += sorted(window)
        if whole > 1:
            strips = [block // whole for block in window]
            if end < count:
                assert number < 3 or (sorted(strips) == sorted(left) and len(set(strips)) == len(strips))
                assert len(strips) <= whole * max(1, round(blocks / whole))
            for each in strips:
                left[each] -= 1
                if not left[each]:
                    del left[each]
        place, number = end, number + 1
    assert sorted(seen) == list(range(len(edges) - 1))
    assert not left


@given(orders(), st.data())
def test_what_is_opened_is_each_sample_before_it_is_read_once_and_no_more_than_is_said(made, data):
    order = made[0]
    start = place = data.draw(st.integers(0, order.count))
    held: set[int] = set()
    came: list[int] = []
    while place < order.count:
        for positions in order.opened(place, place == start):
            came += positions.tolist()
            held.update(positions.tolist())
        assert len(held) <= order.most_open
        end = order.opening_end(place)
        window = set(order.positions(place, end).tolist())
        assert window <= held
        held -= window
        place = end
    assert not held
    assert sorted(came) == sorted(order.positions(start, order.count).tolist())


def test_windows_with_strips_are_about_as_large_as_they_were_asked_to_be():
    edges = block_edges(1, 6000, 1)
    for blocks in range(1, 65):
        order = BlockShuffle(edges, blocks, 0, 0, 4)
        sizes = [order.window_end(place) - place for place in [0, *order._ends[:-1].tolist()]]
        assert abs(max(sizes[:-3]) - blocks) <= max(0.15 * blocks, 1), blocks
    assert BlockShuffle(edges, 32, 0, 0, 4)._strips._length == 4


def test_as_many_strips_are_opened_for_one_window_as_for_the_next():
    order = BlockShuffle(block_edges(1, 10_000, 10), 32, 0, 0, 4)
    places = [0, *order._ends[:-1].tolist()]
    opened = [len(order.opened(place, False)) for place in places]
    sizes = [order.window_end(place) - place for place in places]
    assert opened == [2, 4, *[8] * 30, 4, 0]
    assert sizes == [80, 80, 160, 160, 240, *[320] * 27, 280, 360]
    assert order.most_open == 800, "five eighths of 32 strips"


def test_strips_end_at_every_multiple_of_their_length():
    lanes = np.array([0, 1, 2, 3, 4, 8, 9, 10, 11, 13, 14, 16, 17, 18, 19, 21])
    order = BlockShuffle(block_edges(1, 16, 1), 4, 0, 0, 4, lanes)
    places = [0, *order._ends[:-1].tolist()]
    opened = [strip.tolist() for place in places for strip in order.opened(place, False)]
    assert sorted(opened) == [[0, 1, 2, 3], [4], [5, 6, 7, 8], [9, 10], [11, 12, 13, 14], [15]]
    assert sorted(order.positions(0, 16).tolist()) == list(range(16))


def test_which_block_of_a_strip_comes_first_is_drawn_by_lot():
    edges = block_edges(1, 8000, 1)
    firsts = np.concatenate([BlockShuffle(edges, 100, 0, epoch, 2).positions(0, 8000) for epoch in range(5)])
    firsts = firsts.reshape(5, -1)
    shares = []
    for epoch in firsts:
        at = np.empty(8000, np.int64)
        at[epoch] = np.arange(8000)
        shares.append((at[::2] < at[1::2]).mean())
    assert all(abs(share - 0.5) < 0.04 for share in shares), "4000 fair coins: 0.04 is five standard deviations"


@given(st.integers(0, 200), st.integers(1, 40), st.booleans(), st.integers(1, 9))
def test_ranks_have_each_sample_once(count, batch, drop_last, world):
    if batch < world:
        with pytest.raises(InvalidArgumentError, match="cannot be cut among"):
            Shares(count, batch, drop_last, 0, world)
        return
    ranks = [Shares(count, batch, drop_last, rank, world) for rank in range(world)]
    assert len({shares.steps for shares in ranks}) == 1, "ranks that wait for each other end together"
    wanted = count - count % batch if drop_last else count
    steps = ranks[0].steps
    assert steps == -(-wanted // batch)
    places = [place for step in range(steps) for shares in ranks for place in range(*shares.part(step))]
    assert places == list(range(wanted)), "the parts of a step follow each other in the order of the ranks"
    for step in range(steps):
        lengths = [stop - start for start, stop in (shares.part(step) for shares in ranks)]
        assert max(lengths) - min(lengths) <= 1


@given(st.integers(1, 200), st.integers(8, 40), st.integers(1, 8), st.integers(1, 8), st.data())
def test_global_batches_stay_when_the_number_of_ranks_changes_in_mid_epoch(count, batch, before, after, data):
    def step_of(world, step, start):
        return [
            place
            for rank in range(world)
            for place in range(*Shares(count, batch, False, rank, world, start).part(step))
        ]

    steps = Shares(count, batch).steps
    done = data.draw(st.integers(0, steps))
    start = Shares(count, batch, False, 0, before).consumed(done)
    rest = Shares(count, batch, False, 0, after, start).steps
    assert [step_of(before, step, 0) for step in range(done)] + [
        step_of(after, step, start) for step in range(rest)
    ] == [step_of(1, step, 0) for step in range(steps)]


@pytest.mark.parametrize(("batch", "rank", "world"), [(0, 0, 1), (-1, 0, 1), (8, 2, 2), (8, -1, 2), (8, 0, 0)])
def test_shares_that_cannot_be(batch, rank, world):
    with pytest.raises(ValueError):
        Shares(10, batch, False, rank, world)


def test_the_quality_knob_goes_from_storage_order_to_random():
    edges = block_edges(1, 20_000, 50)
    found = [mixing(BlockShuffle(edges, blocks, 0, 0).positions(0, 20_000)) for blocks in (1, 8, 64, 400)]
    assert mixing(FixedOrder(20_000).positions(0, 20_000)) == 0
    assert found == sorted(found)
    assert found[0] < 0.05
    assert abs(found[-1] - 1) < 0.05
    assert abs(mixing(FullShuffle(20_000, 0, 0).positions(0, 20_000)) - 1) < 0.05


@given(st.integers(0, 999_999))
def test_any_place_of_a_million_is_found_without_ordering_all_of_them(place):
    edges = block_edges(784, 1_000_000, 1024 * 1024)
    order = BlockShuffle(edges, 8, 0, 3)
    stop = min(place + 256, 1_000_000)
    assert len(set(order.positions(place, stop).tolist())) == stop - place
    assert order._kept is not None
    assert len(order._kept[1]) <= 8 * 1337
