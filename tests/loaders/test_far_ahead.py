"""Loaders that fetch far ahead: they can be broken off anywhere, and what is brought is read once."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest

from hangar_cloud import make_numpy_dataset
from hangar_cloud.backends import sample_extents
from hangar_cloud.backends.blocks import decode_blocks, lone_payload
from hangar_cloud.backends.reused_memory import ReusedMemory
from hangar_cloud.backends.store import reception
from hangar_cloud.errors import CorruptDataError
from hangar_cloud.loaders import feed, source
from tests.loaders.large_images import bucket_of, image, numbers_of, requests_for_packs

COUNT, NBYTES = 120, 500_000
SECONDS = 30
check = partial(numbers_of, nbytes=NBYTES)
url = bucket_of("far-ahead", COUNT, NBYTES, has_texts=True)


@pytest.mark.parametrize("names", [("image",), ("image", "text")])
@pytest.mark.parametrize("shuffle", [True, "full"])
@pytest.mark.parametrize("given", [1, 4])
def test_an_epoch_can_be_broken_off_while_parts_are_on_their_way(opened, s3_proxy, names, shuffle, given):
    """Parts that had been cancelled were waited for, for ever."""
    checkout = opened().checkout()
    dataset = make_numpy_dataset([checkout[name] for name in names], batch_size=4, shuffle=shuffle, memory=60_000_000)
    s3_proxy.delay = 0.05
    batches = iter(dataset)
    for _ in range(given):
        next(batches)
    time.sleep(0.05)
    closing = threading.Thread(target=batches.close, daemon=True)  # type: ignore[attr-defined]
    closing.start()
    closing.join(SECONDS)
    s3_proxy.delay = 0.0
    assert not closing.is_alive()
    checkout.close()


@pytest.mark.parametrize("memory", [8_000_000, 24_000_000, 100_000_000])
@pytest.mark.parametrize("names", [("image", "number"), ("image", "text", "number")])
def test_what_is_in_the_cache_is_decoded_once_an_epoch(opened, s3_proxy, monkeypatch, memory, names):
    """Of what had no room it was decoded to be thrown away."""
    decoded = []

    def counted(*told):
        decoded.append(1)
        return decode_blocks(*told)

    def counted_alone(*told, real=lone_payload):
        found = real(*told)
        decoded.extend([1] * (found is not None))
        return found

    monkeypatch.setattr(sample_extents, "decode_blocks", counted)
    monkeypatch.setattr(sample_extents, "lone_payload", counted_alone)
    checkout = opened().checkout()
    dataset = make_numpy_dataset([checkout[name] for name in names], batch_size=10, memory=memory, window=20)
    assert sorted(check(dataset)) == list(range(COUNT))
    s3_proxy.targets.clear()
    decoded.clear()
    assert sorted(check(dataset)) == list(range(COUNT))
    texts = COUNT if "text" in names else 0
    assert COUNT <= len(decoded) <= 1.05 * (COUNT + texts)
    assert requests_for_packs(s3_proxy) == []
    checkout.close()


@pytest.mark.parametrize(("memory", "cache"), [(40_000_000, 110_000_000), (80_000_000, 5_000_000)])
def test_memory_or_a_cache_of_some_windows_is_enough_to_fetch_by_them(opened, s3_proxy, memory, cache):
    checkout = opened(cache_size=cache).checkout()
    checkout["number"].get_batch(range(COUNT))
    s3_proxy.targets.clear()
    dataset = make_numpy_dataset([checkout["image"], checkout["number"]], batch_size=10, memory=memory, window=20)
    assert sorted(check(dataset)) == list(range(COUNT))
    assert len(requests_for_packs(s3_proxy)) < COUNT / 4
    checkout.close()


def test_going_on_amid_a_window_gives_the_rest_of_it_in_few_requests(opened, s3_proxy):
    checkout = opened("one").checkout()
    columns = [checkout["image"], checkout["number"]]
    dataset = make_numpy_dataset(columns, batch_size=6, memory=20_000_000, window=40)
    batches = iter(dataset)
    first = check(next(batches) for _ in range(5))
    state, rest = dataset.state_dict(), check(batches)
    assert sorted(first + rest) == list(range(COUNT))
    checkout.close()
    checkout = opened("other").checkout()
    dataset = make_numpy_dataset([checkout["image"], checkout["number"]], batch_size=6, memory=20_000_000, window=40)
    dataset.load_state_dict(state)
    s3_proxy.targets.clear()
    assert check(dataset) == rest
    assert len(requests_for_packs(s3_proxy)) <= len(rest)
    checkout.close()


@pytest.mark.parametrize("shuffle", [False, "storage"])
@pytest.mark.parametrize(("memory", "times"), [(20_000_000, 2), (100_000_000, 1.2)])
def test_an_epoch_in_order_is_fetched_ahead_too(opened, s3_proxy, shuffle, memory, times):
    """It took twice the CPU of a shuffled one, and up to 20 requests. What finds no room in memory takes two each."""
    checkout = opened("one").checkout()
    columns = [checkout["image"], checkout["number"]]
    dataset = make_numpy_dataset(columns, batch_size=6, memory=memory, shuffle=shuffle)
    batches = iter(dataset)
    first = check(next(batches) for _ in range(5))
    state = dataset.state_dict()
    assert first + check(batches) == list(range(COUNT))
    assert len(requests_for_packs(s3_proxy)) <= times * -(-COUNT * NBYTES // source.MOST_STRIP)
    checkout.close()
    checkout = opened("other").checkout()
    dataset = make_numpy_dataset([checkout["image"], checkout["number"]], batch_size=6, memory=memory, shuffle=shuffle)
    dataset.load_state_dict(state)
    before = s3_proxy.bytes_down
    assert check(dataset) == list(range(len(first), COUNT))
    assert s3_proxy.bytes_down - before < 1.02 * (COUNT - len(first)) * NBYTES
    checkout.close()


@pytest.mark.parametrize(("length", "is_ahead"), [(20, True), (1, False)])
def test_keys_are_fetched_ahead_where_they_mostly_lie_in_their_order(opened, s3_proxy, length, is_ahead):
    checkout = opened("keys").checkout()
    runs = [list(range(begin, begin + length)) for begin in range(0, COUNT, length)]
    keys = [key for number in np.random.default_rng(0).permutation(len(runs)) for key in runs[number]]
    dataset = make_numpy_dataset([checkout["image"], checkout["number"]], keys, 6, shuffle=False)
    assert check(dataset) == keys
    parts = dataset._source.parts_in_order(dataset._source.key_order)
    assert (parts is not None) == is_ahead
    if is_ahead:
        assert len(requests_for_packs(s3_proxy)) <= COUNT / 4
    checkout.close()


@pytest.mark.parametrize("number", [0, 1])
def test_an_iterator_may_be_closed_by_a_thread_that_reads(opened, monkeypatch, number):
    """The collector may do so. One of its own failed, as a thread cannot wait for itself, and what was held stayed. One
    of the next iterator that had the lock of what was brought would have waited for that for ever."""
    made = []

    class Noted(feed._Reader):
        def __init__(self, *told):
            super().__init__(*told)
            made.append(self)

    monkeypatch.setattr(feed, "_Reader", Noted)
    checkout = opened().checkout()
    dataset = make_numpy_dataset([checkout["image"], checkout["number"]], batch_size=10, memory=60_000_000, window=20)
    iterators = [iter(dataset) for _ in range(number + 1)]
    for batches in iterators:
        next(batches)

    def close_first():
        with dataset._source._brought._lock.lock:
            made[0].close()

    made[number]._ahead.submit(close_first).result(SECONDS)
    ends = time.monotonic() + SECONDS
    own = set(made[0]._ahead._threads | made[0]._pool._threads)
    while any(thread.is_alive() for thread in own) or (number == 0 and dataset._source.brought_bytes):
        assert time.monotonic() < ends
        time.sleep(0.01)
    del batches, iterators
    assert sorted(check(dataset)) == list(range(COUNT))
    checkout.close()


def test_memory_of_what_was_read_is_received_into_again_and_goes_at_the_end(opened, monkeypatch):
    made, memory = [], ReusedMemory(0)

    def counted(nbytes, real=memory._taken):
        piece = real(nbytes)
        made.extend([nbytes] * (piece is None))
        return piece

    monkeypatch.setattr(memory, "_taken", counted)
    monkeypatch.setattr(reception, "_memory", memory)
    checkout = opened().checkout()
    dataset = make_numpy_dataset(checkout["image"], batch_size=10, memory=40_000_000, window=10)
    room = dataset._source.brought_room
    assert room < COUNT * NBYTES / 2, "not all of it is held"
    first = iter(dataset)
    next(first)
    assert memory._more == [room]
    for _ in first:
        pass
    assert sum(made) < 0.6 * COUNT * NBYTES, "what is held and on its way; else all that came"
    assert memory._more == []
    assert memory._free_bytes() == 0
    checkout.close()


def test_a_damaged_sample_is_told_at_its_turn_and_the_others_are_fetched_ahead_all_the_same(opened, monkeypatch):
    checkout = opened().checkout()
    bad = image(77, 16).tobytes()

    def damaged(data, *told):
        if bytes(data[24:40]) == bad:
            raise CorruptDataError("a block fails its checksum")
        return decode_blocks(data, *told)

    def not_simply(view, position, place, digest, real=lone_payload):
        return None if bytes(view[position + 24 : position + 40]) == bad else real(view, position, place, digest)

    monkeypatch.setattr(sample_extents, "decode_blocks", damaged)
    monkeypatch.setattr(sample_extents, "lone_payload", not_simply)
    columns = [checkout["image"], checkout["number"]]
    dataset = make_numpy_dataset(columns, batch_size=1, memory=30_000_000, window=20)
    seen = []
    with pytest.raises(CorruptDataError, match="column 'image', sample 77"):
        for batch in dataset:
            seen += check([batch])
    whole = [
        int(number) for batch in make_numpy_dataset(checkout["number"], batch_size=1) for number in batch["number"]
    ]
    assert len(whole) == COUNT
    assert 77 not in seen
    checkout.close()
