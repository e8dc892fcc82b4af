"""Which samples a purge is about, and where they occur; nothing is changed here."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError, ObjectNotFoundError
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.branches import Branches
from hangar_cloud.catalog import history
from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.keys import RowKey, check_key, encode_key, key_range
from hangar_cloud.catalog.occurrences import Hit, Occurrences
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.tombstones import MAX_REASON, tombstone_digest
from hangar_cloud.collection import DEFAULT_KEEP_REFLOG
from hangar_cloud.errors import ColumnNotFoundError, InvalidArgumentError, SampleNotFoundError
from hangar_cloud.purge_report import PurgedSample
from hangar_cloud.roots import node_source, retained
from hangar_cloud.storage import Storage

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_UNREADABLE: Final = (CorruptDataError, DataNotLocalError, ObjectNotFoundError)


class Target(NamedTuple):
    """What a user asked to purge: a digest, or a key of a column, at one commit or at all."""

    digest: bytes | None
    column: str | None
    key: Any
    commit: str | None


class Found(NamedTuple):
    """Where samples occur: their rows, and what they are called."""

    hits: list[Hit]
    samples: list[PurgedSample]


def check_reason(reason: object) -> str:
    """The reason of a purge. Raises InvalidArgumentError if it is none."""
    if not isinstance(reason, str) or not reason.strip() or _CONTROL.search(reason) or not _is_text(reason):
        raise InvalidArgumentError(
            f"a purge needs a reason: one line of text, which everybody will see who reads the sample; not {reason!r}"
        )
    if len(reason) > MAX_REASON:
        raise InvalidArgumentError(f"a reason has at most {MAX_REASON:,} characters, and this has {len(reason):,}")
    return reason.strip()


def check_target(digest: object, column: object, key: object, subkey: object, commit: str | None) -> Target:
    """What was asked for. Raises InvalidArgumentError if it cannot be meant."""
    if (digest is None) == (column is None) or (column is None) != (key is None):
        raise InvalidArgumentError("give either digest=, or column= and key=, of the sample that is to be purged")
    if digest is not None:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise InvalidArgumentError(
                f"the digest of a sample has 64 hexadecimal digits, and this is {digest!r}; purge(column=, key=, "
                "dry_run=True) tells those of a key"
            )
        if subkey is not None or commit is not None:
            raise InvalidArgumentError("a digest names a sample wherever it is; subkey= and commit= go with column=")
        return Target(bytes.fromhex(digest), None, None, None)
    if not isinstance(column, str):
        raise InvalidArgumentError(f"column must be the name of a column, not {column!r}")
    parts = key if isinstance(key, tuple) else (key,) if subkey is None else (key, subkey)
    if len(parts) not in (1, 2) or (isinstance(key, tuple) and subkey is not None):
        raise InvalidArgumentError(f"{key!r} is not the key of a sample; of a nested column, give key= and subkey=")
    checked = tuple(check_key(part) for part in parts)
    return Target(None, column, checked if len(checked) == 2 else checked[0], commit)


class Targets:
    """Looks through the commits of a repository.

    Args:
        storage: of the repository.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._branches = Branches(storage)
        self.source = _source(storage)

    def digests(self, target: Target) -> frozenset[bytes]:
        """Digests of all samples that a target means: as given, or as their tombstones are named.

        Raises:
            ColumnNotFoundError: no commit has the column.
            SampleNotFoundError: no commit has the key.
        """
        if target.digest is not None:
            return frozenset([target.digest])
        commits = self._in_use() if target.commit is None else [self._branches.find(target.commit)]
        known = False
        found: set[bytes] = set()
        for digest in commits:
            entry = self._storage.commit(digest).trees.get(str(target.column))
            if entry is None:
                continue
            known = True
            found |= {tombstone_digest(encode_key(key), row.identity) for key, row in self._rows(entry, target.key)}
        if not known and target.column != METADATA:
            raise ColumnNotFoundError(
                f"no commit that was looked at has a column {target.column!r}. Metadata is purged as column ''"
            )
        if not found:
            raise SampleNotFoundError(f"{_named(target)} has no sample {target.key!r} at any commit that was looked at")
        return frozenset(found)

    def find(self, digests: frozenset[bytes], *, here: bool = False) -> Found:
        """Every row of some samples in any commit that is there, also in those that nothing refers to any more.

        Args:
            digests: of the samples, their own or as their tombstones are named.
            here: look at what is on this machine only; a clone fetches nothing for it.

        Raises:
            CorruptDataError: a commit that is in use cannot be read, so that nobody knows what is in it.
        """
        looking = Occurrences(self.source, digests, here=here)
        in_use = dict.fromkeys(self._in_use())
        names: dict[tuple[str, Any, bytes], list[str]] = {}
        hits: dict[Hit, None] = {}
        for digest in [*in_use, *(d for d in self._listed() if d not in in_use)]:
            try:
                trees = self._storage.commit(digest).trees
                found = [(column, hit) for column, entry in trees.items() for hit in looking.of(entry)]
            except _UNREADABLE:
                if digest in in_use:
                    raise
                continue
            for column, hit in found:
                hits[hit] = None
                commits = names.setdefault((column, hit.key, hit.digest), [])
                if commits[-1:] != [digest]:
                    commits.append(digest)
        ordered = sorted(names, key=lambda name: (name[0], encode_key(name[1]), name[2]))
        samples = [PurgedSample(c, k, d.hex(), tuple(names[c, k, d])) for c, k, d in ordered]
        return Found(list(hits), samples)

    def referring(self, commits: Iterable[str]) -> tuple[list[str], list[str]]:
        """Branches and tags whose history has any of these commits."""
        wanted = set(commits)

        def holds(head: str) -> bool:
            return not wanted.isdisjoint(history.ancestors([head], self._storage.commit))

        branches = sorted(name for name, head in self._branches.heads().items() if holds(head))
        return branches, [tag.name for tag in self._storage.tags().all() if holds(tag.digest)]

    def _rows(self, entry: ColumnEntry, key: Any) -> list[tuple[RowKey, Row]]:
        nodes, schema = self._storage.nodes, entry.schema
        nested = schema.column_layout == "nested"
        if nested and not isinstance(key, tuple):
            return list(nodes.range(entry.root, schema, *key_range(key)))
        if not nested and isinstance(key, tuple):
            return []
        row = nodes.find(entry.root, schema, key)
        return [] if row is None else [(key, row)]

    def _in_use(self) -> list[str]:
        """Every commit behind a branch or tag, or what a branch was within the time of its log."""
        starts = list(retained(self._storage, time.time(), DEFAULT_KEEP_REFLOG.total_seconds()))
        there = [digest for digest in dict.fromkeys(starts) if self._is_there(digest)]
        return list(history.ancestors(there, self._storage.commit))

    def _is_there(self, digest: str) -> bool:
        # What the log of a branch names may have been collected.
        try:
            self._storage.commit(digest)
        except (ObjectNotFoundError, DataNotLocalError):
            return False
        return True

    def _listed(self) -> list[str]:
        store = self._storage.store
        names = store.list_children("commits") if store.can_list else []
        found = [name.removesuffix(".json") for name in names]
        return [digest for digest in found if _DIGEST.fullmatch(digest)]


def _source(storage: Storage) -> ObjectSource:
    """Reads records where they are, those of a bucket not from the cache of this machine."""
    return node_source(storage) if storage.is_bucket else storage.source


def _named(target: Target) -> str:
    return "metadata" if target.column == METADATA else f"column {target.column!r}"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
