"""A segment's table as Parquet bytes and back: how nodes are written, and what may be read (no I/O)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.catalog.errors import ObjectTooLargeError
from hangar_cloud.catalog.segment_cost import MAX_FOOTER_BYTES, MAX_FOOTER_ITEMS, check_cost

if TYPE_CHECKING:
    import pyarrow as pa

_CLEARLY_FEW_ROWS: Final = 16_384
_CLEARLY_FEW_BYTES: Final = 8 * 1024 * 1024
"""A node of so few rows and bytes is below every limit of its readers, and looking at its pages takes time."""
DELTA_COLUMNS: Final = ("key_int", "sub_int", "offset", "stored", "start", "size", "count", "length")


def write_segment(table: pa.Table) -> bytes:
    """The Parquet bytes of a node.

    Raises:
        ObjectTooLargeError: no reader would take it; keys must have been chosen so that no node ends.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    names = table.column_names
    delta = {name: "DELTA_BINARY_PACKED" for name in names if name in DELTA_COLUMNS}
    pq.write_table(
        table,
        sink,
        row_group_size=max(len(table), 1),
        compression={name: "NONE" if name in ("digest", "checksum") else "ZSTD" for name in names},
        compression_level={name: 1 for name in names if name not in ("digest", "checksum")},
        use_dictionary=[name for name in ("pack", "object") if name in names],
        column_encoding=delta,
        write_statistics=[name for name in ("key_int", "key_str") if name in names],
        store_schema=False,
    )
    data = bytes(sink.getvalue())
    if len(table) <= _CLEARLY_FEW_ROWS and table.nbytes <= _CLEARLY_FEW_BYTES:
        return data
    try:
        check_cost(data, set(names))
    except CorruptDataError as error:
        raise ObjectTooLargeError(
            f"a node of {len(table)} rows cannot be written: {error}. Nothing was committed and what is staged is "
            "kept. Give the samples other keys, such as numbers"
        ) from error
    return data


def import_decoders() -> None:
    """Import, in this thread, what other threads would import when they decode a segment; see `prepare_to_decode`."""
    import pyarrow.parquet  # noqa: F401


@functools.cache
def prepare_to_decode() -> None:
    """Do, in this thread, what is done once in a process when the first segment is decoded.

    A process that is forked while another thread does it would wait for ever where it decodes one itself: for Python's
    lock of a module that is imported, or for that of Arrow's thread pool or memory, which are made when they are used.
    """
    import pyarrow as pa
    import pyarrow.compute

    read_segment(write_segment(pa.table({"key": pa.array([0])})), {"key": pa.int64()})


def read_segment(data: bytes | memoryview, types: dict[str, Any]) -> pa.Table:
    """The columns of a segment that are named in `types`, those that are there; all others are left alone.

    Raises:
        CorruptDataError: it is not Parquet, would take more memory than any node does, or has a column of another
            type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = check_cost(data, set(types))
    try:
        file = pq.ParquetFile(
            pa.BufferReader(data),
            thrift_string_size_limit=MAX_FOOTER_BYTES,
            thrift_container_size_limit=MAX_FOOTER_ITEMS,
        )
        for field in file.schema_arrow:
            if field.name in types and field.type != types[field.name]:
                raise CorruptDataError(
                    f"a record segment's column {field.name} is {field.type}, not {types[field.name]}"
                )
        return file.read(found, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptDataError(f"a record segment is not readable Parquet: {error}") from error
