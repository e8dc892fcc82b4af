"""Memory of batches is used again once nobody has any of it, and never before."""

from __future__ import annotations

import gc
import mmap
import pickle
import threading
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from hangar_cloud.backends.reused_memory import ReusedMemory, fresh_memory
from hangar_cloud.backends.store import reception
from tests.forked import passes_forked

MIB = 1024 * 1024
SHAPE = (4, MIB)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_that_went_is_given_again():
    memory = ReusedMemory(16 * MIB)
    array = memory.empty(SHAPE, np.uint8)
    before = address(array)
    del array
    again = memory.empty((MIB,), np.float32)
    assert address(again) == before
    assert again.shape == (MIB,)
    assert again.dtype == np.float32
    assert again.flags.writeable


@pytest.mark.parametrize(
    "view",
    [
        lambda array: array[1:3],
        lambda array: array.reshape(-1)[5:].view(np.uint8)[::3],
        lambda array: array.T,
        memoryview,
        lambda array: np.ma.array(array[2]),
        iter,
        lambda array: np.asarray(memoryview(array[1:])),
    ],
    ids=["slice", "view of a view", "transposed", "memoryview", "subclass", "iterator", "of a buffer"],
)
def test_any_view_keeps_its_memory(view):
    memory = ReusedMemory(16 * MIB)
    array = memory.empty(SHAPE, np.uint8)
    before, kept = address(array), view(array)
    del array
    assert address(memory.empty(SHAPE, np.uint8)) != before
    del kept
    gc.collect()
    assert before in {address(a) for a in [memory.empty(SHAPE, np.uint8) for _ in range(2)]}


def test_a_tensor_keeps_its_memory():
    torch = pytest.importorskip("torch")
    memory = ReusedMemory(16 * MIB)
    array = memory.empty(SHAPE, np.uint8)
    before, tensor = address(array), torch.from_numpy(array[1:])[1:].view(torch.int8)
    del array
    assert address(memory.empty(SHAPE, np.uint8)) != before
    del tensor
    assert before in {address(a) for a in [memory.empty(SHAPE, np.uint8) for _ in range(2)]}


def test_free_memory_is_bounded():
    memory = ReusedMemory(9 * MIB)
    arrays = [memory.empty(SHAPE, np.uint8) for _ in range(5)]
    del arrays
    assert sum(map(len, memory._free)) == 8 * MIB
    one = memory.empty((16, MIB), np.uint8)
    del one
    assert sum(map(len, memory._free)) <= 9 * MIB


def test_more_free_memory_is_held_for_as_long_as_a_block_takes():
    memory = ReusedMemory(9 * MIB)
    with suppress(KeyError), memory.held_for(4 * MIB), memory.held_for(4 * MIB):
        arrays = [memory.empty(SHAPE, np.uint8) for _ in range(5)]
        del arrays
        assert sum(map(len, memory._free)) == 16 * MIB
        raise KeyError
    assert sum(map(len, memory._free)) == 8 * MIB


def test_a_forked_child_does_not_hold_what_its_parent_was_amid_of():
    held = reception.held_for(MIB)
    with held:
        assert reception._memory._more == [MIB]
        assert passes_forked(lambda: reception._memory._more == [])
        assert passes_forked(lambda: not held.__exit__(None, None, None))
    assert reception._memory._more == []


def test_neither_small_nor_much_smaller_arrays_nor_objects_take_a_piece():
    memory = ReusedMemory(64 * MIB)
    large = memory.empty((16, MIB), np.uint8)
    del large
    small = memory.empty((100,), np.uint8)
    third = memory.empty((3, MIB), np.uint8)
    objects = memory.empty((16 * MIB // 8,), object)
    assert sum(map(len, memory._free)) == 16 * MIB
    assert objects[0] is None
    assert small.nbytes + third.nbytes == 3 * MIB + 100


def test_an_empty_batch_and_a_scalar_are_fine():
    memory = ReusedMemory(MIB)
    assert memory.empty((0, 5), np.float32).shape == (0, 5)
    assert memory.empty((), np.float32).shape == ()


def test_threads_never_share_memory():
    memory = ReusedMemory(64 * MIB)
    wrong = []

    def work(number: int) -> None:
        for _ in range(200):
            array = memory.empty((MIB,), np.uint8)
            array[::4096] = number
            half = array[: MIB // 2]
            del array
            wrong.extend([number] * bool((half[::4096] != number).any()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Changing(deque[Any]):
    """Changes once while it is gone through, as where the collector begins just then and brings further memory."""

    changed = False

    def __iter__(self):
        if not self.changed:
            self.changed = True
            raise RuntimeError("deque mutated during iteration")
        return super().__iter__()


def test_memory_that_comes_back_while_another_is_counted_is_bounded(monkeypatch):
    memory, told = ReusedMemory(5 * MIB), []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    memory._free = Changing()
    arrays = [memory.empty(SHAPE, np.uint8) for _ in range(3)]
    del arrays
    assert told == []
    assert memory._free.changed
    assert sum(map(len, memory._free)) <= 5 * MIB


@pytest.mark.parametrize("nbytes", [MIB, 4 * MIB, 4 * MIB + 1, 64 * MIB])
def test_fresh_memory_can_be_written_and_is_not_shared_with_a_forked_child(nbytes):
    memory = fresh_memory(nbytes)
    assert memory.shape == (nbytes,)
    memory[:] = 1

    def write() -> bool:
        memory[:] = 2
        return bool((memory == 2).all())

    assert passes_forked(write)
    assert (memory == 1).all()


@pytest.mark.parametrize("refused", [OSError("no more maps"), None])
def test_memory_is_had_where_the_system_gives_no_maps(monkeypatch, refused):
    def refuse(*_told, **_named):
        raise refused

    if refused is None:
        monkeypatch.delattr(mmap, "MAP_PRIVATE", raising=False)
    else:
        monkeypatch.setattr(mmap, "mmap", refuse)
    assert fresh_memory(5 * MIB).flags.writeable


def test_another_process_begins_without_free_memory():
    memory = ReusedMemory(64 * MIB)
    array = memory.empty(SHAPE, np.uint8)
    del array
    copy = pickle.loads(pickle.dumps(memory))
    assert not copy._free
    assert copy.empty(SHAPE, np.uint8).shape == SHAPE
