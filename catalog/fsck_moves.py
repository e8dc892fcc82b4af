"""Integrity of the log of moves: every entry is there and intact."""

from __future__ import annotations

from collections.abc import Iterator

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.moves import MOVES_FOLDER, moves_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.findings import Finding
from hangar_cloud.catalog.moves_file import decode_moves

_AT_ONCE = 16


def moves_findings(store: ObjectStore) -> Iterator[Finding]:
    """What is wrong with the entries. Where they lead is checked with what refers to these places."""
    number = 0
    while True:
        numbers = range(number, number + _AT_ONCE)
        for number, text in zip(numbers, store.get_many([moves_path(n) for n in numbers]), strict=True):
            if text is None:
                yield from _behind(store, number)
                return
            try:
                decode_moves(text, number)
            except CorruptDataError as error:
                yield Finding("damaged", moves_path(number), message=str(error))
        number += 1


def _behind(store: ObjectStore, number: int) -> Iterator[Finding]:
    """A finding if there are entries behind one that is not there."""
    names = store.list_children(MOVES_FOLDER) if store.can_list else []
    later = [name for name in names if f"{MOVES_FOLDER}/{name}" > moves_path(number)]
    if later:
        yield Finding("missing", moves_path(number), message=f"this entry is not there, though there is {later[0]}")
