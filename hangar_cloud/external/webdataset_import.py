"""Importing WebDataset tars: each field of their samples becomes a column."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from io import BytesIO
from itertools import groupby
from typing import Any, Final

import numpy as np

from hangar_cloud.backends.errors import redact_url
from hangar_cloud.backends.values import decode_text
from hangar_cloud.catalog.keys import KeyType, RowKey, check_key
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.errors import HangarError, UnreadableFileError
from hangar_cloud.external import audio_plugin, image_plugin
from hangar_cloud.external.audio_plugin import describe_audio, read_audio
from hangar_cloud.external.dataset_samples import DatasetNote, DatasetReader, Sample, SeenKeys, Wants
from hangar_cloud.external.file_names import clean_name, read_key, unquote_name
from hangar_cloud.external.image_plugin import describe_image, read_image
from hangar_cloud.external.numpy_plugin import describe_npy, read_npy
from hangar_cloud.external.survey import Survey
from hangar_cloud.external.tar_members import NOTE, Member, find_tars, members_of

_TEXT: Final = ("txt", "text", "transcript", "json", "caption", "html", "xml")
_NUMBER: Final = ("cls", "cls2", "index", "inx")


class TarReader:
    """Tars that another tool wrote.

    Pictures, sounds, .npy files and text are decoded by their endings, .cls are whole numbers, and all others stay the
    bytes that they are: nothing is unpickled. Columns are called by the fields (``jpg``, ``cls``,
    ``input.png``), keys are the names before the first dot.
    """

    def __init__(self, tars: list[str], options: Mapping[str, Any] | None, clean_names: bool) -> None:
        self._tars = tars
        self._clean_names = clean_names
        self._options = options
        self.metadata: dict[KeyType, str] = {}
        self.unreadable: dict[str, str] = {}

    def schemas(self) -> dict[str, ColumnSchema]:
        """Its columns. Every tar is gone through: nothing else says how large the largest image is."""
        surveys: dict[str, Survey] = {}
        for member in self._members():
            survey = surveys.setdefault(member.field, Survey())
            try:
                survey.see(_describe(member))
            except ImportError:
                raise
            except HangarError as error:
                self.unreadable.setdefault(member.field, str(error))
        schemas = {field: survey.schema() for field, survey in surveys.items()}
        found = {field: schema for field, schema in schemas.items() if schema is not None}
        self.unreadable = {field: reason for field, reason in self.unreadable.items() if field not in found}
        return found

    def samples(self, columns: list[str], wants: Wants) -> Iterator[Sample]:
        """Member by member."""
        seen = SeenKeys()
        for stem, members in groupby(self._members(), key=lambda member: member.stem):
            try:
                key = check_key(clean_name(stem) if self._clean_names else stem)
                if not seen.is_first(key):
                    raise UnreadableFileError(f"there was a sample {key!r} before; import one of the tars alone")
            except HangarError as error:
                yield from (Sample(one.field, stem, error, one.where) for one in members if one.field in columns)
                continue
            for member in members:
                if member.field in columns and wants(member.field, key):
                    yield Sample(member.field, key, _value(member, _decode), member.where)

    def _members(self) -> Iterator[Member]:
        for tar in self._tars:
            # A member without an ending is of no field.
            yield from (member for member in members_of(tar, self._options) if member.field)


class ExportedTarReader:
    """Tars that `export_dataset` wrote: everything comes back as it was."""

    def __init__(self, tars: list[str], options: Mapping[str, Any] | None, note: DatasetNote) -> None:
        self._tars = tars
        self._options = options
        self._note = note
        self.metadata = note.metadata
        self.unreadable: dict[str, str] = {}

    def schemas(self) -> dict[str, ColumnSchema]:
        """Its columns, as they were; those without samples too."""
        return dict(self._note.columns)

    def samples(self, columns: list[str], wants: Wants) -> Iterator[Sample]:
        """Member by member; in the end for each column an error if some are missing, such as those of a whole tar."""
        missing = Counter({name: self._count(name) for name in columns})
        for tar in self._tars:
            for member in members_of(tar, self._options):
                if not member.field:
                    continue
                column, key = self._place(member)
                missing[column] -= 1
                if column in columns and wants(column, key):
                    yield Sample(
                        column, key, _value(member, lambda one, of=column: self._decode(one, of)), member.where
                    )

        for name in columns:
            if missing[name] > 0:
                reason = f"{missing[name]:,} of the samples that were exported are in none of these tars"
                yield Sample(name, "", UnreadableFileError(reason), f"{redact_url(self._tars[0])}, column {name}")

    def _count(self, column: str) -> int:
        counts = self._note.details.get("counts")
        count = counts.get(column) if isinstance(counts, dict) else None
        return count if isinstance(count, int) else 0

    def _place(self, member: Member) -> tuple[str, RowKey]:
        name, _, _ = member.field.rpartition(".")
        column, at, sub = name.partition("@")
        if column not in self._note.columns or bool(at) != (column in self._note.details["subkeys"]):
            raise UnreadableFileError(f"{member.where}: this is no member of an export")
        key = read_key(unquote_name(member.stem), self._note.details["keys"])
        return column, (key, read_key(unquote_name(sub), self._note.details["subkeys"][column])) if at else key

    def _decode(self, member: Member, column: str) -> Any:
        schema = self._note.columns[column]
        data = member.read()
        if schema.column_type != "ndarray":
            return data if schema.column_type == "bytes" else decode_text(data)
        if member.field.endswith(".npy"):
            return read_npy(BytesIO(data), member.where)
        pixels = read_image(BytesIO(data), member.where)
        # Pictures of one colour have no axis for it.
        return pixels[:, :, np.newaxis] if pixels.ndim == 2 and len(schema.shape or ()) == 3 else pixels


def open_webdataset(path: str, storage_options: Mapping[str, Any] | None, clean_names: bool) -> DatasetReader:
    """The reader of a tar, or of a folder of them: whether they were exported from here, the first member says."""
    tars = find_tars(path)
    with closing(members_of(tars[0], storage_options)) as members:
        first = next(members, None)
        if first is None or first.stem != NOTE or first.field:
            return TarReader(tars, storage_options, clean_names)
        try:
            said = json.loads(first.read())
        except ValueError as error:
            raise UnreadableFileError(f"{first.where}: what the export says of itself is damaged: {error}") from error
    return ExportedTarReader(tars, storage_options, DatasetNote.from_json(said, redact_url(path)))


def _value(member: Member, decode: Any) -> Any:
    """The value of a member, or the error that says why there is none."""
    try:
        return decode(member)
    except ImportError:
        raise
    except HangarError as error:
        return error
    except UnicodeDecodeError as error:
        return UnreadableFileError(f"{member.where}: this is no text in UTF-8: {error}")


def _describe(member: Member) -> Any:
    """The value of a member, or what can be told of it without decoding."""
    ending = member.field.rpartition(".")[2].lower()
    if ending in image_plugin.ENDINGS:
        return describe_image(BytesIO(member.read()), member.where)
    if ending in audio_plugin.ENDINGS:
        return describe_audio(BytesIO(member.read()), member.where)
    if ending == "npy":
        return describe_npy(BytesIO(member.read()), member.where)
    if ending in _NUMBER:
        return np.array(0, np.int64)
    return "" if ending in _TEXT else b""


def _decode(member: Member) -> Any:
    ending = member.field.rpartition(".")[2].lower()
    data = member.read()
    if ending in image_plugin.ENDINGS:
        return read_image(BytesIO(data), member.where)
    if ending in audio_plugin.ENDINGS:
        return read_audio(BytesIO(data), member.where)
    if ending == "npy":
        return read_npy(BytesIO(data), member.where)
    if ending in _NUMBER:
        return _whole_number(data, member.where)
    return data.decode("utf-8") if ending in _TEXT else data


def _whole_number(data: bytes, where: str) -> Any:
    try:
        return np.array(int(data[:32]), np.int64)
    except (ValueError, OverflowError):
        raise UnreadableFileError(f"{where}: this is no whole number: {data[:32]!r}") from None
