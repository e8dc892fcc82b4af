"""The spool of packed samples: sorted, each once, and small in memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.sample_spool import AskedSample, SampleSpool, fingerprint


def sample(number: int, pack: int = 0, prefix: bytes = b"str\0") -> PackedSample:
    """One of many: their places, packs and digests end in zeros, or are nothing else."""
    digest = (number % 7).to_bytes(1, "big") + number.to_bytes(4, "big") + bytes(27)
    return PackedSample(Place(bytes([pack]) + bytes(15), number % 5 << 8, 256, number << 8, 256), digest, prefix)


def collected(spool: SampleSpool) -> dict[bytes, list[AskedSample]]:
    return {pack: list(asked) for group in spool.groups() for pack, asked in group.items()}


@pytest.mark.parametrize("limit", [1, 1000, 1 << 20])
def test_samples_come_back_by_pack_in_the_order_of_their_places(tmp_path, limit):
    samples = [sample(n, n % 3, b"p" * (n % 4)) for n in range(500)]
    shuffled = random.Random(4).sample(samples, len(samples))
    spool = SampleSpool(tmp_path, limit)
    for number, one in enumerate(shuffled):
        spool.add(one, number, 2 * number)
    found = collected(spool)
    assert spool.packs == set(found)
    assert list(found) == sorted(found)
    for pack, asked in found.items():
        assert [one.sample for one in asked] == sorted(
            (one for one in samples if one.place.pack == pack), key=lambda one: (one.place, one.digest)
        )
        assert all(shuffled[one.leaf] == one.sample and one.row == 2 * one.leaf for one in asked)


def test_a_sample_that_many_rows_ask_for_comes_once_with_the_first_of_them(tmp_path):
    spool = SampleSpool(tmp_path, 100)
    for leaf in range(20):
        spool.add(sample(1), leaf, 3)
        spool.add(sample(2), leaf, 4)
    (asked,) = collected(spool).values()
    assert sorted(asked) == sorted([AskedSample(sample(1), 0, 3), AskedSample(sample(2), 0, 4)])


def test_samples_that_differ_in_one_byte_only_are_told_apart(tmp_path):
    one = sample(1)
    others = [one._replace(place=one.place._replace(**{name: 1})) for name in ("offset", "stored", "start", "size")]
    others += [one._replace(digest=one.digest[:-1] + b"\1"), one._replace(prefix=b"bytes\0")]
    spool = SampleSpool(tmp_path)
    for each in [one, *others]:
        spool.add(each, 0, 0)
    (asked,) = collected(spool).values()
    assert sorted(found.sample for found in asked) == sorted([one, *others])


def test_a_fingerprint_speaks_of_samples_and_not_of_who_asks():
    asked = [AskedSample(sample(n), n, n) for n in range(3)]
    assert fingerprint(asked) == fingerprint([one._replace(leaf=9, row=9) for one in asked])
    assert fingerprint(asked) != fingerprint(asked[:2])
    assert fingerprint(asked) != fingerprint([*asked[:2], asked[2]._replace(sample=sample(2, prefix=b"bytes\0"))])


def test_many_samples_of_one_pack_take_little_memory(tmp_path):
    spool = SampleSpool(tmp_path, 1 << 16)
    for number in range(20_000):
        spool.add(sample(number), 0, 0)
    tracemalloc.start()
    (group,) = spool.groups()
    (asked,) = group.values()
    assert sum(1 for _ in asked) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 92 * 4
