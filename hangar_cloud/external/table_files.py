"""The files of a table: Parquet and Arrow, one of them, or a folder of them, here or at a URL."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from hangar_cloud.backends.errors import redact_url
from hangar_cloud.errors import HangarError, InvalidArgumentError, ObjectNotFoundError, UnreadableFileError
from hangar_cloud.external.file_errors import file_errors, open_source

PARQUET: Final = (".parquet", ".pq")
ARROW: Final = (".arrow", ".feather")
_BATCH_ROWS: Final = 256
_BATCH_BYTES: Final = 64 * 1024 * 1024
# As the Hub and `datasets` call them: train-00000-of-00004.parquet, data-00000-of-00001.arrow.
_SHARD: Final = re.compile(r"(?P<split>[\w.-]+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?$", re.ASCII)
_UNREADABLE: Final = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError, OSError, ValueError)


class TableFile(NamedTuple):
    """One file of a table, and the split (train, test …) that its name or folder says it is of."""

    path: str
    split: str


class TableFiles:
    """Files that hold the rows of one table, in order."""

    def __init__(self, files: list[TableFile], storage_options: Mapping[str, Any] | None = None) -> None:
        self.files = files
        self._options = dict(storage_options or {})

    def schema(self) -> Any:
        """The Arrow schema of the first file; that of the others must be the same."""
        with self._reader(self.files[0].path) as reader:
            return reader.schema

    def batches(self, columns: list[str] | None) -> Iterator[tuple[TableFile, Any]]:
        """The rows of all files, some hundred at a time, each with the file it is from."""
        first: Any = None
        for file in self.files:
            with self._reader(file.path) as reader:
                schema = reader.schema.remove_metadata()
                first = schema if first is None else first
                if not schema.equals(first):
                    raise UnreadableFileError(
                        f"{redact_url(file.path)}: its columns are not those of {redact_url(self.files[0].path)}; "
                        "import "
                        "the two one at a time"
                    )
                for batch in reader.batches(columns):
                    yield file, batch

    @contextmanager
    def _reader(self, path: str) -> Iterator[_ParquetReader | _ArrowReader]:
        said = redact_url(path)
        with file_errors(f"cannot read {said}"), open_source(path, self._options) as file, _damage(said):
            yield (_ParquetReader if path.lower().endswith(PARQUET) else _ArrowReader)(file)


@contextmanager
def _damage(said: str) -> Iterator[None]:
    """Make pyarrow's complaints ours; some of them are an OSError without a number, unlike those of the system."""
    try:
        yield
    except HangarError:
        raise
    except _UNREADABLE as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise UnreadableFileError(f"{said}: this is no whole Parquet or Arrow file: {error}") from error


class _ParquetReader:
    def __init__(self, file: Any) -> None:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._file = pq.ParquetFile(file)
        self.schema = self._file.schema_arrow
        # Rows may be whole volumes; unpacked they are some times as large.
        row = 4 * size // max(self._file.metadata.num_rows, 1)
        self._rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(row, 1)))

    def batches(self, columns: list[str] | None) -> Iterator[Any]:
        return iter(self._file.iter_batches(batch_size=self._rows, columns=columns))


class _ArrowReader:
    """The file format of Arrow, or its stream format, which `datasets` writes."""

    def __init__(self, file: Any) -> None:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        self._is_file = is_file
        self._reader: Any = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        self.schema = self._reader.schema

    def batches(self, columns: list[str] | None) -> Iterator[Any]:
        for batch in self._whole():
            chosen = batch if columns is None else batch.select(columns)
            for start in range(0, chosen.num_rows, _BATCH_ROWS):
                yield chosen.slice(start, _BATCH_ROWS)

    def _whole(self) -> Iterator[Any]:
        if self._is_file:
            return (self._reader.get_batch(i) for i in range(self._reader.num_record_batches))
        return iter(self._reader)


def find_tables(path: str) -> list[TableFile]:
    """The files of a table: `path` itself, or those in it and its folders, in the order of their names.

    Raises:
        ObjectNotFoundError: there is nothing at `path`. UnreadableFileError: there is no such file in it.
    """
    if "://" in path or not os.path.isdir(path):
        if "://" not in path and not os.path.exists(path):
            raise ObjectNotFoundError(f"there is no file or folder {path}")
        if not path.lower().endswith(PARQUET + ARROW):
            raise InvalidArgumentError(f"{redact_url(path)} is no table: give a .parquet or .arrow file, or a folder")
        return [TableFile(path, "")]
    top = Path(path)
    saved = top / "dataset_dict.json"
    folders = [(top, "")] if not saved.is_file() else [(top / split, split) for split in _splits(saved)]
    found = [
        TableFile(str(file), split or _split_of(file))
        for folder, split in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in PARQUET + ARROW and not file.name.startswith((".", "cache-")) and file.is_file()
    ]
    if not found:
        raise UnreadableFileError(f"there are no .parquet or .arrow files in {path}")
    return found


def is_table(path: str) -> bool:
    """Whether a path looks like a table or a folder of such files."""
    if path.lower().endswith(PARQUET + ARROW):
        return True
    if "://" in path or not os.path.isdir(path):
        return False
    names = os.listdir(path)
    return "dataset_dict.json" in names or any(name.lower().endswith(PARQUET + ARROW) for name in names)


def _splits(path: Path) -> list[str]:
    try:
        splits = json.loads(path.read_text("utf-8"))["splits"]
        # Names of folders beside it: nothing that leads elsewhere.
        if not all(isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) for name in splits):
            raise ValueError("a split's name cannot be a folder")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFileError(f"{path}: this does not name the splits of a dataset: {error}") from error
    return list(splits)


def _split_of(file: Path) -> str:
    match = _SHARD.match(file.stem)
    return match["split"] if match and match["split"] != "data" else ""
