"""Which bytes of which objects are alive: every extent that marked commits reach, where it really is."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from hangar_cloud.backends.blocks import check_blocks
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.marking import CommitReader, Marker
from hangar_cloud.catalog.records import NodeRef, records_path
from hangar_cloud.catalog.whereabouts import Whereabouts

_BOUND_BY_CHECKSUM: Final = 1
_WIDTH: Final = 4
_COMPACT_ABOVE: Final = 4096


class LiveExtent(NamedTuple):
    """Bytes of an object that are in use, and what they are checked against.

    `check` is the xxh3 of the bytes if `summed`, else the beginning of the digest of a sample in these blocks.
    """

    offset: int
    length: int
    check: int
    summed: bool

    def verify(self, data: bytes, path: str) -> None:
        """Raises CorruptDataError if these are not its bytes."""
        try:
            if len(data) != self.length:
                raise CorruptDataError(f"only {len(data)} of {self.length} bytes are there")
            if self.summed:
                if xxhash.xxh3_64_intdigest(data) != self.check:
                    raise CorruptDataError("they fail their checksum")
            else:
                check_blocks(data, self.check.to_bytes(8, "little"))
        except CorruptDataError as error:
            raise CorruptDataError(
                f"{path}, bytes {self.offset} to {self.offset + self.length}: {error}. Nothing was moved or deleted. "
                "Run verify_repo_integrity (`hangar verify`) to see what else is damaged, and repair it first"
            ) from error


class LiveExtents:
    """Extents by object, each once. Memory: 32 bytes an extent, and for a moment as much again."""

    def __init__(self) -> None:
        self._numbers: dict[str, array[int]] = {}
        self._compact_at: dict[str, int] = {}

    def add(self, path: str, extent: LiveExtent) -> None:
        """Note an extent of an object."""
        numbers = self._numbers.setdefault(path, array("Q"))
        numbers.extend((extent.offset, extent.length, extent.check, int(extent.summed)))
        if len(numbers) > self._compact_at.get(path, _COMPACT_ABOVE * _WIDTH):
            compact = array("Q", self._unique(path).tobytes())
            self._numbers[path] = compact
            self._compact_at[path] = max(2 * len(compact), _COMPACT_ABOVE * _WIDTH)

    def paths(self) -> list[str]:
        """Objects with live extents, in the order in which they were met."""
        return list(self._numbers)

    def total(self, path: str) -> tuple[int, int]:
        """Number of live extents of an object, and their bytes."""
        rows = self._unique(path)
        return len(rows), int(rows[:, 1].sum())

    def of(self, path: str) -> Iterator[LiveExtent]:
        """The live extents of an object, in order."""
        for offset, length, check, kind in self._unique(path).tolist():
            yield LiveExtent(offset, length, check, kind == _BOUND_BY_CHECKSUM)

    def overlap(self, path: str) -> bool:
        """Whether records contradict each other about an object, so that it is better left alone."""
        rows = self._unique(path)
        ends = rows[:, 0] + rows[:, 1]
        return bool((ends[:-1] > rows[1:, 0]).any())

    def _unique(self, path: str) -> npt.NDArray[np.uint64]:
        rows = np.frombuffer(self._numbers.get(path, array("Q")), np.uint64).reshape(-1, _WIDTH)
        _, first = np.unique(rows[:, :2], axis=0, return_index=True)
        return rows[first]


class LiveMarker(Marker):
    """A marker that also notes where every live extent is.

    Args:
        commits, source, whereabouts, **options: as of `Marker`.

    `live` are the extents met so far.
    """

    def __init__(self, commits: CommitReader, source: ObjectSource, whereabouts: Whereabouts, **options: Any) -> None:
        super().__init__(commits, source, whereabouts, **options)
        self.live = LiveExtents()

    def _take_node(self, ref: NodeRef) -> None:
        super()._take_node(ref)
        place = ref.place
        self._note(records_path(place.object), place.offset, place.length, place.checksum, True)

    def _take_leaf(self, leaf: Leaf) -> None:
        super()._take_leaf(leaf)
        for pack, offset, length, digest in leaf.extents():
            self._note(pack_path(pack), offset, length, int.from_bytes(digest[:8], "little"), False)

    def _note(self, path: str, offset: int, length: int, check: int, summed: bool) -> None:
        if self._whereabouts.moved(path):
            spot = self._whereabouts.spot(path, offset, length)
            if spot.path is None:
                return
            if spot.checksum is not None:
                check, summed = spot.checksum, True
            path, offset, length = spot.path, spot.offset, spot.length
        self.live.add(path, LiveExtent(offset, length, check, summed))
