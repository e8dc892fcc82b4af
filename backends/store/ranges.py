"""Joining near byte ranges of one object into fewer requests. Pure: no store, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT_JOIN_GAP = 64 * 1024
"""Bytes between two ranges that we rather read than pay a second request for."""

DEFAULT_MAX_JOINED = 4 * 1024 * 1024
"""Bytes above which ranges are not joined any further: some requests at once bring more than one long one."""

MOST_TOGETHER = 10 * 1024 * 1024
"""The same for ranges that are wanted together: other requests are under way beside theirs."""

RangeRequest = tuple[str, int, int]
"""An object's path, the offset of its first wanted byte, and how many bytes are wanted."""


@dataclass(frozen=True, slots=True)
class JoinedRange:
    """One request to send, and which of the asked-for ranges it answers."""

    path: str
    offset: int
    length: int
    parts: tuple[tuple[int, int, int], ...]
    """(index of the asked-for range, its start within this request, its length) each."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of the asked-for ranges where they follow each other and are all of this request, else its own."""
        end = 0
        for _, start, length in self.parts:
            if start != end:
                return (self.length,)
            end += length
        return tuple(length for _, _, length in self.parts) if end == self.length else (self.length,)

    def slices(self, data: bytes) -> Iterable[tuple[int, bytes]]:
        """Yield (index of the asked-for range, its bytes) from the ``length`` bytes of this request's answer."""
        for index, start, length in self.parts:
            whole = start == 0 and length == len(data)
            yield index, data if whole else data[start : start + length]

    def views(self, pieces: Sequence[bytes | memoryview]) -> Iterable[tuple[int, bytes | memoryview]]:
        """As `slices`, of an answer in pieces of these `lengths` or in one.

        Not copied where most of it is wanted: a view keeps all of its piece in memory.
        """
        if len(pieces) > 1:
            yield from zip((index for index, _, _ in self.parts), pieces, strict=True)
            return
        data = pieces[0]
        view = memoryview(data)
        few = sum(length for _, _, length in self.parts) * 2 < len(data)
        for index, start, length in self.parts:
            part = view[start : start + length]
            yield index, data if length == len(data) else bytes(part) if few else part


def check_range(path: str, offset: int, length: int) -> None:
    """Raise ValueError unless ``offset`` and ``length`` (bytes) are both at least 0."""
    if offset < 0 or length < 0:
        raise ValueError(f"offset and length must not be negative, got {offset} and {length} for {path!r}")


def join_ranges(
    requests: Sequence[RangeRequest],
    *,
    join_gap: int = DEFAULT_JOIN_GAP,
    max_joined: int = DEFAULT_MAX_JOINED,
) -> list[JoinedRange]:
    """Plan the fewest requests for ``requests``, joining ranges of one object at most ``join_gap`` bytes apart.

    A joined request never exceeds ``max_joined`` bytes, except that a single range longer than that stays
    one. Empty ranges need no request and are in no plan. Raises ValueError for negative numbers.
    """
    for path, offset, length in requests:
        check_range(path, offset, length)
    order = sorted((i for i, request in enumerate(requests) if request[2]), key=lambda i: requests[i])
    joined: list[JoinedRange] = []
    group: list[int] = []
    end = 0
    for index in order:
        path, offset, length = requests[index]
        if group:
            first_path, first_offset, _ = requests[group[0]]
            joined_length = max(end, offset + length) - first_offset
            near = path == first_path and offset - end <= join_gap
            # A range inside what is read anyway costs nothing, however long that already is.
            if near and (joined_length <= max_joined or offset + length <= end):
                group.append(index)
                end = max(end, offset + length)
                continue
            joined.append(_joined(requests, group, end))
        group = [index]
        end = offset + length
    if group:
        joined.append(_joined(requests, group, end))
    return joined


def _joined(requests: Sequence[RangeRequest], group: Sequence[int], end: int) -> JoinedRange:
    path, start, _ = requests[group[0]]
    parts = tuple((index, requests[index][1] - start, requests[index][2]) for index in group)
    return JoinedRange(path, start, end - start, parts)
