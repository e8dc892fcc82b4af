"""Rows of numbers in CSV and Parquet files, by pyarrow."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.errors import UnexportableError, UnreadableFileError
from hangar_cloud.external.base_plugin import BasePlugin
from hangar_cloud.external.file_names import file_of, parse_tagged
from hangar_cloud.external.placing import placed_file

_DELIMITERS: Final = {"csv": ",", "tsv": "\t"}


_MOST_EXACT: Final = 2**53


class TablePlugin(BasePlugin):
    """Each row of a table of numbers is one sample, of shape (columns,); with ``whole=True`` the table is one.

    Tables whose columns are of several kinds are datasets: see `import_dataset`.
    """

    def __init__(self) -> None:
        super().__init__(["load", "save", "show", "board_show"], ["csv", "tsv", "parquet"])

    def load(
        self,
        fpath: str | os.PathLike[str],
        *,
        whole: bool = False,
        header: bool | None = None,
        delimiter: str | None = None,
    ) -> tuple[npt.NDArray[Any], str] | Iterator[tuple[npt.NDArray[Any], str]]:
        """Read a table: pairs (array, ``<file>/<number of the row>``); the dtype holds the numbers of all columns.

        Args:
            fpath: its path.
            whole: give one pair, of an array of shape (rows, columns).
            header: whether the first line of a CSV file names the columns; by default, whether it is no numbers.
            delimiter: between the fields of a CSV file; by default a comma, in .tsv a tab.

        Raises:
            ValueError: it is no such table, or a column is no numbers or lacks some.
        """
        numbers = _numbers(_table(os.fspath(fpath), header, delimiter), os.fspath(fpath))
        name = self.sample_name(fpath)
        return (numbers, name) if whole else _rows(numbers, name)

    def save(
        self,
        arr: npt.NDArray[Any],
        outdir: str | os.PathLike[str],
        sample_detail: str,
        extension: str,
        *,
        overwrite: bool = False,
    ) -> str:
        """Write an array of one or two dimensions as rows, and return the path; one dimension is one row.

        Parquet keeps every bit. CSV keeps every number, but not its dtype.

        Raises:
            ValueError: the array has another rank, or is complex.
            FileExistsError: there is such a file (unless `overwrite`).
        """
        if not isinstance(arr, np.ndarray) or arr.ndim not in (1, 2) or arr.dtype.kind not in "biuf":
            raise UnexportableError(
                f"sample {sample_detail!r} is no table of numbers: "
                f"{getattr(arr, 'dtype', type(arr).__name__)} of shape {getattr(arr, 'shape', ())}; use npy"
            )
        path = file_of(outdir, str(parse_tagged(sample_detail)), extension)
        rows = np.atleast_2d(arr)
        with placed_file(path, overwrite) as temporary:
            if extension.lower().lstrip(".") == "parquet":
                _write_parquet(rows, temporary)
            else:
                _write_text(rows, temporary, _DELIMITERS.get(extension.lower().lstrip("."), ","))
        return str(path)

    def show(self, arr: npt.NDArray[Any]) -> None:
        """Draw the numbers in a window of matplotlib."""
        from hangar_cloud.external.array_window import show_array

        show_array(arr)

    def board_show(self, arr: npt.NDArray[Any]) -> str:
        """An HTML element with dtype, shape and numbers."""
        from hangar_cloud.external.array_text import as_html, describe_array

        return as_html(describe_array(arr))


def _table(path: str, header: bool | None, delimiter: str | None) -> Any:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if path.lower().endswith(".parquet"):
            return pa.parquet.read_table(path)
        comma = delimiter or _DELIMITERS.get(path.lower().rpartition(".")[2], ",")
        named = _has_header(path, comma) if header is None else header
        return pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(autogenerate_column_names=not named),
            parse_options=pa.csv.ParseOptions(delimiter=comma),
            # A NaN is a number that arrays have, and that `save` writes.
            convert_options=pa.csv.ConvertOptions(
                null_values=[text for text in pa.csv.ConvertOptions().null_values if "nan" not in text.lower()]
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"{path}: this is no table: {error}") from error


def _has_header(path: str, delimiter: str) -> bool:
    with open(path, encoding="utf-8", newline="") as file:
        first = next(csv.reader([file.readline(1_000_000)], delimiter=delimiter), [])
    return not all(_is_number(field) for field in first)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(table: Any, path: str) -> npt.NDArray[Any]:
    for name, column in zip(table.column_names, table.columns, strict=True):
        is_number = np.dtype(column.type.to_pandas_dtype()).kind in "biuf"
        if not is_number or column.null_count:
            what = f"lacks {column.null_count} of its values" if is_number else f"is {column.type}, no numbers"
            raise UnreadableFileError(
                f"{path}: column {name!r} {what}, so the rows are no arrays; import it as a dataset, in which each "
                "column "
                "is one"
            )
    if not table.num_columns or not table.num_rows:
        raise UnreadableFileError(f"{path}: the table is empty")
    columns = [column.to_numpy() for column in table.columns]
    rows = np.ascontiguousarray(np.column_stack(columns))
    for name, column in zip(table.column_names, columns, strict=True):
        if rows.dtype.kind == "f" and column.dtype.kind in "iu" and not _are_floats(column):
            raise UnreadableFileError(
                f"{path}: column {name!r} has whole numbers that are too large to stand beside the fractions of other "
                "columns in one array of floats; import it as a dataset, in which each column is one"
            )
    return rows


def _are_floats(numbers: npt.NDArray[Any]) -> bool:
    """Whether each of these whole numbers is a 64-bit float."""
    large = numbers[(numbers > _MOST_EXACT) | (numbers < -_MOST_EXACT)] if numbers.dtype.itemsize == 8 else numbers[:0]
    return all(int(float(number)) == number for number in large.tolist())


def _rows(numbers: npt.NDArray[Any], name: str) -> Iterator[tuple[npt.NDArray[Any], str]]:
    for i, row in enumerate(numbers):
        yield row, f"{name}/{i}"


def _write_parquet(rows: npt.NDArray[Any], path: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    native = rows.astype(rows.dtype.newbyteorder("="), copy=False)
    columns = {f"c{i}": pa.array(np.ascontiguousarray(native[:, i])) for i in range(native.shape[1])}
    # A dictionary would take all NaNs for one.
    pa.parquet.write_table(pa.table(columns), path, use_dictionary=False)


def _write_text(rows: npt.NDArray[Any], path: Any, delimiter: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        # tolist() makes Python's numbers, which are written so that they read back the same.
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows.tolist())
