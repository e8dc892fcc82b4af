"""What one worker of a bulk import wrote: packs in a folder of its own, and where in them everything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.pack_writer import PackWriter
from hangar_cloud.backends.packs import PACK_BYTES, BlockExtent, staged_pack, staged_pack_number
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.records import Row


class ScratchLog:
    """A `SampleLog` in memory: if the process dies, everything that it wrote is given up anyway.

    Args:
        folder: where packs are written.
        first, step: the numbers that the staging area will know the packs by: first, first + step, and so on.
    """

    def __init__(self, folder: Path, first: int, step: int) -> None:
        self._folder = folder
        self._first = first
        self._step = step
        self._extents: dict[int, list[BlockExtent]] = {}
        self._sealed: dict[int, bytes] = {}
        self._spares: dict[bytes, Place] = {}
        self._spare_packs: set[int] = set()

    def stage_samples(
        self,
        name: str,
        rows: Sequence[tuple[RowKey, Row | None]],
        extents: dict[int, list[BlockExtent]],
        spares: Mapping[bytes, Place] = MappingProxyType({}),
    ) -> None:
        """Take note of extents and spare copies; the rows are sent on by the worker."""
        for pack, added in extents.items():
            self._extents.setdefault(pack, []).extend(added)
        self._spares |= spares
        self._spare_packs |= {
            number for place in spares.values() if (number := staged_pack_number(place.pack)) is not None
        }

    def extents(self) -> dict[int, list[BlockExtent]]:
        """The extents of every pack."""
        return self._extents

    def sealed(self) -> dict[int, bytes]:
        """Ids of the finished packs."""
        return dict(self._sealed)

    def spare_packs(self) -> set[int]:
        """Packs that hold nothing but spare copies."""
        return self._spare_packs

    def record_sealed(self, pack: int, name: bytes) -> None:
        """Take note that a pack is finished."""
        self._sealed[pack] = name

    def pack_file(self, pack: int) -> Path:
        """The file of a pack."""
        return self._folder / f"{self.number(pack)}.pack"

    def seal_full(self) -> dict[int, bytes]:
        """Finish the packs that nothing more is appended to; ids by number."""
        fresh = {}
        for pack, extents in self._extents.items():
            end = extents[-1].offset + extents[-1].stored
            if end >= PACK_BYTES and pack not in self._sealed and pack not in self._spare_packs:
                fresh[pack] = self._sealed[pack] = PackWriter(self.pack_file(pack), extents).seal()
        return fresh

    def number(self, pack: int) -> int:
        """What the staging area will know a pack by."""
        return self._first + pack * self._step

    def place(self, place: Place) -> Place:
        """A place in one of these packs, as the staging area will know it; another place as it is."""
        pack = staged_pack_number(place.pack)
        return (
            place if pack is None or pack not in self._extents else place._replace(pack=staged_pack(self.number(pack)))
        )

    def spares(self) -> dict[bytes, Place]:
        """Places of spare copies, as the staging area will know them."""
        return {digest: self.place(place) for digest, place in self._spares.items()}
