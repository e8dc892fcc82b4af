"""Where samples lie in one line of addresses, from where they lie in packs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.backends.packs import STRETCH
from hangar_cloud.loaders.records import Spots
from hangar_cloud.loaders.stretches import addresses

SIZE, HEADER = 100_000, 24


def pack(number, count, size=SIZE, every=1, stored=None, begin=8):
    """Spots of samples that lie behind each other in a pack."""
    lies = np.arange(begin, begin + count * ((stored or size) + HEADER), (stored or size) + HEADER)[:count:every]
    return Spots(np.full(len(lies), number), lies, np.zeros_like(lies), np.full(len(lies), size))


def joined(*packs):
    return Spots(*(np.concatenate(parts) for parts in zip(*packs, strict=True)))


def test_packs_begin_at_multiples():
    found = addresses(joined(pack(0, 650), pack(1, 650), pack(2, 400)))
    assert found is not None
    assert (found[:650] == pack(0, 650).offset).all()
    assert (found[[0, 650, 1300]] % STRETCH == 8).all()
    assert found[650] // STRETCH == found[649] // STRETCH + 1
    assert (np.diff(found) > 0).all()


def test_a_pack_that_is_a_bit_longer_than_stretches_ends_with_them():
    found = addresses(joined(pack(0, 676), pack(1, 676)))
    assert found is not None
    assert pack(0, 676).offset[-1] > 8 * STRETCH
    assert sorted(set((found // STRETCH).tolist())) == list(range(16))
    assert found[676] == 8 * STRETCH + 8
    assert found[675] == 8 * STRETCH - 1


def test_a_part_of_a_pack_keeps_its_place_in_the_stretch():
    found = addresses(joined(pack(0, 3, 1000), pack(1, 600, begin=STRETCH + 12_345)))
    assert found is not None
    assert found[:3].tolist() == [0, 1000, 2000]
    assert found[3] == STRETCH + 12_345


def test_small_and_sparse_and_compressed_packs_are_not_lined_up():
    assert addresses(pack(0, 0)) is None
    assert addresses(pack(0, 100)) is None
    assert addresses(pack(0, 650, every=2)) is None
    assert addresses(pack(0, 2000, stored=50_000)) is None
    assert addresses(pack(-1, 650)) is None, "inline samples lie in no pack"
    # Some masks that compress well beside images that do not: such a block was 54 MB in memory.
    few = pack(0, 30, stored=500)
    assert addresses(joined(few, pack(0, 650, begin=int(few.offset[-1]) + 524))) is None
    equal = pack(0, 650)
    equal.offset[5] = equal.offset[4]
    assert addresses(equal) is None


def test_many_small_packs_beside_a_long_one_lie_behind_each_other():
    small = [pack(number, 3) for number in range(500)]
    found = addresses(joined(*small, pack(500, 650)))
    assert found is not None
    assert (np.diff(found[:1500]) == SIZE).all()
    assert found[1500] == -(-1500 * SIZE // STRETCH) * STRETCH + 8


@given(st.lists(st.tuples(st.integers(1, 600), st.integers(1, 4), st.integers(10, 300_000)), min_size=1, max_size=8))
def test_addresses_do_not_fall(packs):
    spots = joined(*(pack(number, count, size, every) for number, (count, every, size) in enumerate(packs)))
    found = addresses(spots)
    if found is not None:
        assert (np.diff(found) >= 0).all()
        assert found[0] >= 0
