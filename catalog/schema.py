"""Column schemas: what values a column takes, and their canonical payloads (pure).

Refuses what does not fit before anything is written, with both sides in the message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.backends.values import (
    BYTES_PREFIX,
    STR_PREFIX,
    SampleValue,
    array_prefix,
    decode_text,
    encode_text,
)
from hangar_cloud.catalog.errors import InvalidSampleError, InvalidSchemaError

MAX_RANK: Final = 31
_KINDS: Final = "biufc"
# Looked at before numpy is asked, which reads much more than this out of a text.
_DTYPE: Final = re.compile(r"[|<>][biufc][0-9]{1,2}", re.ASCII)
_MAX_DIMENSION: Final = 2**48
_MAX_SAMPLE_BYTES: Final = 2**40


class Payload(NamedTuple):
    """A value's canonical bytes: what they mean, the bytes, and the shape where it varies."""

    prefix: bytes
    data: bytes
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class ColumnSchema:
    """What a column holds.

    Attributes:
        column_type: "ndarray", "str" or "bytes".
        column_layout: "flat" or "nested".
        schema_type: "fixed_shape" or "variable_shape" (always the latter for str and bytes).
        dtype: numpy dtype with its byte order (``<f4``), or None for str and bytes.
        shape: the shape, or the maximum of each dimension; None for str and bytes.
    """

    column_type: str
    column_layout: str = "flat"
    schema_type: str = "variable_shape"
    dtype: str | None = None
    shape: tuple[int, ...] | None = None

    @lazy_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The numpy dtype of an ndarray column."""
        assert self.dtype is not None
        return np.dtype(self.dtype)

    @lazy_property
    def fingerprint(self) -> bytes:
        """Bytes that tell the schema from others, quickly compared."""
        return repr((self.column_type, self.column_layout, self.schema_type, self.dtype, self.shape)).encode()

    @lazy_property
    def item_size(self) -> int:
        """Bytes of one element; 1 for str and bytes."""
        return self.numpy_dtype.itemsize if self.dtype is not None else 1

    @lazy_property
    def fixed_size(self) -> int | None:
        """Bytes of every payload where the shape is fixed, else None."""
        if self.schema_type != "fixed_shape" or self.shape is None:
            return None
        return int(np.prod(self.shape, dtype=np.int64)) * self.item_size

    def has_same_rows(self, other: ColumnSchema) -> bool:
        """True if equal values have equal rows under both schemas: they differ in the maximum of the shapes at most."""
        if "fixed_shape" in (self.schema_type, other.schema_type) or len(self.shape or ()) != len(other.shape or ()):
            return self == other
        return replace(self, shape=other.shape) == other

    def quick_data(self, value: Any) -> bytes | None:
        """A copy of the bytes of an array or text that fits at first sight; None leaves it to `encode`."""
        if type(value) is np.ndarray:
            # As in `fits`, which costs a call.
            fits = value.dtype is self._native_dtype and value.shape == self.shape and value.flags.c_contiguous
            return value.tobytes() if fits else None
        if type(value) is str and self.column_type == "str":
            return encode_text(value)
        return None

    def fits(self, value: Any) -> bool:
        """Whether an array or text fits at first sight; where not, `check` says why, or that it does."""
        if type(value) is np.ndarray:
            return value.dtype is self._native_dtype and value.shape == self.shape and value.flags.c_contiguous
        return type(value) is str and self.column_type == "str"

    @lazy_property
    def _native_dtype(self) -> np.dtype[Any] | None:
        """What numpy has one object of only, so that it can be told at first sight; None where shapes vary."""
        if self.column_type != "ndarray" or self.schema_type != "fixed_shape":
            return None
        return np.dtype(self.numpy_dtype.type) if self.numpy_dtype.isnative else None

    def encode(self, value: Any, where: str) -> Payload:
        """Check a value and return its canonical payload (a copy of its bytes).

        Args:
            value: an ndarray, str or bytes, as the column wants.
            where: column and key, for the message.

        Raises:
            InvalidSampleError: the value does not fit; says both sides and what would fix it.
        """
        self.check(value, where)
        if self.column_type == "ndarray":
            shape = None if self.schema_type == "fixed_shape" else value.shape
            return Payload(self.prefix(shape), value.tobytes(), shape)
        if self.column_type == "str":
            return Payload(STR_PREFIX, encode_text(value), None)
        return Payload(BYTES_PREFIX, value, None)

    def check(self, value: Any, where: str) -> None:
        """Refuse what `encode` refuses, as it does."""
        if self.column_type == "ndarray":
            self._check_array(value, where)
        elif self.column_type == "str":
            if not isinstance(value, str):
                raise InvalidSampleError(f"{where}: a str column takes str, not {type(value).__name__}")
        elif not isinstance(value, bytes):
            raise InvalidSampleError(
                f"{where}: a bytes column takes bytes, not {type(value).__name__}; convert with bytes(value)"
            )

    def decode(self, data: memoryview | bytes, shape: tuple[int, ...] | None) -> SampleValue:
        """The value of a payload; arrays are fresh, writable copies.

        Raises:
            CorruptDataError: the payload has not the length that dtype and shape ask for.
        """
        if self.column_type == "str":
            try:
                return decode_text(data)
            except UnicodeDecodeError as error:
                raise CorruptDataError(f"a str sample is not UTF-8: {error}") from error
        if self.column_type == "bytes":
            return bytes(data)
        wanted = self.shape if shape is None else shape
        try:
            return np.frombuffer(data, self.numpy_dtype).reshape(wanted or ()).copy()
        except ValueError as error:
            raise CorruptDataError(f"{len(data)} bytes do not make a {self.dtype} array of shape {wanted}") from error

    def prefix(self, shape: tuple[int, ...] | None) -> bytes:
        """The payload prefix of a value of this column; `shape` where it varies."""
        if self.column_type == "str":
            return STR_PREFIX
        if self.column_type == "bytes":
            return BYTES_PREFIX
        return self._fixed_prefix if shape is None else array_prefix(self.numpy_dtype, shape)

    def to_json(self) -> dict[str, Any]:
        """The canonical JSON form, as it stands in commits."""
        return {
            "column_layout": self.column_layout,
            "column_type": self.column_type,
            "dtype": self.dtype,
            "schema_type": self.schema_type,
            "shape": None if self.shape is None else list(self.shape),
        }

    @staticmethod
    def from_json(data: Any) -> ColumnSchema:
        """The inverse of `to_json`.

        Raises:
            CorruptDataError: it is not the JSON of a schema.
            UnsupportedFormatError: a dtype that this machine does not have.
        """
        try:
            shape = None if data["shape"] is None else tuple(int(n) for n in data["shape"])
            schema = ColumnSchema(
                str(data["column_type"]), str(data["column_layout"]), str(data["schema_type"]), data["dtype"], shape
            )
            known = schema.column_type in ("ndarray", "str", "bytes") and schema.column_layout in ("flat", "nested")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CorruptDataError(f"a column schema is not readable: {error!r}") from error
        if not known:
            raise UnsupportedFormatError(
                f"column type {schema.column_type!r} ({schema.column_layout}) is not known; upgrade hangar-cloud"
            )
        if schema.column_type == "ndarray":
            _check_recorded(schema)
        elif (schema.schema_type, schema.dtype, schema.shape) != ("variable_shape", None, None):
            raise CorruptDataError(f"a {schema.column_type} column has a schema that no such column has: {schema}")
        return schema

    @lazy_property
    def _fixed_prefix(self) -> bytes:
        return array_prefix(self.numpy_dtype, self.shape or ())

    def _check_array(self, value: Any, where: str) -> None:
        if isinstance(value, dict):
            what = "sample" if self.column_layout == "flat" else "subsample"
            raise InvalidSampleError(
                f"{where}: each {what} of this column is one numpy.ndarray, not a dict; a dict of subsamples is a "
                "sample of a column made with contains_subsamples=True"
            )
        if not isinstance(value, np.ndarray):
            raise InvalidSampleError(
                f"{where}: an ndarray column takes numpy.ndarray, not {type(value).__name__}; "
                f"convert with numpy.asarray(value, dtype={self.dtype!r})"
            )
        if isinstance(value, np.ma.MaskedArray):
            raise InvalidSampleError(
                f"{where}: a masked array would lose its mask; store value.filled(...), and the mask in a column "
                "of its own"
            )
        # Not compared by .byteorder: "<" and "=" are one order, and other libraries' arrays say "<".
        if value.dtype != self.numpy_dtype:
            raise InvalidSampleError(
                f"{where}: the sample has dtype {value.dtype.str!r} ({value.dtype.name}), the column holds "
                f"{self.dtype!r} ({self.numpy_dtype.name}); cast with value.astype({self.dtype!r})"
            )
        if value.shape != self.shape or self.schema_type != "fixed_shape":
            self._check_shape(value.shape, where)
        if not value.flags.c_contiguous:
            raise InvalidSampleError(
                f"{where}: the sample is not C-contiguous in memory; convert with numpy.ascontiguousarray(value)"
            )

    def _check_shape(self, shape: tuple[int, ...], where: str) -> None:
        assert self.shape is not None
        if len(shape) != len(self.shape):
            raise InvalidSampleError(
                f"{where}: the sample has {len(shape)} dimension(s), shape {shape}; the column has {len(self.shape)}, "
                f"shape {self.shape}"
            )
        if self.schema_type == "fixed_shape":
            raise InvalidSampleError(
                f"{where}: the sample has shape {shape}, every sample of the column has {self.shape}; a column made "
                "with variable_shape=True takes smaller ones"
            )
        if any(n > most for n, most in zip(shape, self.shape, strict=True)):
            raise InvalidSampleError(
                f"{where}: the sample has shape {shape}, more than the column's maximum {self.shape}"
            )
        if 0 in shape:
            raise InvalidSampleError(
                f"{where}: the sample has shape {shape} and so no elements; empty arrays are not stored, leave the "
                "key out"
            )


def array_schema(
    shape: Any, dtype: Any, prototype: Any, variable_shape: bool, contains_subsamples: bool, where: str
) -> ColumnSchema:
    """The schema of an ndarray column from the arguments of `add_ndarray_column`.

    Raises:
        InvalidSchemaError: arguments are missing or contradict each other, a dimension is zero, there
            are more than 31 dimensions, or the dtype is not bool, integer, float or complex.
    """
    if prototype is not None:
        if shape is not None or dtype is not None:
            raise InvalidSchemaError(f"{where}: give a prototype, or shape and dtype, not both")
        if not isinstance(prototype, np.ndarray):
            raise InvalidSchemaError(f"{where}: the prototype must be a numpy.ndarray, not {type(prototype).__name__}")
        shape, dtype = prototype.shape, prototype.dtype
    elif shape is None or dtype is None:
        raise InvalidSchemaError(f"{where}: give shape and dtype, or a prototype array")
    dimensions = _check_dimensions(shape, where)
    try:
        checked = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise InvalidSchemaError(f"{where}: {dtype!r} is not a numpy dtype") from error
    if checked.kind not in _KINDS:
        raise InvalidSchemaError(
            f"{where}: dtype {checked.str!r} cannot be stored; ndarray columns hold bool, integers, floats and complex "
            "numbers (use add_str_column or add_bytes_column for text and bytes)"
        )
    if int(np.prod(dimensions, dtype=object)) * checked.itemsize > _MAX_SAMPLE_BYTES:
        raise InvalidSchemaError(f"{where}: shape {dimensions} of {checked.str} is over a tebibyte a sample")
    layout = "nested" if contains_subsamples else "flat"
    return ColumnSchema(
        "ndarray", layout, "variable_shape" if variable_shape else "fixed_shape", checked.str, dimensions
    )


def _check_recorded(schema: ColumnSchema) -> None:
    """Refuse an ndarray schema that `array_schema` would not have made."""
    shape, dtype = schema.shape, schema.dtype
    if schema.schema_type not in ("fixed_shape", "variable_shape") or shape is None or not isinstance(dtype, str):
        raise CorruptDataError(f"a column schema is not readable: {schema}")
    if len(shape) > MAX_RANK or any(not 1 <= n <= _MAX_DIMENSION for n in shape):
        raise CorruptDataError(f"a column schema has the shape {str(shape)[:200]}, which no column has")
    try:
        known = bool(_DTYPE.fullmatch(dtype)) and np.dtype(dtype).str == dtype
    except (TypeError, ValueError):
        known = False
    if not known:
        raise UnsupportedFormatError(f"dtype {dtype[:80]!r} does not exist on this machine")
    if prod(shape) * np.dtype(dtype).itemsize > _MAX_SAMPLE_BYTES:
        raise CorruptDataError(f"a column schema has the shape {shape}, which is over a tebibyte a sample")


def _check_dimensions(shape: Any, where: str) -> tuple[int, ...]:
    items = (shape,) if isinstance(shape, (int, np.integer)) else shape
    try:
        dimensions = tuple(int(n) for n in items)
        exact = all(n == item for n, item in zip(dimensions, items, strict=True))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidSchemaError(f"{where}: shape {shape!r} is not a whole number or a tuple of them") from error
    if not exact:
        raise InvalidSchemaError(f"{where}: shape {shape!r} is not a whole number or a tuple of them")
    if any(n <= 0 or n > _MAX_DIMENSION for n in dimensions):
        raise InvalidSchemaError(f"{where}: shape {dimensions} has a dimension that is not at least 1")
    if len(dimensions) > MAX_RANK:
        raise InvalidSchemaError(f"{where}: {len(dimensions)} dimensions are too many, the most is {MAX_RANK}")
    return dimensions
