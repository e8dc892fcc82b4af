"""Memory for answers lies as the file does, and is given again when nobody has any of it."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud.backends.reused_memory import ReusedMemory
from hangar_cloud.backends.store import reception
from hangar_cloud.backends.store.reception import PAGE, rooms_for

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    monkeypatch.setattr(reception, "_memory", ReusedMemory(16 * MIB))


def made(offset, *lengths):
    rooms = rooms_for(offset, lengths)
    assert rooms is not None
    return rooms


def address(view):
    return np.frombuffer(view, np.uint8).ctypes.data


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 123_456_789])
@pytest.mark.parametrize("length", [MIB, 2 * MIB + 17])
def test_pages_of_the_file_are_pages_of_memory(offset, length):
    (room,) = made(offset, length)
    assert len(room) == length
    assert (address(room) - offset) % PAGE == 0


@pytest.mark.parametrize("offset", [0, 1, 123_456_789])
def test_each_of_several_pieces_lies_as_its_part_of_the_file_does(offset):
    lengths = [MIB, MIB + 5, 2 * MIB]
    rooms = made(offset, *lengths)
    assert [len(room) for room in rooms] == lengths
    begins = [offset, offset + MIB, offset + 2 * MIB + 5]
    assert all((address(room) - begin) % PAGE == 0 for room, begin in zip(rooms, begins, strict=True))
    for number, room in enumerate(rooms):
        room[:] = bytes([number]) * len(room)
    assert all(set(room) == {number} for number, room in enumerate(rooms)), "they are apart"


def test_few_bytes_are_not_worth_it():
    assert rooms_for(0, [1000]) is None
    assert [len(room) for room in made(0, 2 * MIB, 1000)] == [2 * MIB, 1000]


def test_memory_is_given_again_when_no_part_of_it_is_held():
    (first,) = made(4096, 2 * MIB)
    part = first.toreadonly()[MIB : MIB + 10]
    where = address(first)
    del first
    (other,) = made(4096, 2 * MIB)
    assert abs(address(other) - where) >= 2 * MIB
    del part
    assert address(made(4096, 2 * MIB)[0]) == where
