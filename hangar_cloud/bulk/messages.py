"""What the processes of a bulk import tell each other. No sample is among it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.packs import BlockExtent
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.records import Row
from hangar_cloud.storage import Storage


class Setup(NamedTuple):
    """To a worker, first of all.

    Attributes:
        storage: of the repository; its credentials travel in memory only.
        columns: those that may be written to.
        late: names of those whose samples the calling process writes in the end, since workers cannot.
        udf: the function, pickled by cloudpickle.
        folder: where this worker writes.
        first_pack, pack_step: numbers that this worker gives its packs.
        upload: send packs to the bucket as they are finished.
    """

    storage: Storage
    columns: dict[str, ColumnEntry]
    late: frozenset[str]
    udf: bytes
    folder: Path
    first_pack: int
    pack_step: int
    upload: bool


class Item(NamedTuple):
    """One call of the function: its number in `udf_kwargs`, its pickled arguments, and whether to make it twice."""

    number: int
    kwargs: bytes
    twice: bool


class Ready(NamedTuple):
    """From a worker that wants items. The answer is a list of them, empty when there are no more."""


class Claim(NamedTuple):
    """From a worker: digests of samples that it would store. The answer: the list of those that another one stores."""

    digests: list[bytes]


class Rows(NamedTuple):
    """From a worker: rows of a column, and for each the number of the item that it came from."""

    column: str
    rows: list[tuple[RowKey, Row]]
    items: list[int]


class Done(NamedTuple):
    """From a worker: how many more items it has done."""

    items: int


class Packs(NamedTuple):
    """From a worker, last of all: what it wrote.

    Attributes:
        extents: of every pack, by number.
        sealed: ids of the finished packs, by number.
        spares: places of copies of samples whose rows name packs that were there before.
    """

    extents: dict[int, list[BlockExtent]]
    sealed: dict[int, bytes]
    spares: dict[bytes, Place]


class Failed(NamedTuple):
    """From a worker: why the whole import has to end."""

    kind: type[HangarError]
    message: str
    item: int | None
    trace: str
