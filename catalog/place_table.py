"""Where the samples of one staging area lie, by digest, in columns: some 200 bytes a sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.blocks import Place

NUMBERS: Final = ("offset", "stored", "start", "size")
_PACK: Final = len(NUMBERS)
_FIRST_CAPACITY: Final = 1024


class Places(NamedTuple):
    """Places of rows: `packs[which[i]]` and the four numbers `numbers[:, i]` of row i.

    Attributes:
        packs: ids of packs; more than the rows name may be listed.
        which: int64, (rows,).
        numbers: int64, (4, rows): offset, stored, start and size.
    """

    packs: Sequence[bytes]
    which: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]

    def one(self, i: int) -> Place:
        """The place of row i."""
        return Place(self.packs[self.which[i]], *self.numbers[:, i].tolist())

    def all(self) -> Iterator[Place]:
        """The place of every row."""
        names = (self.packs[i] for i in self.which.tolist())
        return map(Place._make, zip(names, *self.numbers.tolist(), strict=True))

    def take(self, rows: Any) -> Places:
        """Those of some rows: a slice, or their numbers."""
        return Places(self.packs, self.which[rows], self.numbers[:, rows])

    def used(self) -> set[bytes]:
        """Ids of the packs that rows name."""
        return {self.packs[i] for i in np.unique(self.which).tolist()}

    def pack_bytes(self) -> npt.NDArray[Any]:
        """The pack id of every row, as 16 raw bytes (``V16``)."""
        return np.frombuffer(b"".join(self.packs), "V16")[self.which]

    @staticmethod
    def of(places: Sequence[Place]) -> Places:
        """The columns of a list of places."""
        numbers: dict[bytes, int] = {}
        which = [numbers.setdefault(place.pack, len(numbers)) for place in places]
        columns = np.array([place[1:] for place in places], np.int64).reshape(-1, len(NUMBERS)).T
        return Places([*numbers], np.array(which, np.int64), columns)

    @staticmethod
    def joined(parts: Sequence[Places]) -> Places:
        """The places of several batches, one behind the other."""
        packs: dict[bytes, int] = {}
        which = []
        for part in parts:
            renumbered = np.array([packs.setdefault(pack, len(packs)) for pack in part.packs], np.int64)
            which.append(renumbered[part.which])
        return Places([*packs], np.concatenate(which), np.concatenate([part.numbers for part in parts], axis=1))


class PlaceTable:
    """A growing mapping from digests to places."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all of them."""
        self._rows: dict[bytes, int] = {}
        self._packs: list[bytes] = []
        self._pack_numbers: dict[bytes, int] = {}
        self._table = np.empty((len(NUMBERS) + 1, _FIRST_CAPACITY), np.int64)
        self._end = 0

    def missing(self, datas: dict[bytes, Any]) -> dict[bytes, Any]:
        """Those of some things by digest that have no place; the same dict where none has."""
        rows = self._rows
        if rows.keys().isdisjoint(datas):
            return datas
        return {digest: data for digest, data in datas.items() if digest not in rows}

    def __setitem__(self, digest: bytes, place: Place) -> None:
        self.extend([digest], place.pack, np.array([place[1:]], np.int64).T)

    def extend(self, digests: Sequence[bytes], pack: bytes, numbers: npt.NDArray[np.int64]) -> None:
        """Add samples of one pack; `numbers` as in `Places`. Digests that are there get the new place."""
        end = self._end + len(digests)
        if end > self._table.shape[1]:
            grown = np.empty((self._table.shape[0], max(end, 2 * self._table.shape[1])), np.int64)
            grown[:, : self._end] = self._table[:, : self._end]
            self._table = grown
        self._table[:_PACK, self._end : end] = numbers
        self._table[_PACK, self._end : end] = self._number(pack)
        self._rows.update(zip(digests, range(self._end, end), strict=True))
        self._end = end

    def update(self, places: Iterable[tuple[bytes, Place]]) -> None:
        """Add samples of any packs."""
        by_pack: dict[bytes, list[tuple[bytes, Place]]] = {}
        for digest, place in places:
            by_pack.setdefault(place.pack, []).append((digest, place))
        for pack, some in by_pack.items():
            self.extend([digest for digest, _ in some], pack, np.array([place[1:] for _, place in some], np.int64).T)

    def discard(self, digests: Iterable[bytes]) -> None:
        """Forget some of them."""
        for digest in digests:
            self._rows.pop(digest, None)

    def forget_pack(self, pack: bytes) -> None:
        """Forget all of a pack."""
        number = self._pack_numbers.get(pack, -1)
        gone = self._table[_PACK] == number
        self._rows = {digest: row for digest, row in self._rows.items() if not gone[row]}

    def of(self, digests: Sequence[bytes]) -> Places:
        """The places of digests that are all there. Raises KeyError where one is not."""
        rows = np.fromiter(map(self._rows.__getitem__, digests), np.int64, len(digests))
        found = self._table[:, rows]
        return Places(list(self._packs), found[_PACK], found[:_PACK])

    def last(self, count: int) -> Places:
        """The places of those that were added last, in their order."""
        here = slice(self._end - count, self._end)
        return Places(list(self._packs), self._table[_PACK, here].copy(), self._table[:_PACK, here].copy())

    def _number(self, pack: bytes) -> int:
        if pack not in self._pack_numbers:
            self._pack_numbers[pack] = len(self._packs)
            self._packs.append(pack)
        return self._pack_numbers[pack]
