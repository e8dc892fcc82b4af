"""How arrays are cut into tiles and filtered: the options `tile` and `filters` of backend `t0` (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final, NamedTuple

LEVELS: Final[dict[str, range | None]] = {
    "zstd": range(1, 23),
    "gzip": range(1, 10),
    "bzip2": range(1, 10),
    "lz4": None,
    "rle": None,
    "byteshuffle": None,
    "bitshuffle": None,
}
"""The filters that there are, and the levels that they take."""

TILE_BYTES: Final = 256 * 1024
_MAX_TILES: Final = 1 << 20
_MAX_TILE_BYTES: Final = 1 << 30

Filter = tuple[str, int | None]


class ArrayOptions(NamedTuple):
    """`tile` in elements, None to choose by the shape; `filters` in the order in which they encode, None to choose."""

    tile: tuple[int, ...] | None
    filters: tuple[Filter, ...] | None

    def as_json(self) -> dict[str, Any]:
        """In the form that column entries record."""
        found: dict[str, Any] = {}
        if self.tile is not None:
            found["tile"] = list(self.tile)
        if self.filters is not None:
            found["filters"] = [name if level is None else [name, level] for name, level in self.filters]
        return found

    def tile_of(self, shape: Sequence[int], width: int) -> tuple[int, ...]:
        """The tile for a sample of a shape, whose elements have `width` bytes. No larger than the sample."""
        if self.tile is None:
            return default_tile(shape, width)
        return tuple(min(tile, size) for tile, size in zip(self.tile, shape, strict=True))

    def filters_of(self, width: int) -> tuple[Filter, ...]:
        """The filters for elements of `width` bytes."""
        if self.filters is not None:
            return self.filters
        return (("byteshuffle", None), ("zstd", 1)) if width > 1 else (("zstd", 1),)


def default_tile(shape: Sequence[int], width: int) -> tuple[int, ...]:
    """A tile of 128 to 256 KiB with sides that are much alike, so that a box of any form touches few of them."""
    tile = list(shape)
    while prod(tile) * width > TILE_BYTES and max(tile) > 1:
        longest = tile.index(max(tile))
        tile[longest] = -(-tile[longest] // 2)
    # Of the same number of tiles, the ones that need least padding.
    return tuple(-(-size // -(-size // side)) for size, side in zip(shape, tile, strict=True))


def array_options(options: Mapping[str, Any], shape: Sequence[int] | None, width: int) -> ArrayOptions:
    """The options of a column whose samples have a shape, or at most that, and elements of `width` bytes.

    Raises:
        ValueError: an option or a value of it is not known, or does not fit the shape.
    """
    unknown = sorted(map(str, set(options) - {"tile", "filters"}))
    if unknown:
        raise ValueError(f"unknown backend option(s) {unknown}; columns of backend 't0' take 'tile' and 'filters'")
    if shape is None:
        raise ValueError("backend 't0' stores arrays; for text and bytes use 'p0' or 'i0'")
    tile, filters = options.get("tile"), options.get("filters")
    return ArrayOptions(
        None if tile is None else _tile(tile, shape, width), None if filters is None else _filters(filters)
    )


def _tile(tile: Any, shape: Sequence[int], width: int) -> tuple[int, ...]:
    sides = [tile] if _is_whole(tile) else list(tile) if isinstance(tile, (list, tuple)) else None
    if sides is None or not all(_is_whole(side) and side >= 1 for side in sides):
        raise ValueError(f"backend option tile={tile!r} must be whole numbers of at least 1, one for each dimension")
    if len(sides) != len(shape):
        raise ValueError(f"backend option tile={tile!r} has {len(sides)} dimension(s), and samples have {len(shape)}")
    count = prod(-(-size // side) for size, side in zip(shape, sides, strict=True))
    if count > _MAX_TILES:
        raise ValueError(
            f"backend option tile={tile!r} cuts a sample of shape {tuple(shape)} into {count:,} tiles, more than "
            f"{_MAX_TILES:,}; take a larger one, or leave it out"
        )
    size = prod(map(min, sides, shape)) * width
    if size > _MAX_TILE_BYTES:
        raise ValueError(f"backend option tile={tile!r} has {size:,} bytes; a tile has at most {_MAX_TILE_BYTES:,}")
    return tuple(sides)


def _filters(filters: Any) -> tuple[Filter, ...]:
    if not isinstance(filters, (list, tuple)):
        raise ValueError(f"backend option filters={filters!r} must be a list of names, as in ['byteshuffle', 'zstd']")
    return tuple(map(_filter, filters))


def _filter(given: Any) -> Filter:
    name, level = given if isinstance(given, (list, tuple)) and len(given) == 2 else (given, None)
    if not isinstance(name, str) or name not in LEVELS:
        raise ValueError(f"filter {given!r} is not one of {', '.join(LEVELS)}, or a pair of one and its level")
    levels = LEVELS[name]
    if level is not None and (levels is None or not _is_whole(level) or level not in levels):
        takes = "takes no level" if levels is None else f"takes a level from {levels[0]} to {levels[-1]}"
        raise ValueError(f"filter {name!r} {takes}, not {level!r}")
    return name, level


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
