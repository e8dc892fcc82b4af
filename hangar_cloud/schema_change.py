"""Changing columns as a whole: another schema, another name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.catalog.commits import METADATA
from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.near_names import did_you_mean
from hangar_cloud.catalog.schema import array_schema
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.column_writer import OpenBlocks
from hangar_cloud.errors import ColumnExistsError, ColumnNotFoundError, InvalidArgumentError, InvalidSchemaError
from hangar_cloud.in_turn import in_turn
from hangar_cloud.progress import byte_progress


class ColumnChanges:
    """Changes the columns of one writer checkout; see `Columns.alter` and `Columns.rename`.

    Args:
        working: the columns, with what is staged.
        packs: reads their samples.
        blocks: counts the open ``with`` blocks.
    """

    def __init__(self, working: WorkingSet, packs: PackReader, blocks: OpenBlocks) -> None:
        self._working = working
        self._turn = working.turn
        self._packs = packs
        self._blocks = blocks

    @in_turn
    def alter(self, name: str, dtype: Any, shape: Any, variable_shape: bool | None) -> None:
        """Give a column another schema."""
        where = f"column {name!r}"
        self._check(name, f"alter {where}")
        if dtype is None and shape is None and variable_shape is None:
            raise InvalidArgumentError(f"{where}: say what to alter: dtype, shape or variable_shape")
        old = self._working.columns[name].entry.schema
        if old.column_type != "ndarray":
            raise InvalidSchemaError(f"{where} holds {old.column_type}; only columns of arrays can be altered")
        varies = old.schema_type == "variable_shape" if variable_shape is None else bool(variable_shape)
        new = array_schema(
            old.shape if shape is None else shape,
            old.numpy_dtype if dtype is None else dtype,
            None,
            varies,
            old.column_layout == "nested",
            where,
        )
        if len(new.shape or ()) != len(old.shape or ()):
            raise InvalidSchemaError(
                f"{where} has {len(old.shape or ())} dimension(s), shape {old.shape}; it cannot be altered to "
                f"{len(new.shape or ())}, shape {new.shape}"
            )
        if new != old:
            with byte_progress(f"altering {name!r}, reading") as progress:

                def read(samples: Sequence[PackedSample]) -> list[memoryview]:
                    payloads = self._packs.read_many(samples)
                    progress(sum(map(len, payloads)))
                    return payloads

                self._working.alter_column(name, new, read)

    @in_turn
    def rename(self, name: str, new: str) -> None:
        """Give a column another name."""
        check_name(new, "column")
        self._check(name, f"rename column {name!r}")
        if new in self._working.columns:
            raise ColumnExistsError(f"there is a column {new!r} already; remove it first, or choose another name")
        self._working.rename_column(name, new)

    def _check(self, name: Any, what: str) -> None:
        self._blocks.refuse(what)
        names = sorted(column for column in self._working.columns if column != METADATA)
        if name not in names:
            known = f"{', '.join(names) or 'none'}{did_you_mean(name, names)}"
            raise ColumnNotFoundError(f"there is no column {name!r}; there is: {known}")
