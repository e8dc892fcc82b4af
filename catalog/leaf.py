"""The rows of one leaf, decoded as they are asked for."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.backends.values import sample_identities, sample_identity
from hangar_cloud.catalog.arrow_columns import fixed_width, validity, whole
from hangar_cloud.catalog.keys import KeyType, RowKey, encode_key
from hangar_cloud.catalog.records import LeafEntry, Row
from hangar_cloud.catalog.schema import ColumnSchema

if TYPE_CHECKING:
    import pyarrow as pa

# Digests of leaves count the bytes of a key in two bytes. Which keys may be is for integrity checks to say.
_MAX_READ_KEY: Final = 30_000
_FEW_ROWS: Final = 256
# What a row takes in a list of numbers, of bytes (beside these), in the dict, and in the lists of places.
_LIST_BYTES: Final = 40
_BYTES_BYTES: Final = 48
_DICT_BYTES: Final = 90
_PACKED_BYTES: Final = 210
_HEAD_BYTES: Final = 8
_TABLE_BYTES: Final = 4_000


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
        self._asked = 0
        self.grown: Callable[[int], None] | None = None
        """Told of the bytes, roughly, that rows take once they are kept as Python has them."""
        self.key_numbers = self._read_key_numbers()
        """The keys as int64 arrays (rows,): one in a flat column, two in a nested one; None if any is text."""
        if self.key_numbers is None:
            self.keys = self._read_keys()
            self.nbytes += 100 * len(self)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def table(self) -> pa.Table:
        """The columns as they are stored."""
        return self._table

    @lazy_property
    def keys(self) -> list[RowKey]:
        """The keys in order."""
        numbers = self.key_numbers or ()
        self._grow(_LIST_BYTES * len(numbers))
        parts = [part.tolist() for part in numbers]
        return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))

    @lazy_property
    def positions(self) -> dict[RowKey, int]:
        """The number of each key's row."""
        self._grow(_DICT_BYTES)
        return {key: i for i, key in enumerate(self.keys)}

    @property
    def first(self) -> bytes:
        """The encoded first key."""
        if self.key_numbers is None:
            return encode_key(self.keys[0])
        return b"".join(encode_key(int(part[0])) for part in self.key_numbers)

    @lazy_property
    def is_ascending(self) -> bool:
        """Whether the keys are numbers, each above the one before, as in intact leaves of flat columns without text."""
        numbers = self.key_numbers
        return numbers is not None and len(numbers) == 1 and bool((numbers[0][1:] > numbers[0][:-1]).all())

    def find(self, key: RowKey) -> Row | None:
        """The row of a key, or None."""
        position = self.position(key)
        return None if position is None else self.row(position)

    def position(self, key: RowKey) -> int | None:
        """The number of a key's row, or None."""
        # A search in the numbers costs more than a look into the dict, and far less than to make it.
        if type(key) is int and self.is_ascending and "positions" not in self.__dict__ and self._asks_little():
            assert self.key_numbers is not None
            numbers = self.key_numbers[0]
            i = int(numbers.searchsorted(key))
            return i if i < len(numbers) and numbers[i] == key else None
        return self.positions.get(key)

    def row(self, i: int) -> Row:
        """Row number `i` in key order."""
        shape = tuple(dimension[i] for dimension in self.shapes) if self.shapes else None
        value = self._value(i)
        if value is not None:
            prefix = self._schema.prefix(shape)
            return Row(sample_identity(prefix, value, shape), None, value, shape)
        place = self._place(i)
        if place is None:
            raise CorruptDataError(f"the record of sample {self.keys[i]!r} has neither a value nor a place")
        return Row(b"\1" + place[0], place[1], None, shape)

    def _value(self, i: int) -> bytes | None:
        if "values" not in self.__dict__ and self._asks_little():
            raw = self.raw_values
            if raw is not None:
                return raw[i].tobytes() if self.is_inline[i] else None
            name = next((name for name in ("value_bytes", "value") if name in self._names), None)
            if name is None:
                return None
            found = self._table.column(name)[i].as_buffer()
            return None if found is None else bytes(found)
        return None if self.values is None else self.values[i]

    def _place(self, i: int) -> tuple[bytes, Place] | None:
        """Digest and place of a packed row."""
        if "packed" not in self.__dict__ and self._asks_little():
            columns = self.places
            if columns is None or columns[2][i] < 0:
                return None
            offset, stored, start, size = (int(column[i]) for column in columns[2:])
            return columns[0][i].tobytes(), Place(columns[1][i].tobytes(), offset, stored, start, size)
        if self.packed is None or self.packed[2][i] < 0:
            return None
        digests, packs, offsets, stored_, starts, sizes = self.packed
        place = Place(packs[i * 16 : i * 16 + 16], offsets[i], stored_[i], starts[i], sizes[i])
        return digests[i * 32 : i * 32 + 32], place

    def _asks_little(self) -> bool:
        """Whether so few rows were asked for that it does not pay to make lists of all."""
        self._asked += 1
        return self._asked <= _FEW_ROWS

    def _grow(self, bytes_a_row: int) -> None:
        added = bytes_a_row * len(self)
        self.nbytes += added
        if self.grown is not None:
            self.grown(added)

    def entries(self) -> list[LeafEntry]:
        """All rows with their encoded keys, in key order."""
        return list(zip(self.encoded_keys, self.rows(), strict=True))

    def rows(self) -> list[Row]:
        """All rows, in key order; made several times faster than one by one where they are all alike."""
        packed, values = self.packed, self._all_values()
        if values is not None:
            return [Row(identity, None, value, None) for identity, value in zip(self.identities(), values, strict=True)]
        if not self.shapes and packed is not None and self.values is None and min(packed[2], default=-1) >= 0:
            return self._packed_rows(*packed)
        return [self.row(i) for i in range(len(self))]

    def identities(self) -> list[bytes]:
        """Of each row what history hashes, in key order. Raises CorruptDataError as `row`."""
        values = self._all_values()
        if values is not None:
            return sample_identities(self._schema.prefix(None), values)
        return [row.identity for row in self.rows()]

    def _all_values(self) -> list[bytes] | None:
        """The values of all rows, if each stands in the leaf and none has a shape."""
        values = None if self.shapes or self.packed is not None else self.values
        return None if values is None or None in values else values  # type: ignore[return-value]  # none of them is None

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
        import pyarrow as pa

        named = fixed_width(pa.chunked_array([self._table.column("pack").unique().drop_null()]), "V16").tobytes()
        return {named[i : i + 16] for i in range(0, len(named), 16)} - {NO_PACK}

    def extents(self) -> Iterator[tuple[bytes, int, int, bytes]]:
        """Pack, offset, length, and digest of one of its samples, of each extent that the rows refer to, each once."""
        packed = self.packed
        if packed is None:
            return
        digests, packs, offsets, stored, _, _ = packed
        seen: set[tuple[bytes, int]] = set()
        for i, (offset, length) in enumerate(zip(offsets, stored, strict=True)):
            pack = packs[i * 16 : i * 16 + 16]
            if offset >= 0 and pack != NO_PACK and (pack, offset) not in seen:
                seen.add((pack, offset))
                yield pack, offset, length, digests[i * 32 : i * 32 + 32]

    @lazy_property
    def nbytes(self) -> int:
        """An estimate of the memory this leaf takes, in bytes; it grows with what is asked for."""
        return int(self._table.nbytes) + _TABLE_BYTES

    @lazy_property
    def encoded_keys(self) -> list[bytes]:
        """The keys in the form that orders them."""
        self._grow(_BYTES_BYTES)
        matrix = self.key_bytes
        if matrix is not None:
            data, width = matrix.tobytes(), matrix.shape[1]
            return [data[i : i + width] for i in range(0, len(data), width)]
        return [encode_key(key) for key in self.keys]

    @property
    def key_bytes(self) -> npt.NDArray[np.uint8] | None:
        """The encoded keys, one row each, uint8 (rows, 9 or 18); None if any is text."""
        if self.key_numbers is None:
            return None
        matrix = np.empty((len(self), 9 * len(self.key_numbers)), np.uint8)
        for i, part in enumerate(self.key_numbers):
            matrix[:, 9 * i] = 1
            matrix[:, 9 * i + 1 : 9 * i + 9] = part.astype(">i8").view(np.uint8).reshape(-1, 8)
        return matrix

    def _read_key_numbers(self) -> tuple[npt.NDArray[np.int64], ...] | None:
        names = ["key_int"] if self._schema.column_layout == "flat" else ["key_int", "sub_int"]
        texts = {"key_str", "sub_str"} if len(names) == 2 else {"key_str"}
        if not self._names.issuperset(names) or self._names & texts:
            return None
        if any(self._table.column(name).null_count for name in names):
            return None
        return tuple(self._number_array(name) for name in names)

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

    @lazy_property
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

    @lazy_property
    def places(self) -> tuple[npt.NDArray[Any], ...] | None:
        """Digests and packs, uint8 (rows, 32) and (rows, 16), offsets, stored lengths, starts and sizes, int64 (rows,).

        -1 where a row has none; None if none has any.
        """
        names = ("digest", "pack", "offset", "stored", "start", "size")
        if not self._names.issuperset(names):
            return None
        columns = [self._table.column(name) for name in names]
        if any(column.null_count != columns[0].null_count for column in columns) or (
            columns[0].null_count and any(column.is_null() != columns[0].is_null() for column in columns)
        ):
            raise CorruptDataError("a leaf has a sample with a part of a place only")
        digests = fixed_width(columns[0], "V32").view(np.uint8).reshape(-1, 32)
        packs = fixed_width(columns[1], "V16").view(np.uint8).reshape(-1, 16)
        return digests, packs, *(self._number_array(name) for name in names[2:])

    @lazy_property
    def extent_heads(self) -> array[int]:
        """The first of the rows, one behind the other, that lie in one extent (or in none), for each; and the number of
        rows. Empty where none has a place.
        """
        places = self.places
        if places is None:
            return array("q")
        self._grow(_HEAD_BYTES)
        _, packs, offsets, *_ = places
        differ = (offsets[1:] != offsets[:-1]) | (packs[1:] != packs[:-1]).any(axis=1)
        return array("q", [0, *(np.flatnonzero(differ) + 1).tolist(), len(offsets)])

    @lazy_property
    def packed(self) -> tuple[bytes, bytes, list[int], list[int], list[int], list[int]] | None:
        """The same as bytes and lists: each number as Python has it, digests and packs one behind the other."""
        if self.places is None:
            return None
        self._grow(_PACKED_BYTES)
        digests, packs, *numbers = self.places
        offsets, stored, starts, sizes = (column.tolist() for column in numbers)
        return digests.tobytes(), packs.tobytes(), offsets, stored, starts, sizes

    def _numbers(self, name: str) -> list[int]:
        return list(self._number_array(name).tolist())

    def _number_array(self, name: str) -> npt.NDArray[np.int64]:
        column = self._table.column(name)
        numbers: npt.NDArray[np.int64] = fixed_width(column, np.int64)
        if column.null_count:
            numbers = np.where(validity(column), numbers, -1)
        if np.count_nonzero(numbers < 0) != column.null_count:
            raise CorruptDataError(f"a leaf's column {name} holds a negative number")
        return numbers

    @lazy_property
    def values(self) -> list[bytes | None] | None:
        """The payloads that stand in the leaf, None where a row has none; None if no row has any."""
        if {"value", "value_bytes"} & self._names:
            self._grow(_BYTES_BYTES)
        if "value_bytes" in self._names:
            return self._column("value_bytes")
        if "value" not in self._names:
            return None
        column = self._table.column("value")
        if self._schema.column_type == "str":
            import pyarrow as pa

            return list(whole(column).view(pa.binary()).to_pylist())
        valid = validity(column).tolist() if column.null_count else None
        width = self._schema.item_size
        raw = self._numbers_in(column).tobytes()
        cut = [raw[i : i + width] for i in range(0, len(raw), width)]
        if valid is None:
            return [*cut]
        return [value if there else None for value, there in zip(cut, valid, strict=True)]

    @lazy_property
    def raw_values(self) -> npt.NDArray[np.uint8] | None:
        """The bytes of the values of all rows, one row each; None where they are not all of one length."""
        if "value" not in self._names or "value_bytes" in self._names or self._schema.column_type != "ndarray":
            return None
        return self._numbers_in(self._table.column("value")).view(np.uint8).reshape(len(self), -1)

    @lazy_property
    def uniform(self) -> tuple[int, npt.NDArray[np.uint8]] | None:
        """Of rows that are all alike: 0 and their values, uint8 (rows, bytes), or 1 and their digests; else None."""
        kinds = {"value", "value_bytes", "pack"} & self._names
        if self.shapes or len(kinds) != 1 or self._table.column(kinds.copy().pop()).null_count:
            return None
        if kinds == {"value"} and self.raw_values is not None:
            return 0, self.raw_values
        return (1, self.places[0]) if kinds == {"pack"} and self.places is not None else None

    @lazy_property
    def is_inline(self) -> npt.NDArray[np.bool_]:
        """Of each row whether its value stands in the leaf."""
        for name in ("value_bytes", "value"):
            if name in self._names:
                return validity(self._table.column(name))
        return np.zeros(len(self), np.bool_)

    def _numbers_in(self, column: Any) -> npt.NDArray[Any]:
        numbers = fixed_width(column, self._schema.numpy_dtype)
        return np.where(validity(column), numbers, numbers.dtype.type(0)) if column.null_count else numbers
