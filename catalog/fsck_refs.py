"""Integrity of what names things: `hangar.json`, the branches' logs, the hint, remote-tracking branches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hangar_cloud.backends.errors import CorruptDataError, HangarError, UnsupportedFormatError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.errors import InvalidNameError
from hangar_cloud.catalog.findings import Finding
from hangar_cloud.catalog.hint import HINT_PATH
from hangar_cloud.catalog.keys import is_name
from hangar_cloud.catalog.pointers import Pointer, decode_pointer, pointer_path
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH, decode_repository_file
from hangar_cloud.catalog.sealed_json import unseal
from hangar_cloud.catalog.tracking import TrackingRefs

_HEADS: Final = "refs/heads"
_ENTRY: Final = re.compile(r"(\d{10})\.json", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WITHOUT_COMMIT: Final = ("init", "delete")
_WITH_COMMIT: Final = ("create", "commit", "merge", "push", "force-push", "clone", "reset", "restore")
_AT_ONCE: Final = 256


def kind_of(error: HangarError) -> str:
    """The kind of finding that an error from decoding something is."""
    return "unsupported" if isinstance(error, UnsupportedFormatError) else "damaged"


class RefCheck:
    """Checks the names of one repository, and collects the commits that they lead to.

    Args:
        store: where the repository is.

    `heads` are the commits of all branches that could be read, each once.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._last: dict[str, int] = {}
        self.heads: dict[str, None] = {}

    def repository_file(self) -> Iterator[Finding]:
        """Faults of `hangar.json`."""
        text = self._store.get_many([REPOSITORY_PATH])[0]
        if text is None:
            yield Finding("missing", REPOSITORY_PATH, message=f"{REPOSITORY_PATH} is gone")
            return
        try:
            decode_repository_file(text, self._store.url)
        except (CorruptDataError, UnsupportedFormatError) as error:
            yield Finding(kind_of(error), REPOSITORY_PATH, message=str(error))

    def branches(self) -> Iterator[Finding]:
        """Faults of every branch's log; takes note of the heads of those that live."""
        for branch in self._names():
            yield from self._branch(branch)

    def tracking(self, folder: Path) -> Iterator[Finding]:
        """Faults of a local repository's remote-tracking branches; takes note of their heads."""
        refs = TrackingRefs(folder)
        for path in sorted(folder.glob("*/*.json")):
            try:
                commit = refs.get(path.parent.name, path.stem)
            except (CorruptDataError, UnsupportedFormatError, InvalidNameError, KeyError) as error:
                message = f"{path} is damaged ({error}); delete it and fetch that branch"
                yield Finding("damaged", str(path), message=message)
                continue
            if commit is None or not _DIGEST.fullmatch(commit):
                yield Finding("pointer", str(path), message=f"{path} names {commit!r}, which is no commit")
            else:
                self.heads[commit] = None

    def hint(self) -> Iterator[Finding]:
        """Notes about the branch hint; call after `branches`."""
        text = self._store.get_many([HINT_PATH])[0]
        if text is None:
            return
        try:
            bounds = dict(unseal(text, "the branch hint")["branches"])
        except (HangarError, KeyError, TypeError, ValueError, AttributeError) as error:
            yield Finding("hint", HINT_PATH, message=f"the branch hint cannot be read, and is passed over: {error}")
            return
        if not self._store.can_list:
            return
        for branch, bound in sorted(bounds.items()):
            last = self._last.get(branch)
            if type(bound) is not int or last is None or bound > last:
                there = "does not exist" if last is None else f"is at entry {last}"
                message = f"the branch hint says that branch {branch!r} is at entry {bound!r} or later, but it {there}"
                yield Finding("hint", HINT_PATH, message=message)

    def _names(self) -> list[str]:
        if self._store.can_list:
            return [name for name in self._store.list_children(_HEADS) if is_name(name)]
        text = self._store.get_many([HINT_PATH])[0]
        try:
            return sorted(filter(is_name, unseal(text or b"", "the branch hint")["branches"]))
        except (HangarError, KeyError, TypeError):
            return []

    def _branch(self, branch: str) -> Iterator[Finding]:
        numbers = self._numbers(branch)
        if not numbers:
            return
        present = set(numbers)
        for seq in range(numbers[-1]):
            if seq not in present:
                path = pointer_path(branch, seq)
                yield Finding("pointer", path, message=f"the log of branch {branch!r} has a gap: no entry {seq}")
        self._last[branch] = numbers[-1]
        newest: Pointer | None = None
        for start in range(0, len(numbers), _AT_ONCE):
            part = numbers[start : start + _AT_ONCE]
            paths = [pointer_path(branch, seq) for seq in part]
            for seq, path, text in zip(part, paths, self._store.get_many(paths), strict=True):
                try:
                    pointer = decode_pointer(text or b"", branch, seq)
                except (CorruptDataError, UnsupportedFormatError) as error:
                    yield Finding(kind_of(error), path, message=str(error))
                    continue
                if not _is_sound(pointer):
                    message = f"entry {seq} of branch {branch!r} says {pointer.action!r} with commit {pointer.commit!r}"
                    yield Finding("pointer", path, message=message)
                    continue
                newest = pointer
        # Where the head itself is damaged, what the entry before it reaches is checked all the same.
        if newest is not None and newest.commit is not None:
            self.heads[newest.commit] = None

    def _numbers(self, branch: str) -> list[int]:
        """The numbers of a branch's entries, ascending."""
        if self._store.can_list:
            names = self._store.list_children(f"{_HEADS}/{branch}")
            return sorted(int(match[1]) for match in map(_ENTRY.fullmatch, names) if match)
        found: list[int] = []
        while True:
            part = range(len(found), len(found) + _AT_ONCE)
            texts = self._store.get_many([pointer_path(branch, seq) for seq in part])
            found += [seq for seq, text in zip(part, texts, strict=True) if text is not None]
            if texts[-1] is None:
                return found


def _is_sound(pointer: Pointer) -> bool:
    if pointer.commit is None:
        return pointer.action in _WITHOUT_COMMIT
    return pointer.action in _WITH_COMMIT and bool(_DIGEST.fullmatch(str(pointer.commit)))
