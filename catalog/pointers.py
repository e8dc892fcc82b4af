"""The pointer log: branches and tags as append-only numbered entries, each written once.

`refs/heads/<branch>/<seq>.json` and `refs/tags/<tag>/<seq>.json`; the entry with the highest number counts.
Entries are dense, so it is found by galloping, without LIST. The hint (`hint.py`) says from where.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, Protocol

from hangar_cloud.backends.errors import CorruptDataError, StoreError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.errors import HeadMovedError
from hangar_cloud.catalog.hint import FIRST_BRANCH, HINT_PATH, MAX_SEQ, Hint, Kind, decode_hint
from hangar_cloud.catalog.keys import check_name, is_name
from hangar_cloud.catalog.sealed_json import seal, unseal

_WORDS: Final[dict[Kind, str]] = {"heads": "branch", "tags": "tag"}
_DEAD: Final = ("delete", "untag")
_TAG_ACTIONS: Final = ("tag", "untag")
_PROBE_AHEAD: Final = 2
_READ_AT_ONCE: Final = 64
_MEMBERS: Final[dict[str, type]] = {"branch": str, "seq": int, "action": str, "time": str, "author": str, "nonce": str}


@dataclass(frozen=True)
class Pointer:
    """One entry of a branch's or tag's log. `commit` is None before the first commit and after deletion."""

    branch: str
    seq: int
    commit: str | None
    action: str
    time: str
    author: str
    nonce: str
    message: str = ""

    @property
    def alive(self) -> bool:
        """False once the branch or tag was deleted."""
        return self.action not in _DEAD

    def encode(self) -> bytes:
        """The bytes of the entry's object."""
        return seal({name: value for name, value in vars(self).items() if name != "message" or value})


def pointer_path(branch: str, seq: int, kind: Kind = "heads") -> str:
    """The object name of one log entry."""
    return f"refs/{kind}/{branch}/{seq:010d}.json"


def decode_pointer(text: bytes, branch: str, seq: int, kind: Kind = "heads") -> Pointer:
    """The entry in an object's bytes.

    Raises:
        CorruptDataError: damaged, or another entry than its name says.
        UnsupportedFormatError: of a later format.
    """
    what = f"pointer {seq} of {_WORDS[kind]} {branch!r}"
    data = unseal(text, what)
    if not _MEMBERS.items() <= {name: type(data.get(name)) for name in _MEMBERS}.items():
        raise CorruptDataError(f"{what} is damaged: it lacks a member, or has one of another type")
    if not isinstance(data.get("commit"), (str, type(None))) or not isinstance(data.get("message", ""), str):
        raise CorruptDataError(f"{what} is damaged: its commit or message is not text")
    pointer = Pointer(
        commit=data.get("commit"), message=data.get("message", ""), **{name: data[name] for name in _MEMBERS}
    )
    if (pointer.branch, pointer.seq) != (branch, seq):
        raise CorruptDataError(f"{what} is damaged: it belongs to pointer {pointer.seq} of {pointer.branch!r}")
    if (pointer.action in _TAG_ACTIONS) != (kind == "tags"):
        raise CorruptDataError(f"{what} is damaged: it does not belong to a {_WORDS[kind]}")
    return pointer


class LikelyCommits(Protocol):
    """Is told of commits that are likely to be wanted next."""

    def begin_commit(self, digest: str) -> None:
        """Begin to fetch a commit, and wait for nothing."""


class PointerLog:
    """The branches, or the tags, of one store.

    Args:
        store: where the entries are.
        author: recorded in new entries.
        kind: "heads" for branches, "tags" for tags.
        moved: told of each entry that is added here, once it is there.
        likely: told of the commit that the hint says a branch is at, when the branch's newest entry is looked for: who
            does that mostly wants its commit next.
    """

    def __init__(
        self,
        store: ObjectStore,
        author: str = "",
        kind: Kind = "heads",
        moved: Callable[[Pointer], None] = lambda pointer: None,
        likely: LikelyCommits | None = None,
    ) -> None:
        self._store = store
        self._author = author
        self._kind: Kind = kind
        self._moved = moved
        self._likely = likely
        self._known: dict[str, int] = {}
        self._hinted: dict[str, str] = {}
        self._primed = False

    def prime(self, hint: bytes | None) -> None:
        """Take lower bounds from the hint's bytes, read together with something else."""
        said = decode_hint(hint)
        self._known = {**said.bounds[self._kind], **self._known}
        self._hinted = said.commits if self._kind == "heads" else {}
        self._primed = True

    def head(self, branch: str) -> Pointer | None:
        """The newest entry of a branch, None if there never was one.

        Raises:
            CorruptDataError: the entry is damaged.
        """
        lower = self._known.get(branch)
        if lower is None:
            lower = 0 if self._primed else self._read_hint().get(branch, 0)
        hinted = self._hinted.pop(branch, None)
        if hinted is not None and self._likely is not None:
            self._likely.begin_commit(hinted)
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
        text = self._store.get_many([self._path(branch, seq)])[0]
        return None if text is None else decode_pointer(text, branch, seq, self._kind)

    def is_head(self, branch: str, pointer: Pointer | None) -> bool:
        """Whether no entry came after one that was the head when it was read; None for a branch that never was."""
        following = 0 if pointer is None else pointer.seq + 1
        return self._store.get_many([self._path(branch, following)])[0] is None

    def entries(self, branch: str, until: int) -> Iterator[Pointer]:
        """The entries of a log from number `until` back to the first.

        Raises:
            CorruptDataError: an entry is damaged or missing.
        """
        for last in range(until, -1, -_READ_AT_ONCE):
            numbers = range(last, max(-1, last - _READ_AT_ONCE), -1)
            texts = self._store.get_many([self._path(branch, seq) for seq in numbers])
            for seq, text in zip(numbers, texts, strict=True):
                if text is None:
                    raise CorruptDataError(
                        f"pointer {seq} of {_WORDS[self._kind]} {branch!r} is missing at {self._store.url}, though "
                        f"number {seq + 1} is there"
                    )
                yield decode_pointer(text, branch, seq, self._kind)

    def as_of(self, branch: str, time: datetime) -> Pointer | None:
        """The last entry that was written at `time` (with a time zone) or before; None if there is none.

        Times never decrease along a log, so this takes a number of reads that grows with the logarithm of its length.
        """
        head = self.head(branch)
        if head is None or written_at(head) <= time:
            return head
        low, high = -1, head.seq
        found: Pointer | None = None
        while high - low > 1:
            middle = (low + high) // 2
            pointer = self.entry(branch, middle)
            if pointer is None:
                raise CorruptDataError(f"pointer {middle} of branch {branch!r} is missing at {self._store.url}")
            if written_at(pointer) <= time:
                low, found = middle, pointer
            else:
                high = middle
        return found

    def move(
        self,
        branch: str,
        expected: Pointer | None,
        commit: str | None,
        action: str,
        nonce: str | None = None,
        message: str = "",
    ) -> Pointer:
        """Add the next entry of a branch.

        Args:
            branch: its name.
            expected: the head that the caller saw; None if the branch never was.
            commit: new head commit.
            action: "init", "create", "commit", "merge", "push", "force-push", "delete", "restore" or "reset";
                of tags "tag" or "untag".
            nonce: random text that makes the entry this writer's own; made here if not given.
            message: of a tag.

        Raises:
            HeadMovedError: another writer added that entry first.
        """
        check_name(branch, _WORDS[self._kind])
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        pointer = Pointer(
            branch=branch,
            seq=0 if expected is None else expected.seq + 1,
            commit=commit,
            action=action,
            # Clocks of writers differ; a log whose times never decrease can be searched by time.
            time=now if expected is None else max(now, expected.time),
            author=self._author,
            nonce=nonce or secrets.token_hex(16),
            message=message,
        )
        if not self._store.put_if_absent(self._path(branch, pointer.seq), pointer.encode()):
            self._known[branch] = pointer.seq
            raise HeadMovedError(
                f"{_WORDS[self._kind]} {branch!r} at {self._store.url} was moved by another writer in the meantime"
            )
        self._known[branch] = pointer.seq
        self._write_hint(pointer)
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
            texts = self._store.get_many([self._path(branch, seq) for seq in wanted])
            for seq, text in zip(wanted, texts, strict=True):
                if text is None:
                    high = seq
                    break
                found = (seq, text)
            if high is None and wanted[-1] > MAX_SEQ:
                raise CorruptDataError(f"the log of {_WORDS[self._kind]} {branch!r} at {self._store.url} has no end")
            if high is None:
                step *= 4
                position = wanted[-1] + step
        while found is not None and high - found[0] > 1:
            middle = (found[0] + high) // 2
            text = self._store.get_many([self._path(branch, middle)])[0]
            if text is None:
                high = middle
            else:
                found = (middle, text)
        # Only the head is looked into: a damaged older entry does no harm.
        return None if found is None else decode_pointer(found[1], branch, found[0], self._kind)

    def all_names(self) -> list[str]:
        """Names of all branches or tags that ever were, deleted ones included."""
        return sorted(self._names())

    def _path(self, branch: str, seq: int) -> str:
        return pointer_path(branch, seq, self._kind)

    def _names(self) -> Iterable[str]:
        if not self._store.can_list:
            # Where the hint is missing, the branch that every repository starts with can still be found by its name.
            return sorted(self._read_hint()) or ([FIRST_BRANCH] if self._kind == "heads" else [])
        return [name for name in self._store.list_children(f"refs/{self._kind}") if is_name(name)]

    def _read_hint(self) -> dict[str, int]:
        return decode_hint(self._store.get_many([HINT_PATH])[0]).bounds[self._kind]

    def _write_hint(self, moved: Pointer) -> None:
        """Best effort: whoever reads an old hint only looks a little longer."""
        try:
            hint = decode_hint(self._store.get_many([HINT_PATH])[0])
            mine = hint.bounds[self._kind]
            for name, seq in self._known.items():
                mine[name] = max(seq, mine.get(name, 0))
            if self._kind == "heads":
                hint.place(moved.branch, moved.commit)
            self._store.put(HINT_PATH, hint.encode())
        except StoreError:
            pass


def fresh_hint(store: ObjectStore) -> bytes:
    """The hint's bytes as they would be had no writer died before it wrote them: every branch and tag is named.

    Raises:
        UnsupportedStoreError: the store cannot list.
        CorruptDataError: the newest entry of a log is damaged.
    """
    hint = Hint()
    for kind in _WORDS:
        log = PointerLog(store, kind=kind)
        for name in log.all_names():
            head = log.head(name)
            if head is not None:
                hint.bounds[kind][name] = head.seq
                if kind == "heads":
                    hint.place(name, head.commit)
    return hint.encode()


def written_at(pointer: Pointer) -> datetime:
    """When an entry was written, UTC. Raises CorruptDataError where it does not say."""
    try:
        return datetime.fromisoformat(pointer.time).astimezone(timezone.utc)
    except (TypeError, ValueError, OverflowError) as error:
        raise CorruptDataError(f"pointer {pointer.seq} of {pointer.branch!r} has no valid time: {error}") from error
