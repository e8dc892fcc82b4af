"""Global batches that are dealt to machines by where samples lie: the same batches, and each sample once."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud.loaders.homes import DealtOrder, Homes, deal, parts_of
from hangar_cloud.loaders.order import BlockShuffle, FullShuffle
from hangar_cloud.loaders.shares import Shares

COUNT = 1003
EDGES = np.append(np.arange(0, COUNT, 10), COUNT)
STRIPS = EDGES[::4] if len(EDGES) % 4 == 1 else np.append(EDGES[::4], COUNT)


def base(windowed=True, window=12, epoch=0):
    return BlockShuffle(EDGES, window, 0, epoch, 4) if windowed else FullShuffle(COUNT, 0, epoch)


def dealt(order, machines, machine, batch, start=0):
    return DealtOrder(order, Homes(STRIPS, machines), machine, Shares(COUNT, batch, start=start))


def ranks(batch, world_size, start=0):
    return [Shares(COUNT, batch, rank=rank, world_size=world_size, start=start) for rank in range(world_size)]


@pytest.mark.parametrize("machines", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 7, 64, 500])
def test_each_sample_stays_at_home_while_there_is_room(count, machines):
    random = np.random.default_rng(count)
    for homes in (random.integers(0, machines, count), np.full(count, machines - 1)):
        bounds = parts_of(count, machines)
        order = deal(homes, bounds)
        assert sorted(order.tolist()) == list(range(count))
        at_home = 0
        for machine in range(machines):
            part = order[bounds[machine] : bounds[machine + 1]]
            here = homes[part] == machine
            at_home += int(here.sum())
            # First those at home, then the others, each in the order of the batch.
            assert (np.diff(here.astype(int)) <= 0).all()
            assert all((np.diff(part[some]) > 0).all() for some in (here, ~here))
        most = np.minimum(np.bincount(homes, minlength=machines), np.diff(bounds)).sum()
        assert at_home == most


@pytest.mark.parametrize("windowed", [True, False])
@pytest.mark.parametrize(("machines", "world_size"), [(2, 2), (2, 6), (4, 4), (5, 10)])
@pytest.mark.parametrize(("batch", "start"), [(10, 0), (64, 0), (64, 137), (1003, 0), (2000, 3)])
def test_global_batches_stay_and_each_rank_gets_its_part(windowed, machines, world_size, batch, start):
    order = base(windowed)
    shares = ranks(batch, world_size, start)
    mine = [dealt(base(windowed), machines, rank * machines // world_size, batch, start) for rank in range(world_size)]
    for step in range(shares[0].steps):
        first = start + step * batch
        given = [one.positions(*share.part(step)) for one, share in zip(mine, shares, strict=True)]
        assert sorted(np.concatenate(given)) == sorted(order.positions(first, min(first + batch, COUNT)))
    assert (mine[0].positions(start + 3, COUNT) == mine[-1].positions(start + 3, COUNT)).all()
    assert mine[0].positions(5, 5).tolist() == []


@pytest.mark.parametrize("window", [1, 3, 12, 60])
@pytest.mark.parametrize("machines", [2, 3, 8])
@pytest.mark.parametrize(("batch", "start", "step"), [(8, 0, 0), (64, 0, 3), (300, 0, 1), (64, 137, 5), (1003, 0, 0)])
def test_what_a_machine_reads_was_opened_before_and_once(window, machines, batch, start, step):
    for machine in range(machines):
        order = dealt(base(window=window), machines, machine, batch, start)
        share = ranks(batch, machines, start)[machine]
        if step >= share.steps:
            continue
        opened: list[int] = []
        used: list[int] = []
        number = step
        # A process alone begins with its own part of a batch, amid it.
        goes_on, place = True, share.part(step)[0] if step else start
        while place < COUNT:
            for positions in order.opened(place, goes_on):
                assert len(positions)
                opened += positions.tolist()
            goes_on, place = False, order.opening_end(place)
            while number < share.steps and share.consumed(number + 1) <= place:
                part = share.part(number)
                used += order.positions(*part).tolist() + order.given_away(*part).tolist()
                number += 1
            assert set(opened) >= set(used)
        assert number == share.steps
        # None is left in memory.
        assert sorted(opened) == sorted(used)


def test_a_machine_opens_its_own_strips_as_a_whole_and_little_else():
    homes = Homes(STRIPS, 2)
    for epoch in range(3):
        order = dealt(base(epoch=epoch), 2, 1, 100)
        opened, goes_on, place = [], True, 0
        while place < COUNT:
            opened += order.opened(place, goes_on)
            goes_on, place = False, order.opening_end(place)
        whole = [p for p in opened[1:] if len(p) == 40 and (np.diff(p) == 1).all()]
        assert len(whole) > 5
        own = np.concatenate(opened)
        at_home = own[homes.of(own) == 1]
        assert sorted(at_home) == np.flatnonzero(homes.of(np.arange(COUNT)) == 1).tolist()
        assert len(own) - len(at_home) < COUNT / 10
