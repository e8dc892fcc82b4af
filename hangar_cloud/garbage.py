"""What a garbage collection found: which objects nothing refers to, and what became of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.commits import commit_path
from hangar_cloud.catalog.marking import CommitFacts, CommitReader, Marker
from hangar_cloud.catalog.records import records_path
from hangar_cloud.reports import human_size

# In this order they may be deleted: what refers to something goes before it.
KINDS: Final = ("commits", "records", "packs")
_NAMES: Final = {
    "commits": re.compile(r"commits/([0-9a-f]{64})\.json", re.ASCII),
    "records": re.compile(r"records/([0-9a-f]{32})\.parquet", re.ASCII),
    "packs": re.compile(r"packs/[0-9a-f]{2}/([0-9a-f]{32})\.pack", re.ASCII),
}
_KNOWN_FOLDERS: Final = frozenset({"hangar.json", "refs", "gc", "arrays", "moves", "purged", *KINDS})
_BATCH: Final = 500


class Count(NamedTuple):
    """A number of objects and their bytes."""

    objects: int = 0
    bytes: int = 0

    def plus(self, size: int) -> Count:
        """One object more."""
        return Count(self.objects + 1, self.bytes + size)

    def __str__(self) -> str:
        return f"{self.objects:,} ({human_size(self.bytes)})"


@dataclass
class GarbageReport:
    """The outcome of `Repository.gc`.

    Attributes:
        dry_run: True if nothing was deleted, only found.
        removed: what was deleted (or, in a dry run, would be), by kind: "commits", "records", "packs".
        names: the object names of that, in the order of deletion.
        young: what nothing refers to and was kept, since it is younger than the grace time, or since a young commit
            refers to it.
        rescued: names of what nothing referred to at first, and a writer then did.
        unknown: number of objects that no version known here writes; they are left alone.
        reachable: how many objects of each kind are referred to.
    """

    dry_run: bool
    removed: dict[str, Count] = field(default_factory=lambda: dict.fromkeys(KINDS, Count()))
    names: list[str] = field(default_factory=list)
    young: Count = field(default_factory=Count)
    rescued: list[str] = field(default_factory=list)
    unknown: int = 0
    reachable: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> Count:
        """What was deleted, or would be, of all kinds together."""
        counts = self.removed.values()
        return Count(sum(count.objects for count in counts), sum(count.bytes for count in counts))

    def remove(self, item: Unreferenced) -> None:
        """Note an object that was deleted, or would be."""
        self.removed[item.kind] = self.removed[item.kind].plus(item.size)
        self.names.append(item.name)

    def __repr__(self) -> str:
        lines = ["Hangar Garbage Collection" + (" (dry run: nothing was deleted)" if self.dry_run else "")]
        verb = "Would delete" if self.dry_run else "Deleted"
        lines.append(f"    {verb:<13}: {self.total}")
        lines += [f"        {kind:<9}: {self.removed[kind]}" for kind in KINDS if self.removed[kind].objects]
        lines.append(f"    Kept, young  : {self.young}")
        if self.rescued:
            lines.append(f"    Rescued      : {len(self.rescued):,} that a writer took up meanwhile")
        if self.unknown:
            lines.append(f"    Left alone   : {self.unknown:,} objects of unknown names")
        return "\n".join(lines)


class Unreferenced(NamedTuple):
    """An object that nothing refers to. `identity` is what is in its name."""

    kind: str
    identity: bytes
    size: int

    @property
    def name(self) -> str:
        """Its object name."""
        return object_name(self.kind, self.identity)


def object_name(kind: str, identity: bytes) -> str:
    """The name of an object of a kind."""
    if kind == "commits":
        return commit_path(identity.hex())
    return records_path(identity) if kind == "records" else pack_path(identity)


def commits_in(names: Iterable[str]) -> list[str]:
    """Digests of those objects that are commits."""
    return [match[1] for match in map(_NAMES["commits"].fullmatch, names) if match]


class Survey:
    """Finds what nothing refers to.

    Args:
        store: where the repository is.
        now: time of the store's clock, in seconds since 1970.
        grace: seconds; younger objects are kept.
        report: takes note of what is kept or left alone.
    """

    def __init__(self, store: ObjectStore, now: float, grace: float, report: GarbageReport) -> None:
        self._store = store
        self._now = now
        self._grace = grace
        self._report = report
        self._commits: dict[bytes, tuple[int, bool]] = {
            identity: (size, old) for identity, size, old in self._listed("commits")
        }
        """Size, and whether it is old enough to go."""

    @property
    def commits(self) -> Iterable[bytes]:
        """Digests of all commits in the store."""
        return self._commits

    def young_commits(self) -> list[str]:
        """Commits that must stay for their age. Whoever finds a commit in a store relies on all that it refers to."""
        return [identity.hex() for identity, (_, old) in self._commits.items() if not old]

    def newcomers(self) -> list[str]:
        """Commits that are in the store by now and were not when this was made."""
        matches = (_NAMES["commits"].fullmatch(info.path) for info in self._store.list("commits/"))
        return [match[1] for match in matches if match is not None and bytes.fromhex(match[1]) not in self._commits]

    def unreferenced(self, referred: dict[str, set[bytes]], young: Marker, *, whole: bool) -> list[list[Unreferenced]]:
        """What may be deleted, in batches, in the order in which they may be; nothing in a batch refers to the rest.

        Args:
            referred: what is referred to, by kind.
            young: with what young commits refer to marked too.
            whole: whether everything that is referred to has to be in the store.

        Raises:
            CorruptDataError: something that is referred to is missing.
        """
        marked = {"commits": young.commits, "records": young.records, "packs": young.packs}
        found = {kind: list(self._unmarked(kind, referred[kind], marked[kind], whole)) for kind in KINDS}
        self._report.reachable = {kind: len(referred[kind]) for kind in KINDS}
        self._count_unknown_folders()
        commits = {item.identity: item for item in found["commits"]}
        batches = [[commits[identity] for identity in level] for level in generations(self._store, commits)]
        # Records refer to each other, but nothing relies on a records object that is not in a commit to be complete.
        batches += [found["records"], found["packs"]]
        return [batch[i : i + _BATCH] for batch in batches for i in range(0, len(batch), _BATCH)]

    def _unmarked(self, kind: str, referred: set[bytes], marked: set[bytes], whole: bool) -> Iterator[Unreferenced]:
        unseen = set(referred)
        items = ((i, *about) for i, about in self._commits.items()) if kind == "commits" else self._listed(kind)
        for identity, size, old in items:
            unseen.discard(identity)
            if identity in referred:
                continue
            if old and identity not in marked:
                yield Unreferenced(kind, identity, size)
            else:
                self._report.young = self._report.young.plus(size)
        if whole:
            # What was written since the listing is not in it.
            gone = [name for name in (object_name(kind, i) for i in unseen) if not self._store.exists(name)]
            if gone:
                raise CorruptDataError(
                    f"{gone[0]} is referred to and is missing at {self._store.url}"
                    f"{f', like {len(gone) - 1} others' if len(gone) > 1 else ''}: nothing was deleted. Run "
                    "verify_repo_integrity (`hangar verify`) to see all that is damaged, and repair it first"
                )

    def _listed(self, kind: str) -> Iterator[tuple[bytes, int, bool]]:
        """Identity, size, and whether it is old enough to go, of each object of a kind."""
        for info in self._store.list(f"{kind}/"):
            match = _NAMES[kind].fullmatch(info.path)
            if match is None or object_name(kind, bytes.fromhex(match[1])) != info.path:
                self._report.unknown += 1
            else:
                yield bytes.fromhex(match[1]), info.size, self._now - info.modified.timestamp() >= self._grace

    def _count_unknown_folders(self) -> None:
        for name in self._store.list_children(""):
            if name not in _KNOWN_FOLDERS:
                self._report.unknown += 1


def generations(store: ObjectStore, digests: Iterable[bytes]) -> list[list[bytes]]:
    """Commits in groups: none comes after, or in the group of, one of its ancestors. Damaged ones come first."""
    wanted = list(digests)
    reader = CommitReader(store)
    parents: dict[bytes, list[bytes]] = {}
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        for digest, facts in zip(part, reader.read(part), strict=True):
            parents[digest] = list(facts.parents) if isinstance(facts, CommitFacts) else []
    children = dict.fromkeys(wanted, 0)
    for parent in chain.from_iterable(parents.values()):
        if parent in children:
            children[parent] += 1
    levels = []
    ready = [digest for digest, count in children.items() if count == 0]
    while ready:
        levels.append(ready)
        following = []
        for parent in chain.from_iterable(parents[digest] for digest in ready):
            if parent in children:
                children[parent] -= 1
                if children[parent] == 0:
                    following.append(parent)
        ready = following
    return levels
