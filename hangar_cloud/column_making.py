"""Adding columns in a checkout for writing."""

from __future__ import annotations

from typing import Any

from hangar_cloud.alive import Alive
from hangar_cloud.backend_choice import check_backend
from hangar_cloud.backends.fork_lock import ForkTurn
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.schema import ColumnSchema, array_schema
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.column_writer import ColumnWriter, OpenBlocks
from hangar_cloud.errors import ColumnExistsError
from hangar_cloud.in_turn import in_turn


class ColumnMaking:
    """The part of `WriterCheckout` that makes columns."""

    _alive: Alive
    _open_blocks: OpenBlocks
    _turn: ForkTurn
    _working: WorkingSet

    def _open_column(self, name: str) -> ColumnWriter:
        raise NotImplementedError

    def add_ndarray_column(
        self,
        name: str,
        shape: int | tuple[int, ...] | None = None,
        dtype: Any = None,
        prototype: Any = None,
        variable_shape: bool = False,
        contains_subsamples: bool = False,
        *,
        backend: str | None = None,
        backend_options: dict[str, Any] | None = None,
    ) -> Any:
        """Add a column of numpy arrays.

        Args:
            name: 1 to 64 ASCII letters, digits, ``.``, ``_`` or ``-``.
            shape: of every sample, or the maximum of each dimension with `variable_shape`.
            dtype: bool, integer, float or complex, of either byte order.
            prototype: an array whose shape and dtype are taken instead.
            variable_shape: samples may be smaller than `shape`, of the same rank.
            contains_subsamples: each sample is a set of arrays with keys of their own (see `NestedSampleWriter`).
            backend: "p0" (packs), "i0" (inline) or "t0" (tiles, for `ColumnReader.read_slice`); by default "i0" for
                samples of at most 64 bytes, and "t0" where `shape` has 8 MiB or more.
            backend_options: for packs ``{"codec": "auto" | "raw" | "lz4" | "zstd", "shuffle": bool, "level": int}``;
                for tiles ``{"tile": (…), "filters": […]}``: a tile's size in elements, by default such that it has 128
                to 256 KiB; and TileDB's filters in the order in which they encode, out of "byteshuffle", "bitshuffle",
                "zstd", "gzip", "bzip2", "lz4" and "rle", or pairs of a name and a level.

        Raises:
            LookupError: there is a column of that name.
            ValueError: an argument cannot be meant.
            PermissionError: inside a ``with`` block.
        """
        where = self._check_new(name)
        schema = array_schema(shape, dtype, prototype, bool(variable_shape), bool(contains_subsamples), where)
        return self._add(name, schema, backend, backend_options)

    def add_str_column(
        self,
        name: str,
        contains_subsamples: bool = False,
        *,
        backend: str | None = None,
        backend_options: dict[str, Any] | None = None,
    ) -> Any:
        """Add a column of text. Arguments and errors as in `add_ndarray_column`."""
        self._check_new(name)
        return self._add(name, ColumnSchema("str", _layout(contains_subsamples)), backend, backend_options)

    def add_bytes_column(
        self,
        name: str,
        contains_subsamples: bool = False,
        *,
        backend: str | None = None,
        backend_options: dict[str, Any] | None = None,
    ) -> Any:
        """Add a column of bytes. Arguments and errors as in `add_ndarray_column`."""
        self._check_new(name)
        return self._add(name, ColumnSchema("bytes", _layout(contains_subsamples)), backend, backend_options)

    def _check_new(self, name: Any) -> str:
        self._alive()
        check_name(name, "column")
        self._open_blocks.refuse(f"add column {name!r}")
        if name in self._working.columns:
            raise ColumnExistsError(f"there is a column {name!r} already; remove it first, or choose another name")
        return f"column {name!r}"

    @in_turn
    def _add(self, name: str, schema: ColumnSchema, backend: Any, options: Any) -> ColumnWriter:
        code, checked = check_backend(backend, options, schema)
        self._check_new(name)
        self._working.add_column(name, ColumnEntry(schema, None, code, checked))
        return self._open_column(name)


def _layout(contains_subsamples: bool) -> str:
    return "nested" if contains_subsamples else "flat"
