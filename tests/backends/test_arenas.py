"""Gathering samples out of memory: from one arena, from several, and never from one that is gone."""

from __future__ import annotations

import mmap

import numpy as np

from hangar_cloud.backends.arenas import Arenas


def blocks(count, size=1000):
    return [np.random.default_rng(n).integers(0, 256, size, np.uint8).tobytes() for n in range(count)]


def test_samples_come_from_maps_and_chunks_in_the_order_asked(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arenas = Arenas(10_000)
    data = blocks(3)
    spots = [arenas.place(memoryview(one))[0] for one in data]
    spot, raw, _ = arenas.place(memoryview(mapped)[300:900])
    assert raw.obj is mapped, "what is mapped is not copied"
    wanted = np.array([spots[2] + 10, spot + 100, spots[0], spot, spots[2] + 993])
    found = arenas.gather(wanted, 7)
    expected = [data[2][10:17], bytes(mapped[400:407]), data[0][:7], bytes(mapped[300:307]), data[2][993:]]
    assert [bytes(one) for one in found] == expected
    assert [bytes(one) for one in arenas.gather(wanted[:1], 7)] == expected[:1]
    assert len(arenas.gather(wanted[:0], 7)) == 0


def test_what_was_dropped_is_known_to_be_gone():
    arenas = Arenas(4000)
    data = blocks(12)
    placed = [arenas.place(memoryview(one), (b"pack", n)) for n, one in enumerate(data)]
    spots = np.array([spot for spot, _, _ in placed])
    assert [name for _, _, names in placed for name in names] == [(b"pack", n) for n in range(8)]
    assert arenas.nbytes == 4000
    assert arenas.known(spots).tolist() == [False] * 8 + [True] * 4
    assert arenas.gather(spots, 5) is None
    assert arenas.gather(spots[:1], 5) is None
    assert arenas.gather(np.array([0]), 5) is None
    assert [bytes(one) for one in arenas.gather(spots[8:], 5)] == [one[:5] for one in data[8:]]
    assert bytes(placed[0][1]) == data[0], "who holds the bytes keeps them"
    arenas.forget()
    assert not arenas.known(spots).any()
    assert arenas.nbytes == 0


def test_a_map_is_let_go_of(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arenas = Arenas(1000)
    spot, raw, _ = arenas.place(memoryview(mapped))
    again, _, _ = arenas.place(memoryview(mapped)[5:])
    assert again == spot + 5
    arenas.drop_map(mapped)
    arenas.drop_map(mapped)
    assert not arenas.holds(spot)
    del raw
    mapped.close()
