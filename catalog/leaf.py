"""The rows of one leaf, decoded as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.backends.values import LITERAL_LIMIT, sample_identity
from hangar_cloud.catalog.arrow_columns import fixed_width, validity
from hangar_cloud.catalog.keys import KeyType, RowKey, encode_key
from hangar_cloud.catalog.records import LeafEntry, Row
from hangar_cloud.catalog.schema import ColumnSchema

if TYPE_CHECKING:
    import pyarrow as pa

# Digests of leaves count the bytes of a key in two bytes. Which keys may be is for integrity checks to say.
_MAX_READ_KEY: Final = 30_000


class Leaf:
    """The rows of one leaf, decoded as they are asked for.

    Args:
        table: the leaf's Parquet columns.
        schema: of the column that the leaf belongs to.
    """

    def __init__(self, table: pa.Table, schema: ColumnSchema) -> None:
        self._table = table
        self._schema = schema
        self._names = set(table.column_names)
        self.keys = self._read_keys()

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def positions(self) -> dict[RowKey, int]:
        """The number of each key's row."""
        return {key: i for i, key in enumerate(self.keys)}

    def find(self, key: RowKey) -> Row | None:
        """The row of a key, or None."""
        position = self.positions.get(key)
        return None if position is None else self.row(position)

    def row(self, i: int) -> Row:
        """Row number `i` in key order."""
        shape = tuple(dimension[i] for dimension in self.shapes) if self.shapes else None
        value = self.values[i] if self.values is not None else None
        if value is not None:
            prefix = self._schema.prefix(shape)
            return Row(sample_identity(prefix, value, shape), None, value, shape)
        packed = self.packed
        if packed is None or packed[2][i] < 0:
            raise CorruptDataError(f"the record of sample {self.keys[i]!r} has neither a value nor a place")
        digests, packs, offsets, stored, starts, sizes = packed
        place = Place(packs[i * 16 : i * 16 + 16], offsets[i], stored[i], starts[i], sizes[i])
        return Row(b"\1" + digests[i * 32 : i * 32 + 32], place, None, shape)

    def entries(self) -> list[LeafEntry]:
        """All rows with their encoded keys, in key order."""
        return list(zip(self.encoded_keys, self.rows(), strict=True))

    def rows(self) -> list[Row]:
        """All rows, in key order; made several times faster than one by one where they are all alike."""
        packed, values = self.packed, self.values
        if not self.shapes and packed is None and values is not None and None not in values:
            return self._inline_rows([value for value in values if value is not None])
        if not self.shapes and packed is not None and values is None and min(packed[2], default=-1) >= 0:
            return self._packed_rows(*packed)
        return [self.row(i) for i in range(len(self))]

    def _inline_rows(self, values: list[bytes]) -> list[Row]:
        prefix = self._schema.prefix(None)
        identities = [b"\0" + v if len(v) <= LITERAL_LIMIT else sample_identity(prefix, v, None) for v in values]
        return [Row(identity, None, value, None) for identity, value in zip(identities, values, strict=True)]

    def _packed_rows(
        self, digests: bytes, packs: bytes, offsets: list[int], stored: list[int], starts: list[int], sizes: list[int]
    ) -> list[Row]:
        names = (packs[i : i + 16] for i in range(0, len(packs), 16))
        places = map(Place._make, zip(names, offsets, stored, starts, sizes, strict=True))
        identities = (b"\1" + digests[i : i + 32] for i in range(0, len(digests), 32))
        return [Row(identity, place, None, None) for identity, place in zip(identities, places, strict=True)]

    def packs(self) -> set[bytes]:
        """Ids of the packs that the leaf's rows refer to."""
        if "pack" not in self._names:
            return set()
        named = self._table.column("pack").unique().to_pylist()
        return {bytes(pack) for pack in named if pack not in (None, NO_PACK)}

    def extents(self) -> Iterator[tuple[bytes, int, int, bytes]]:
        """Pack, offset, length, and digest of one of its samples, of each extent that the rows refer to, each once."""
        for pack, offset, stored, row in self.blocks:
            assert self.packed is not None
            yield pack, offset, stored, self.packed[0][row * 32 : row * 32 + 32]

    @cached_property
    def blocks(self) -> list[tuple[bytes, int, int, int]]:
        """Pack, offset, length, and the first of its rows, of each extent that the rows refer to, each once."""
        if self.packed is None:
            return []
        _, packs, offsets, stored, _, _ = self.packed
        found: dict[tuple[bytes, int], tuple[bytes, int, int, int]] = {}
        last = -1
        for row, offset in enumerate(offsets):
            pack = packs[row * 16 : row * 16 + 16]
            if offset >= 0 and pack != NO_PACK and (offset != last or (pack, offset) not in found):
                found.setdefault((pack, offset), (pack, offset, stored[row], row))
            last = offset
        return list(found.values())

    def block_around(self, row: int) -> tuple[int, int]:
        """The rows about a packed row, itself included, that lie in the same extent: the first, and the one behind."""
        assert self.packed is not None
        _, packs, offsets, _, _, _ = self.packed
        offset, low, high = offsets[row], row, row + 1
        while low and offsets[low - 1] == offset:
            low -= 1
        while high < len(offsets) and offsets[high] == offset:
            high += 1
        pack = packs[row * 16 : row * 16 + 16]
        alike = packs[low * 16 : high * 16] == pack * (high - low)
        return (low, high) if alike else (row, row + 1)

    @property
    def nbytes(self) -> int:
        """An estimate of the memory this leaf takes, in bytes."""
        return int(self._table.nbytes) + 120 * len(self.keys)

    @cached_property
    def encoded_keys(self) -> list[bytes]:
        """The keys in the form that orders them."""
        if self.keys and type(self.keys[0]) is type(self.keys[-1]) is int:  # numbers come before text
            data = np.array(self.keys, ">u8").tobytes()
            return [b"\1" + data[i : i + 8] for i in range(0, len(data), 8)]
        return [encode_key(key) for key in self.keys]

    def _read_keys(self) -> list[RowKey]:
        keys = self._read_part("key_int", "key_str")
        if self._schema.column_layout == "flat":
            return list(keys)
        return list(zip(keys, self._read_part("sub_int", "sub_str"), strict=True))

    def _read_part(self, number: str, text: str) -> list[KeyType]:
        numbers = self._int_keys(number)
        texts = self._str_keys(text)
        if numbers is None or texts is None:
            keys = texts if numbers is None else numbers
        else:
            keys = [text if number is None else number for number, text in zip(numbers, texts, strict=True)]
        if keys is None or None in keys:
            raise CorruptDataError("a leaf has rows without a key")
        return keys

    def _int_keys(self, name: str) -> list[Any] | None:
        if name not in self._names or self._table.column(name).null_count:
            return self._column(name)
        return self._numbers(name)

    def _str_keys(self, name: str) -> list[Any] | None:
        texts = self._column(name)
        if texts is not None and not "".join(filter(None, texts)).isascii():
            raise CorruptDataError("a leaf has a key that is not ASCII")
        if texts is not None and max(map(len, filter(None, texts)), default=0) > _MAX_READ_KEY:
            raise CorruptDataError(f"a leaf has a key of more than {_MAX_READ_KEY} characters")
        return texts

    def _column(self, name: str) -> list[Any] | None:
        return self._table.column(name).to_pylist() if name in self._names else None

    @cached_property
    def shapes(self) -> list[list[int]]:
        """Each dimension of the rows' shapes; none where the column fixes them."""
        rank = len(self._schema.shape or ()) if self._schema.schema_type == "variable_shape" else 0
        names = [f"shape_{i}" for i in range(rank)]
        if not self._names.issuperset(names):
            raise CorruptDataError("a leaf of a variable-shape column lacks its shapes")
        columns = [self._numbers(name) for name in names]
        if any(min(column) < 1 for column in columns if column):
            raise CorruptDataError("a leaf of a variable-shape column has a shape that no array has")
        return columns

    @cached_property
    def packed(self) -> tuple[bytes, bytes, list[int], list[int], list[int], list[int]] | None:
        """Digests, packs, offsets, stored lengths, starts and sizes, -1 where a row has none; None if none has any."""
        if not {"digest", "pack", "offset", "stored", "start", "size"} <= self._names:
            return None
        columns = [self._table.column(name) for name in ("digest", "pack", "offset", "stored", "start", "size")]
        if any(column.null_count != columns[0].null_count for column in columns) or (
            columns[0].null_count and any(column.is_null() != columns[0].is_null() for column in columns)
        ):
            raise CorruptDataError("a leaf has a sample with a part of a place only")
        return (
            self._fixed_bytes("digest", 32),
            self._fixed_bytes("pack", 16),
            self._numbers("offset"),
            self._numbers("stored"),
            self._numbers("start"),
            self._numbers("size"),
        )

    def _fixed_bytes(self, name: str, width: int) -> bytes:
        return fixed_width(self._table.column(name), f"V{width}").tobytes()

    def _numbers(self, name: str) -> list[int]:
        column = self._table.column(name)
        numbers = fixed_width(column, np.int64)
        if column.null_count:
            numbers = np.where(validity(column), numbers, -1)
        if np.count_nonzero(numbers < 0) != column.null_count:
            raise CorruptDataError(f"a leaf's column {name} holds a negative number")
        return list(numbers.tolist())

    @cached_property
    def values(self) -> list[bytes | None] | None:
        """The payloads that stand in the leaf, None where a row has none; None if no row has any."""
        if "value_bytes" in self._names:
            return self._column("value_bytes")
        if "value" not in self._names:
            return None
        column = self._table.column("value")
        if self._schema.column_type == "str":
            import pyarrow as pa

            return list(column.combine_chunks().view(pa.binary()).to_pylist())
        valid = validity(column).tolist() if column.null_count else None
        width = self._schema.item_size
        raw = self._numbers_in(column).tobytes()
        cut = [raw[i : i + width] for i in range(0, len(raw), width)]
        if valid is None:
            return [*cut]
        return [value if there else None for value, there in zip(cut, valid, strict=True)]

    @property
    def raw_values(self) -> npt.NDArray[np.uint8] | None:
        """The bytes of the values of all rows, one row each; None where they are not all of one length."""
        if "value" not in self._names or "value_bytes" in self._names or self._schema.column_type != "ndarray":
            return None
        return self._numbers_in(self._table.column("value")).view(np.uint8).reshape(len(self), -1)

    @property
    def is_inline(self) -> npt.NDArray[np.bool_]:
        """Of each row whether its value stands in the leaf."""
        for name in ("value_bytes", "value"):
            if name in self._names:
                return validity(self._table.column(name))
        return np.zeros(len(self), np.bool_)

    def _numbers_in(self, column: Any) -> npt.NDArray[Any]:
        numbers = fixed_width(column, self._schema.numpy_dtype)
        return np.where(validity(column), numbers, numbers.dtype.type(0)) if column.null_count else numbers
