"""The pointer log: branches as append-only numbered entries, each written once.

`refs/heads/<branch>/<seq>.json`; the entry with the highest number is the head. Entries are dense,
so the head is found by galloping, without LIST. `refs/hint.json` names branches and lower bounds of
their numbers: the one object that is ever overwritten, advisory, never needed to be right.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from hangar_cloud.backends.errors import CorruptDataError, HangarError, StoreError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.errors import HeadMovedError, InvalidNameError
from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.sealed_json import seal, unseal

HINT_PATH: Final = "refs/hint.json"
_HEADS: Final = "refs/heads"
_PROBE_AHEAD: Final = 2
_MAX_SEQ: Final = 10**10 - 1


@dataclass(frozen=True)
class Pointer:
    """One entry of a branch's log. `commit` is None before the first commit and after deletion."""

    branch: str
    seq: int
    commit: str | None
    action: str
    time: str
    author: str
    nonce: str

    @property
    def alive(self) -> bool:
        """False once the branch was deleted."""
        return self.action != "delete"

    def encode(self) -> bytes:
        """The bytes of the entry's object."""
        return seal(dict(vars(self)))


def pointer_path(branch: str, seq: int) -> str:
    """The object name of one log entry."""
    return f"{_HEADS}/{branch}/{seq:010d}.json"


def decode_pointer(text: bytes, branch: str, seq: int) -> Pointer:
    """The entry in an object's bytes.

    Raises:
        CorruptDataError: damaged, or another entry than its name says.
        UnsupportedFormatError: of a later format.
    """
    what = f"pointer {seq} of branch {branch!r}"
    data = unseal(text, what)
    try:
        pointer = Pointer(**data)
    except TypeError as error:
        raise CorruptDataError(f"{what} is damaged: {error}") from error
    if (pointer.branch, pointer.seq) != (branch, seq):
        raise CorruptDataError(f"{what} is damaged: it belongs to pointer {pointer.seq} of {pointer.branch!r}")
    return pointer


class PointerLog:
    """The branches of one store.

    Args:
        store: where the entries are.
        author: recorded in new entries.
        moved: told of each entry that is added here, once it is there.
    """

    def __init__(
        self, store: ObjectStore, author: str = "", moved: Callable[[Pointer], None] = lambda pointer: None
    ) -> None:
        self._store = store
        self._author = author
        self._moved = moved
        self._known: dict[str, int] = {}
        self._primed = False

    def prime(self, hint: bytes | None) -> None:
        """Take lower bounds from the hint's bytes, read together with something else."""
        self._known = {**_bounds(hint), **self._known}
        self._primed = True

    def head(self, branch: str) -> Pointer | None:
        """The newest entry of a branch, None if there never was one.

        Raises:
            CorruptDataError: the entry is damaged.
        """
        lower = self._known.get(branch)
        if lower is None:
            lower = 0 if self._primed else self._read_hint().get(branch, 0)
        pointer = self._gallop(branch, lower)
        if pointer is None and lower > 0:
            pointer = self._gallop(branch, 0)
        if pointer is not None:
            self._known[branch] = pointer.seq
        return pointer

    def heads(self) -> dict[str, Pointer]:
        """The newest entries of all living branches, by name."""
        found = {name: self.head(name) for name in self._names()}
        return {name: pointer for name, pointer in sorted(found.items()) if pointer is not None and pointer.alive}

    def entry(self, branch: str, seq: int) -> Pointer | None:
        """One entry of a branch's log, None if it is not there."""
        text = self._store.get_many([pointer_path(branch, seq)])[0]
        return None if text is None else decode_pointer(text, branch, seq)

    def move(
        self, branch: str, expected: Pointer | None, commit: str | None, action: str, nonce: str | None = None
    ) -> Pointer:
        """Add the next entry of a branch.

        Args:
            branch: its name.
            expected: the head that the caller saw; None if the branch never was.
            commit: new head commit.
            action: "init", "create", "commit", "merge", "push", "delete" or "reset".
            nonce: random text that makes the entry this writer's own; made here if not given.

        Raises:
            HeadMovedError: another writer added that entry first.
        """
        check_name(branch, "branch")
        pointer = Pointer(
            branch=branch,
            seq=0 if expected is None else expected.seq + 1,
            commit=commit,
            action=action,
            time=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            author=self._author,
            nonce=nonce or secrets.token_hex(16),
        )
        if not self._store.put_if_absent(pointer_path(branch, pointer.seq), pointer.encode()):
            raise HeadMovedError(f"branch {branch!r} at {self._store.url} was moved by another writer in the meantime")
        self._known[branch] = pointer.seq
        self._write_hint()
        self._moved(pointer)
        return pointer

    def start(self, branch: str) -> None:
        """Make a new repository's first branch; fine if it is there already."""
        if self.head(branch) is None:
            self.move(branch, None, None, "init")

    def _gallop(self, branch: str, lower: int) -> Pointer | None:
        """The last entry at or after `lower`, where every entry up to the last exists."""
        found: tuple[int, bytes] | None = None
        step = 1
        position = lower
        high: int | None = None
        while high is None:
            wanted = [position, *(position + step * (1 << i) for i in range(_PROBE_AHEAD - 1))]
            texts = self._store.get_many([pointer_path(branch, seq) for seq in wanted])
            for seq, text in zip(wanted, texts, strict=True):
                if text is None:
                    high = seq
                    break
                found = (seq, text)
            if high is None:
                step *= 4
                position = wanted[-1] + step
        while found is not None and high - found[0] > 1:
            middle = (found[0] + high) // 2
            text = self._store.get_many([pointer_path(branch, middle)])[0]
            if text is None:
                high = middle
            else:
                found = (middle, text)
        # Only the head is looked into: a damaged older entry does no harm.
        return None if found is None else decode_pointer(found[1], branch, found[0])

    def _names(self) -> Iterable[str]:
        if not self._store.can_list:
            return sorted(self._read_hint())
        return [name for name in self._store.list_children(_HEADS) if _is_name(name)]

    def _read_hint(self) -> dict[str, int]:
        return _bounds(self._store.get_many([HINT_PATH])[0])

    def _write_hint(self) -> None:
        """Best effort: whoever reads an old hint only looks a little longer."""
        try:
            branches: dict[str, Any] = {**self._read_hint()}
            for name, seq in self._known.items():
                branches[name] = max(seq, branches.get(name, 0))
            self._store.put(HINT_PATH, seal({"branches": branches}))
        except StoreError:
            pass


def _bounds(hint: bytes | None) -> dict[str, int]:
    """Lower bounds by branch in the hint's bytes; none where it is missing, damaged or of a later format."""
    if hint is None:
        return {}
    try:
        branches = unseal(hint, "the branch hint")["branches"]
        return {name: int(seq) for name, seq in branches.items() if _is_name(name) and 0 <= int(seq) <= _MAX_SEQ}
    except (HangarError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return {}


def _is_name(name: str) -> bool:
    try:
        check_name(name, "branch")
    except InvalidNameError:
        return False
    return True
