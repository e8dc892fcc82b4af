"""What a `SampleWriter` needs of the place where the rows that it makes are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.packs import BlockExtent
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.records import Row


class SampleLog(Protocol):
    """A `StagingArea`, or what stands in for one in a process that does not hold the writer lock."""

    def stage_samples(
        self,
        name: str,
        rows: Sequence[tuple[RowKey, Row | None]],
        extents: dict[int, list[BlockExtent]],
        spares: Mapping[bytes, Place] = MappingProxyType({}),
    ) -> None:
        """Record samples of a column, and where in the staging packs their bytes are."""

    def extents(self) -> dict[int, list[BlockExtent]]:
        """The recorded extents of every staging pack, by its number."""

    def sealed(self) -> dict[int, bytes]:
        """Ids of the staging packs that were sealed, by number."""

    def spare_packs(self) -> set[int]:
        """Numbers of the staging packs that hold nothing but spare copies."""

    def record_sealed(self, pack: int, name: bytes) -> None:
        """Record that a staging pack is finished and what its id is."""

    def pack_file(self, pack: int) -> Path:
        """The file of a staging pack."""
