"""Writes past the system's memory: the same bytes as the usual ones, whatever the disk says to it."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hangar_cloud.backends import direct_writes
from hangar_cloud.backends.direct_writes import WritesPastMemory
from hangar_cloud.backends.sparse_file import HOLE_BYTES
from hangar_cloud.backends.store.reception import PAGE, rooms_for
from tests.forked import passes_forked

MIB = 1024 * 1024
RANDOM = np.random.default_rng(0).bytes(5 * MIB)


@pytest.fixture(autouse=True)
def unfit(monkeypatch):
    """The devices that are left alone, none of them at first."""
    devices: dict[int, float] = {}
    monkeypatch.setattr(direct_writes, "_unfit", devices)
    monkeypatch.setattr(direct_writes, "_average", {})
    return devices


@pytest.fixture
def path(tmp_path, unfit):
    """A file of a device that takes such writes at any speed."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    if not written(path, 0, RANDOM[:MIB]):
        pytest.skip("the system or the file system of temporary files has no writes past memory")
    path.unlink()
    path.write_bytes(b"")
    unfit.clear()
    return path


@pytest.fixture
def unhurried(monkeypatch):
    """This machine may be busy, and threads of tests before may still write to a disk."""
    monkeypatch.setattr(direct_writes, "_SLOW_SECONDS", 1000)
    monkeypatch.setattr(direct_writes, "_pieces", direct_writes._Pieces())


def placed(offset, length):
    rooms = rooms_for(offset, [length])
    assert rooms is not None
    return rooms[0]


def unplaced(data):
    """The same bytes, but not where a page of memory begins, as any bytes may do by chance."""
    room = np.empty(len(data) + 2 * PAGE, np.uint8)
    begin = PAGE - room.ctypes.data % PAGE + 16
    room[begin : begin + len(data)] = np.frombuffer(data, np.uint8)
    return room.data[begin : begin + len(data)]


def written(path, offset, data):
    with open(path, "r+b") as file, WritesPastMemory(path, file.fileno()) as past_memory:
        return past_memory.write(offset, data)


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 4097, 3 * MIB + 7])
@pytest.mark.parametrize("length", [MIB, MIB + 1, 2 * MIB - 1, 5 * MIB])
def test_the_bytes_are_where_they_belong_and_nothing_else_changes(path, unhurried, offset, length):
    before = np.random.default_rng(1).bytes(9 * MIB)
    path.write_bytes(before)
    assert written(path, offset, memoryview(RANDOM)[:length])
    assert path.read_bytes() == before[:offset] + RANDOM[:length] + before[offset + length :]


@pytest.mark.parametrize("offset", [0, 1, 4095, 3 * MIB + 7])
@pytest.mark.parametrize("length", [2 * MIB - 1, 5 * MIB])
def test_what_lies_in_memory_as_in_the_file_is_written_from_there(path, unhurried, monkeypatch, offset, length):
    room = placed(offset, length)
    room[:] = RANDOM[:length]
    sources = []
    real = os.pwrite

    def pwrite(file, data, at):
        sources.append((np.frombuffer(data, np.uint8).ctypes.data, at))
        return real(file, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    before = np.random.default_rng(1).bytes(9 * MIB)
    path.write_bytes(before)
    assert written(path, offset, room.toreadonly())
    assert path.read_bytes() == before[:offset] + RANDOM[:length] + before[offset + length :]
    first = np.frombuffer(room, np.uint8).ctypes.data - offset
    assert {address - at for address, at in sources} == {first}


def test_in_a_file_that_is_longer_then(path, unhurried):
    assert written(path, 10 * MIB + 5, RANDOM)
    assert path.read_bytes() == bytes(10 * MIB + 5) + RANDOM


def test_threads_write_what_follows_each_other(path, unhurried):
    cuts = sorted({0, *np.random.default_rng(2).integers(0, len(RANDOM), 9).tolist(), len(RANDOM)})

    def write(number):
        begin, end = cuts[number], cuts[number + 1]
        with open(path, "r+b") as file, WritesPastMemory(path, file.fileno()) as past_memory:
            if not past_memory.write(begin, RANDOM[begin:end]):
                os.pwrite(file.fileno(), RANDOM[begin:end], begin)

    for _ in range(10):
        path.write_bytes(b"")
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(write, range(len(cuts) - 1)))
        assert path.read_bytes() == RANDOM


def test_little_goes_the_usual_way(path):
    assert not written(path, 0, RANDOM[:4096])
    assert path.read_bytes() == b""


def test_what_finds_no_place_goes_the_usual_way(path, unhurried):
    taken = [direct_writes._pieces.take() for _ in range(direct_writes._AT_ONCE)]
    try:
        assert not written(path, 0, RANDOM)
        assert path.read_bytes() == b""
        # Of a child nobody has any.
        assert passes_forked(lambda: written(path, 0, RANDOM))
        assert path.read_bytes() == RANDOM
    finally:
        for piece in taken:
            direct_writes._pieces.give_back(piece)
    assert written(path, 0, RANDOM)


def test_a_file_system_that_will_not_have_it_is_asked_once(path, unfit, monkeypatch):
    asked = []

    def refuse(name, flags, *mode, real=os.open):
        if flags & os.O_DIRECT:
            asked.append(name)
            raise OSError(errno.EINVAL, "not here")
        return real(name, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    assert not written(path, 0, RANDOM)
    assert not written(path, 0, RANDOM)
    assert asked == [path]
    assert unfit == {path.stat().st_dev: math.inf}


@pytest.mark.parametrize("done", [0, 4096, MIB], ids=str)
def test_what_the_disk_does_not_take_so_is_written_otherwise(path, unfit, monkeypatch, done):
    def take_some(file, data, offset, real=os.pwrite):
        if len(data) != 2 * MIB:
            return real(file, data, offset)
        if not done:
            raise OSError(errno.EINVAL, "not so")
        return real(file, data[:done], offset)

    monkeypatch.setattr(os, "pwrite", take_some)
    assert written(path, 7, RANDOM)
    assert path.read_bytes() == bytes(7) + RANDOM
    assert unfit


def test_a_full_disk_is_told(path, unfit, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="full"):
            written(path, 0, RANDOM)
    assert not unfit
    assert all(written(path, 0, RANDOM) for _ in range(2 * direct_writes._AT_ONCE) if not unfit)
    assert path.read_bytes() == RANDOM


def test_a_slow_disk_is_left_to_the_system(path, unfit, monkeypatch):
    monkeypatch.setattr(direct_writes, "_SLOW_SECONDS", 0)
    assert written(path, 0, RANDOM[:MIB])
    assert path.read_bytes() == RANDOM[:MIB]
    assert not written(path, 0, RANDOM)
    assert unfit


@pytest.fixture
def takes(monkeypatch):
    """Seconds that the disk takes for the next writes of whole pieces, by a clock of the test's own."""
    takes: list[float] = []
    now = [0.0]

    def pwrite(file, data, offset, real=os.pwrite):
        if len(data) == 2 * MIB:
            now[0] += takes.pop(0)
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return takes


def test_a_disk_that_is_slow_once_is_not(path, unfit, takes):
    """One write of 50 ms sent those of a whole minute the usual way: a third more CPU for an epoch of 2 GB."""
    for _ in range(20):
        takes += [0.002] * 9 + [0.5]
        assert all(written(path, 0, RANDOM[: 2 * MIB]) for _ in range(10))
    assert not unfit


def test_a_disk_is_not_slow_that_stops_now_and_then(path, unfit, takes):
    """All that was under way when it stopped spoke of it: in one epoch of 2 GB of five it was left alone."""
    for _ in range(3):
        takes += [0.002] * 50 + [0.02] * 12
        assert all(written(path, 0, RANDOM[: 2 * MIB]) for _ in range(62))
    assert not unfit


def test_a_disk_is_not_slow_for_what_is_written_beside(path, unfit, takes, monkeypatch):
    """Twelve threads that wrote at once waited for each other, and the disk was left alone: as much CPU again."""
    takes += [0.08] * 40
    others = deque([None] * 11)
    monkeypatch.setattr(direct_writes._pieces, "under_way", {os.stat(path).st_dev: others})
    assert all(written(path, 0, RANDOM[: 2 * MIB]) for _ in range(40))
    assert not unfit
    assert len(others) == 11


def test_a_disk_that_is_slow_most_of_the_time_is(path, unfit, takes):
    takes += [0.1] * 40
    for _ in range(40):
        if unfit:
            break
        assert written(path, 0, RANDOM[: 2 * MIB])
    assert unfit
    assert len(takes) > 20


def test_what_needs_no_piece_is_written_when_all_are_in_use(path, unhurried):
    room = placed(7, 2 * MIB)
    room[:] = RANDOM[: 2 * MIB]
    taken = [direct_writes._pieces.take() for _ in range(direct_writes._AT_ONCE)]
    try:
        assert written(path, 7, room.toreadonly())
    finally:
        for piece in taken:
            direct_writes._pieces.give_back(piece)
    assert path.read_bytes() == bytes(7) + RANDOM[: 2 * MIB]


def test_at_most_a_few_are_under_way(path, unhurried, monkeypatch):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait(file, data, offset, real=os.pwrite):
        if len(data) == MIB:
            begun.release()
            assert go_on.wait(60)
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", wait)
    most = direct_writes._AT_ONCE
    with ThreadPoolExecutor(most) as pool:
        parts = [unplaced(RANDOM[n * MIB : (n + 1) * MIB]) for n in range(most + 1)]
        under_way = [pool.submit(written, path, n * MIB, parts[n]) for n in range(most)]
        try:
            assert all(begun.acquire(timeout=60) for _ in under_way)
            assert not written(path, most * MIB, parts[most])
        finally:
            go_on.set()
        assert all(future.result() for future in under_way)
    assert path.read_bytes() == RANDOM[: most * MIB]


def test_should_it_end_in_between_what_begins_there_is_whole(path, unhurried, monkeypatch):
    """A killed process left blocks of which the first bytes were there, and not the last: damaged, and not absent."""
    seen = []

    def see(file, data, offset, real=os.pwrite):
        done = real(file, data, offset)
        seen.append(path.read_bytes())
        return done

    monkeypatch.setattr(os, "pwrite", see)
    offset, size = 10, 60_001
    assert written(path, offset, RANDOM)
    assert len(seen) == 5
    for content in seen:
        for begin in range(0, len(RANDOM), size):
            block = content[offset + begin : offset + begin + size]
            assert not any(block[:HOLE_BYTES]) or block == RANDOM[begin : begin + size]


def test_several_writes_open_the_file_once_and_close_it(path, unhurried, monkeypatch):
    opened, closed = [], []

    def spy_open(name, flags, *mode, real=os.open):
        opened.append(real(name, flags, *mode))
        return opened[-1]

    def spy_close(number, real=os.close):
        closed.append(number)
        real(number)

    with open(path, "r+b") as file:
        monkeypatch.setattr(os, "open", spy_open)
        monkeypatch.setattr(os, "close", spy_close)
        with WritesPastMemory(path, file.fileno()) as past_memory:
            assert not past_memory.write(0, RANDOM[:10])
            assert not opened, "before it is needed"
            for begin in range(0, len(RANDOM), MIB):
                assert past_memory.write(begin, RANDOM[begin : begin + MIB])
    assert len(opened) == 1
    assert closed == opened
    assert path.read_bytes() == RANDOM


def test_an_evicted_file_is_left_alone(path, unfit, tmp_path):
    with open(path, "r+b") as file:
        path.unlink()
        with WritesPastMemory(path, file.fileno()) as past_memory:
            assert not past_memory.write(0, RANDOM)
        path.write_bytes(b"another one")
        with WritesPastMemory(path, file.fileno()) as past_memory:
            assert not past_memory.write(0, RANDOM)
    assert path.read_bytes() == b"another one"
    assert not unfit
    assert written(path, 0, RANDOM)


def test_without_memory_for_pieces_it_goes_the_usual_way_and_later_again(path, unhurried, monkeypatch):
    direct_writes._pieces._renew()

    def no_memory(*_, **__):
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr("mmap.mmap", no_memory)
        assert not any(written(path, 0, RANDOM) for _ in range(2 * direct_writes._AT_ONCE))
    assert written(path, 0, RANDOM)
