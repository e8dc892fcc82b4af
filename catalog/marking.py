"""Marking: every commit, records object and pack that some commits reach, each node visited once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import xxhash

from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError, HangarError, ObjectNotFoundError
from hangar_cloud.backends.object_source import Extent, ObjectSource
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.commits import commit_path, decode_commit
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.records import NodeRef, records_path
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import decode_inner, decode_leaf
from hangar_cloud.catalog.whereabouts import Whereabouts, identity

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COMMITS_AT_ONCE: Final = 256
_NODES_AT_ONCE: Final = 64
_ROUNDS_BEFORE_AHEAD: Final = 8

Progress = Callable[[int], None]
Tree = tuple[NodeRef, ColumnSchema]
Found = list[NodeRef]


class CommitFacts(NamedTuple):
    """What marking needs of a commit: its parents' digests and the roots of its record trees."""

    parents: tuple[bytes, ...]
    trees: tuple[Tree, ...]


class CommitReader:
    """Reads commits as the store has them, not as a cache does.

    Args:
        store: where the repository is.
        listed: digests of commits that are there. A long history is one round trip a commit if it is walked from
            child to parent, so once it proves long, these are read along.
    """

    def __init__(self, store: ObjectStore, listed: Iterable[bytes] = ()) -> None:
        self._store = store
        self._unread: Iterator[bytes] = iter(listed)
        self._ahead: dict[bytes, CommitFacts | HangarError | None] = {}
        self._trees: dict[tuple[bytes, int, ColumnSchema], Tree] = {}
        self._rounds = 0

    def read(self, digests: Sequence[bytes]) -> list[CommitFacts | HangarError | None]:
        """Commits, None where one is not there, and what is wrong where one is damaged."""
        wanted = [digest for digest in digests if digest not in self._ahead]
        if wanted:
            self._rounds += 1
            if self._rounds > _ROUNDS_BEFORE_AHEAD:
                more = (digest for digest in self._unread if digest not in self._ahead)
                wanted = list(dict.fromkeys([*wanted, *islice(more, _COMMITS_AT_ONCE)]))
            texts = self._store.get_many([commit_path(digest.hex()) for digest in wanted])
            self._ahead.update((d, self._facts(d, text)) for d, text in zip(wanted, texts, strict=True))
        return [self._ahead.pop(digest) for digest in digests]

    def _facts(self, digest: bytes, text: bytes | None) -> CommitFacts | HangarError | None:
        if text is None:
            return None
        try:
            commit = decode_commit(text, digest.hex())
            parents = tuple(bytes.fromhex(parent) for parent in commit.parents)
        except HangarError as error:
            return error
        except ValueError as error:
            return CorruptDataError(f"commit {digest.hex()[:12]} is damaged: {error}")
        trees = (
            self._trees.setdefault(
                (entry.root.place.object, entry.root.place.offset, entry.schema), (entry.root, entry.schema)
            )
            for entry in commit.trees.values()
            if entry.root is not None
        )
        return CommitFacts(parents, tuple(trees))


class Marker:
    """Collects what is reachable. Memory: some hundred bytes for each commit, node and object.

    Args:
        commits: reads commits.
        source: reads record trees.
        partial: True where nodes may be absent because a remote has them; what those reach is not marked then.
        whereabouts: of the store; what is marked are the objects that hold the bytes by now.
        progress: called with the number of bytes read.

    `commits` (32-byte digests), `records` and `packs` (16-byte ids) are what was marked so far.
    """

    def __init__(
        self,
        commits: CommitReader,
        source: ObjectSource,
        whereabouts: Whereabouts,
        *,
        partial: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._reader = commits
        self._source = source
        self._whereabouts = whereabouts
        self._partial = partial
        self._progress = progress
        self._seen: set[bytes] = set()
        self._unmoved: set[bytes] = set()
        self.commits: set[bytes] = set()
        self.records: set[bytes] = set()
        self.packs: set[bytes] = set()

    def mark(self, starts: Iterable[str], *, tolerant: bool = False, collected: bool = False) -> None:
        """Mark commits and all that they reach.

        Args:
            starts: digests of commits.
            tolerant: pass over what is missing or damaged; for commits that nothing refers to.
            collected: pass over those of `starts` that are missing; for what branches were once, which an earlier
                collection may have removed.

        Raises:
            CorruptDataError: something that is reachable is damaged or missing.
        """
        waiting = list(filter(None, (_digest(text, tolerant) for text in starts)))
        excused = set(waiting) if collected else set()
        while waiting:
            batch = [d for d in dict.fromkeys(waiting[-_COMMITS_AT_ONCE:]) if d not in self.commits]
            del waiting[-_COMMITS_AT_ONCE:]
            trees: dict[Tree, None] = {}
            for digest, facts in zip(batch, self._reader.read(batch), strict=True):
                if not isinstance(facts, CommitFacts):
                    if tolerant or (facts is None and digest in excused):
                        continue
                    path = commit_path(digest.hex())
                    raise _unusable(path, facts) from (facts or ObjectNotFoundError(f"{path} is not there"))
                self.commits.add(digest)
                waiting += [parent for parent in facts.parents if parent not in self.commits]
                trees |= dict.fromkeys(facts.trees)
            self._mark_trees(list(trees), tolerant)

    def mark_pack(self, pack: bytes) -> None:
        """Mark a pack of which not all uses are known, and whatever may hold bytes of it by now."""
        self.packs |= {identity(path) for path in self._whereabouts.holders(pack_path(pack))}

    def follow(self) -> None:
        """Mark where bytes of marked objects were moved to since these were marked. Raises as `mark`."""
        self._unmoved.clear()
        for move in self._whereabouts.update():
            if move.to is not None:
                marked = self.packs if move.path.startswith("packs/") else self.records
                if identity(move.path) in marked:
                    marked.add(identity(move.to))

    def _take_node(self, ref: NodeRef) -> None:
        """Mark what holds a node. Called once for each place of a node."""
        place = ref.place
        path = records_path(place.object)
        if not self._whereabouts.moved(path):
            self.records.add(place.object)
            return
        spot = self._whereabouts.spot(path, place.offset, place.length)
        if spot.path is not None:
            self.records.add(identity(spot.path))

    def _take_leaf(self, leaf: Leaf) -> None:
        """Mark what holds a leaf's samples."""
        # Versions of a leaf name mostly the same packs, thousands of them after thousands of commits of a sample each.
        packs = leaf.packs() - self._unmoved
        moved = {pack for pack in packs if self._whereabouts.moved(pack_path(pack))}
        self._unmoved |= packs - moved
        self.packs |= packs - moved
        if moved:
            for pack, offset, length, _ in leaf.extents():
                spot = self._whereabouts.spot(pack_path(pack), offset, length)
                if spot.path is not None:
                    self.packs.add(identity(spot.path))

    def _mark_trees(self, waiting: list[Tree], tolerant: bool) -> None:
        while waiting:
            batch = [tree for tree in waiting[-_NODES_AT_ONCE:] if self._is_new(tree[0])]
            del waiting[-_NODES_AT_ONCE:]
            for (ref, schema), found in zip(batch, self._read(batch, tolerant), strict=True):
                self._take_node(ref)
                if found is None:
                    continue
                self._seen.add(_node_name(ref))
                if self._progress is not None:
                    self._progress(ref.place.length)
                waiting += [(child, schema) for child in found if self._is_new(child)]

    def _is_new(self, ref: NodeRef) -> bool:
        return _node_name(ref) not in self._seen

    def _read(self, trees: Sequence[Tree], tolerant: bool) -> list[Found | None]:
        extents = [self._extent(*tree) for tree in trees]
        try:
            return list(self._source.read_many(extents))
        except (CorruptDataError, DataNotLocalError, ObjectNotFoundError):
            return [self._read_one(extent, tolerant) for extent in extents]

    def _read_one(self, extent: Extent[Found], tolerant: bool) -> Found | None:
        try:
            return self._source.read(extent)
        except (CorruptDataError, DataNotLocalError, ObjectNotFoundError) as error:
            if tolerant or (self._partial and isinstance(error, DataNotLocalError)):
                return None
            raise _unusable(extent.path, error) from error

    def _extent(self, ref: NodeRef, schema: ColumnSchema) -> Extent[Any]:
        """A node's children; a leaf has none, and is taken in at once, since many of them together are large."""
        place = ref.place

        def decode(data: memoryview, fetched: bool) -> Found:
            if ref.level > 0:
                return decode_inner(data, ref.level, place.object)
            self._take_leaf(decode_leaf(data, schema, ref.count))
            return []

        def verify(data: memoryview, fetched: bool) -> Found:
            if xxhash.xxh3_64_intdigest(data) != place.checksum:
                raise CorruptDataError("a record segment fails its checksum")
            return decode(data, fetched)

        return Extent(records_path(place.object), place.offset, place.length, verify, decode)


def commits_listed(store: ObjectStore) -> Iterator[bytes]:
    """Digests of all commits in a store, by its listing."""
    for info in store.list("commits/"):
        name = info.path.rpartition("/")[2].removesuffix(".json")
        if _DIGEST.fullmatch(name):
            yield bytes.fromhex(name)


def _digest(text: str, tolerant: bool) -> bytes | None:
    if _DIGEST.fullmatch(text):
        return bytes.fromhex(text)
    if tolerant:
        return None
    raise CorruptDataError(
        f"a branch or tag is at {text[:80]!r}, which is no commit: nothing was deleted. Run verify_repo_integrity "
        "(`hangar verify`) to see what is damaged"
    )


def _node_name(ref: NodeRef) -> bytes:
    # By place, not by digest: equal nodes may lie in several objects, and each of these is referred to.
    return ref.place.object + ref.place.offset.to_bytes(8, "big")


def _unusable(path: str, error: HangarError | None) -> CorruptDataError:
    why = "is missing" if error is None else f"cannot be read ({error})"
    return CorruptDataError(
        f"{path} is referred to and {why}, so it is not known what it refers to in turn: nothing was deleted. Run "
        "verify_repo_integrity (`hangar verify`) to see what else is damaged, and repair it first"
    )
