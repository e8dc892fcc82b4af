"""Blocks that were fetched for samples which are read soon: each is given once, and they take bounded memory."""

from __future__ import annotations

import pickle

from hangar_cloud.brought_blocks import BroughtBlocks

NAMES = [(bytes([number]) * 16, number) for number in range(4)]


def blocks(size: int):
    return {name: memoryview(bytes([number]) * size) for number, name in enumerate(NAMES)}


def test_who_takes_a_block_has_it_alone():
    brought = BroughtBlocks(1000)
    brought.keep(blocks(100))
    assert brought.take(NAMES[:2]) == {name: blocks(100)[name] for name in NAMES[:2]}
    assert brought.take(NAMES) == {name: blocks(100)[name] for name in NAMES[2:]}
    assert brought.take(NAMES) == {}


def test_no_more_is_held_than_there_is_room_for_and_what_is_taken_makes_room():
    brought = BroughtBlocks(250)
    for name, raw in blocks(100).items():
        brought.keep({name: raw})
    assert list(brought.take(NAMES)) == NAMES[:2]
    for name, raw in blocks(100).items():
        brought.keep({name: raw})
    assert len(brought.take(NAMES)) == 2


def alike(size: int):
    memory = memoryview(bytes(size * len(NAMES)))
    return {name: memory[number * size : (number + 1) * size] for number, name in enumerate(NAMES)}


def test_what_lies_in_the_same_memory_counts_until_nobody_has_any_of_it():
    """All of the memory stays as long as one of its views does."""
    brought = BroughtBlocks(450)
    brought.keep(alike(100))
    assert brought.nbytes == 400
    with brought.promised(51) as fits:
        assert not fits
    with brought.promised(30) as fits, brought.promised(20) as others, brought.promised(1) as more:
        assert (fits, others, more) == (True, True, False)
    with brought.promised(50) as fits:
        assert fits
    assert len(brought.take(NAMES[:3])) == 3
    assert brought.nbytes == 400
    assert len(brought.take(NAMES)) == 1
    assert brought.nbytes == 0


def test_what_came_together_in_memory_of_its_own_counts_for_itself():
    brought = BroughtBlocks(700)
    own = dict(list(blocks(100).items())[:2])
    brought.keep({**own, **dict(list(alike(100).items())[2:])})
    assert brought.nbytes == 600, "what is not wanted is in memory too"
    assert len(brought.take(NAMES[:1])) == 1
    assert brought.nbytes == 500
    assert len(brought.take(NAMES[2:3])) == 1
    assert brought.nbytes == 500
    assert len(brought.take(NAMES)) == 2
    assert brought.nbytes == 0


def test_what_came_together_is_held_wholly_or_not():
    brought = BroughtBlocks(350)
    brought.keep(blocks(100))
    assert brought.take(NAMES) == {}


def test_nothing_is_held_once_nobody_is_going_to_read_it():
    brought = BroughtBlocks(400)
    brought.keep(blocks(100))
    brought.clear()
    assert brought.take(NAMES) == {}
    brought.keep(blocks(100))
    assert len(brought.take(NAMES)) == 4


def test_another_process_begins_without_any():
    brought = BroughtBlocks(400)
    brought.keep(blocks(100))
    copy = pickle.loads(pickle.dumps(brought))
    assert copy.take(NAMES) == {}
    copy.keep(blocks(100))
    assert len(copy.take(NAMES)) == 4
