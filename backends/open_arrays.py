"""Arrays of which boxes are being read: sparse copies in a temporary folder, filled tile by tile, under a bound.

TileDB reads files, and tiles lie in the midst of packs. So the few tiles of a box are put where TileDB looks for them,
and stay there, with the array open, for the next box.
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hangar_cloud.backends.array_folders import new_folder, remove_folder, told_of_folders
from hangar_cloud.backends.array_format import ArrayHead
from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.tiledb_arrays import Elements, OpenArray, lay_out

MOST_BYTES: Final = 256 * 1024 * 1024
MOST_ARRAYS: Final = 32

Name = tuple[bytes, int]
"""Pack and offset of an array extent."""


class SparseArray:
    """One array, some of whose tiles are here.

    Args:
        head: of its extent.

    Raises:
        StoreError: there is no room.
        CorruptDataError: TileDB cannot open it.
    """

    def __init__(self, head: ArrayHead) -> None:
        self.head = head
        self._lock = ForkLock()
        self.users = 0
        self.tiles: set[int] = set()
        self.nbytes = len(head.files.fragment) + len(head.files.schema)
        with told_of_folders():
            folder = new_folder()
        try:
            with told_of_folders():
                self._file = lay_out(folder, head)
            self._array = OpenArray(folder, head)
        except BaseException:
            remove_folder(folder)
            raise
        self._remove = weakref.finalize(self, _remove_own, folder, os.getpid())

    def put(self, tiles: Mapping[int, bytes | memoryview]) -> None:
        """Take in tiles, whose bytes were verified, by number. Raises StoreError if there is no room."""
        with told_of_folders(), self._lock.lock, self._file.open("r+b") as file:
            for number, data in tiles.items():
                file.seek(self.head.span(number)[0])
                file.write(data)
            file.flush()
            self.nbytes += sum(len(data) for number, data in tiles.items() if number not in self.tiles)
            self.tiles |= tiles.keys()

    def read(self, sample: int, lows: Sequence[int], highs: Sequence[int]) -> Elements:
        """A box of a sample by its number, all of whose tiles are here. The shape is as `OpenArray.read` has it."""
        with self._lock.lock:
            box: Elements = self._array.read(lows, highs, slice(sample, sample + 1))[0]
            return box

    def close(self) -> None:
        """Close the array and remove the copy."""
        self._array.close()
        self._remove()


class OpenArrays:
    """The arrays that were read last. Safe to use from many threads, and after a fork."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[Name, SparseArray] = OrderedDict()
        self._lock = ForkLock()
        self._process = os.getpid()
        self._of_parents: list[object] = []

    @contextmanager
    def use(self, name: Name, make: Callable[[], ArrayHead | None]) -> Iterator[SparseArray | None]:
        """An array, kept open as long as the block runs.

        Args:
            name: of its extent.
            make: gives its head if it is not open; None if it is to be left alone, which is then yielded.
        """
        array = self._take(name)
        if array is None:
            head = make()
            array = None if head is None else self._add(name, head)
        try:
            yield array
        finally:
            if array is not None:
                self._give_back(array)

    def forget(self) -> None:
        """Close those that are not in use."""
        with self._lock.lock:
            self._leave_parents()
            self._drop(0, 0)

    def _take(self, name: Name) -> SparseArray | None:
        with self._lock.lock:
            self._leave_parents()
            array = self._arrays.get(name)
            if array is not None:
                self._arrays.move_to_end(name)
                array.users += 1
            return array

    def _add(self, name: Name, head: ArrayHead) -> SparseArray:
        made = SparseArray(head)
        with self._lock.lock:
            array = self._arrays.setdefault(name, made)
            array.users += 1
        if array is not made:
            made.close()
        return array

    def _give_back(self, array: SparseArray) -> None:
        with self._lock.lock:
            array.users -= 1
            self._drop(MOST_ARRAYS, MOST_BYTES)

    def _drop(self, arrays: int, nbytes: int) -> None:
        total = sum(array.nbytes for array in self._arrays.values())
        for name, array in list(self._arrays.items()):
            if len(self._arrays) <= arrays and total <= nbytes:
                return
            if array.users == 0:
                del self._arrays[name]
                total -= array.nbytes
                array.close()

    def _leave_parents(self) -> None:
        """What a parent process opened cannot be used, nor closed, in a child that was forked."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._of_parents += self._arrays.values()
            self._arrays.clear()


def _remove_own(folder: Path, process: int) -> None:
    if process == os.getpid():
        remove_folder(folder)
