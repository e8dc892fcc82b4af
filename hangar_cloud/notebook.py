"""The tables that notebooks show: HTML in which every text is escaped, with small pictures inline.

Nothing here asks a store over the network: showing an object must not start a transfer.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hangar_cloud.thumbnails import looks_like_images, thumbnail

if TYPE_CHECKING:
    from hangar_cloud.catalog.keys import RowKey
    from hangar_cloud.catalog.working_set import Found
    from hangar_cloud.column import ColumnReader

_PICTURES: Final = 8
_PICTURES_OF_MANY: Final = 4
_COLUMNS_WITH_PICTURES: Final = 20
_COLUMNS_LISTED: Final = 100
_ROWS_LOOKED_AT: Final = 1000
_HEADS: Final = ("Column", "Type", "Layout", "Schema", "DType", "Shape", "Values", "Partly remote", "First samples")
_LEFT: Final = ' style="text-align:left"'

Facts = Iterable[tuple[str, object]]


class Picture(NamedTuple):
    """A PNG file, and the key it is of."""

    label: str
    png: bytes


def facts_table(title: str, facts: Facts, pictures: Sequence[Picture] = ()) -> str:
    """A title, names and values in two columns and, where there are any, a row of pictures."""
    rows = [f"<tr><th{_LEFT}>{_text(name)}</th><td{_LEFT}>{_text(value)}</td></tr>" for name, value in facts]
    if pictures:
        rows.append(f'<tr><td colspan="2"{_LEFT}>{_images(pictures)}</td></tr>')
    return f"<div><strong>{_text(title)}</strong><table>{''.join(rows)}</table></div>"


def columns_table(columns: Iterable[ColumnReader]) -> str:
    """A row for each column (the first hundred), with the first samples of those that look like images."""
    heads = "".join(f"<th{_LEFT}>{_text(head)}</th>" for head in _HEADS)
    listed = list(islice(columns, _COLUMNS_LISTED + 1))
    rows = "".join(_column_rows(listed[:_COLUMNS_LISTED]))
    more = "<p>and more columns</p>" if len(listed) > _COLUMNS_LISTED else ""
    return f"<table><tr>{heads}</tr>{rows}</table>{more}"


def pictures_of(
    column: ColumnReader, rows: Iterable[tuple[RowKey, Found]] | None = None, count: int = _PICTURES
) -> list[Picture]:
    """Pictures of the first samples of a column that are on this machine.

    Args:
        column: which need not look like one of images; then there are none.
        rows: the rows to look at instead of all that are here.
        count: how many pictures at most. Only the first thousand rows are looked at.
    """
    if not looks_like_images(column._entry.schema):
        return []
    pictures = _pictures(column, column._rows_here() if rows is None else rows)
    return list(islice(pictures, count))


def _column_rows(columns: Iterable[ColumnReader]) -> Iterator[str]:
    with_pictures = 0
    for column in columns:
        pictures = pictures_of(column, count=_PICTURES_OF_MANY) if with_pictures < _COLUMNS_WITH_PICTURES else []
        with_pictures += bool(pictures)
        said = (column.column, column.column_type, column.column_layout, column.schema_type, column._dtype_name)
        sizes = (column.shape, column._count(), column.contains_remote_references)
        cells = [*map(_text, (*said, *sizes)), _images(pictures)]
        yield f"<tr>{''.join(f'<td{_LEFT}>{cell}</td>' for cell in cells)}</tr>"


def _pictures(column: ColumnReader, rows: Iterable[tuple[RowKey, Found]]) -> Iterator[Picture]:
    for key, found in islice(rows, _ROWS_LOOKED_AT):
        value = column._value_here(key, found)
        png = thumbnail(value) if isinstance(value, np.ndarray) else None
        if png is not None:
            yield Picture(" / ".join(map(repr, key)) if isinstance(key, tuple) else repr(key), png)


def _images(pictures: Sequence[Picture]) -> str:
    return " ".join(
        f'<img src="data:image/png;base64,{b64encode(picture.png).decode()}" alt="{_text(picture.label)}" '
        f'title="{_text(picture.label)}" style="display:inline;height:64px;image-rendering:pixelated">'
        for picture in pictures
    )


def _text(value: Any) -> str:
    return escape(str(value))
