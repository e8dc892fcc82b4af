"""Parts of objects, and the checks that turn their bytes into what is wanted (no I/O)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hangar_cloud.backends.errors import CorruptDataError

T = TypeVar("T")
Verify = Callable[[memoryview, bool], T]


@dataclass(frozen=True)
class Extent(Generic[T]):
    """A part of an object, and the check that turns its bytes into what the caller wants.

    `verify(data, fetched)` returns the wanted value or raises `CorruptDataError`; `fetched` says
    that the bytes came from a remote and are about to be kept.

    `rewritten` does so for bytes that a purge put in the place of these; their own checksum was verified. None if
    `verify` does for them too.

    `once` says that what is wanted is made of the bytes, and they are not needed after that: then no map of the file is
    kept for them, whose pages would count as this process's memory as long as it lives.
    """

    path: str
    offset: int
    length: int
    verify: Verify[T]
    rewritten: Verify[T] | None = None
    once: bool = False


def verified(extent: Extent[T], data: memoryview, *, fetched: bool, rewritten: bool = False) -> T:
    """What an extent's check makes of its bytes.

    Args:
        extent: what was asked for.
        data: the bytes.
        fetched: whether they came from a remote.
        rewritten: whether other bytes stand in for them, of another length perhaps.

    Raises:
        CorruptDataError: they fail it; says which extent.
    """
    try:
        if rewritten:
            return (extent.rewritten or extent.verify)(data, fetched)
        if len(data) != extent.length:
            raise CorruptDataError(f"only {len(data)} of {extent.length} bytes are there")
        return extent.verify(data, fetched)
    except CorruptDataError as error:
        raise CorruptDataError(
            f"{extent.path}, bytes {extent.offset} to {extent.offset + extent.length}: {error}"
        ) from error
