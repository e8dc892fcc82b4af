"""Integrity of record trees: every node that a commit reaches, once, against its digest and the rules of its shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import xxhash
from blake3 import blake3

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError, HangarError, ObjectNotFoundError
from hangar_cloud.backends.held_objects import Held, HeldObjects
from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.portions import portions
from hangar_cloud.backends.sample_spool import SampleSpool
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.findings import Finding
from hangar_cloud.catalog.fsck_rows import children_faults, decode_rows, leaf_faults
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.record_writer import OBJECT_ID_LENGTH
from hangar_cloud.catalog.records import LeafEntry, NodeRef, inner_digest, lacks_literal, leaf_digest, records_path
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import decode_inner
from hangar_cloud.catalog.whereabouts import identity

_BATCH_BYTES: Final = 8 * 1024 * 1024
_HASH_BYTES: Final = 8 * 1024 * 1024

Report = Callable[[Finding], None]


class LeafOwner(NamedTuple):
    """A leaf whose rows ask for packed samples, and by which column and commit it was met first."""

    column: str
    commit: str
    schema: ColumnSchema
    ref: NodeRef


class TreeCheck:
    """Checks record trees, each node once, and hands on what their rows ask of packs.

    Args:
        held: where records objects are read from.
        spool: takes the packed samples.
        report: takes the findings.
        progress: called with numbers of bytes as they are read.
        purged: digests of samples whose bytes need not be anywhere.

    `owners` are the leaves by the numbers that the spool's samples carry; `objects` the records objects that were met;
    `remote_rows` the rows whose records are not on this machine; `purged_seen` the purged samples that were met;
    `unchecked` the number of leaves whose digests nobody can make without the values that were purged from them.
    """

    def __init__(
        self,
        held: HeldObjects,
        spool: SampleSpool,
        report: Report,
        progress: Callable[[int], None],
        purged: frozenset[bytes] = frozenset(),
    ) -> None:
        self._held = held
        self._purged = purged
        self.purged_seen: set[bytes] = set()
        self.unchecked = 0
        self._spool = spool
        self._report = report
        self._progress = progress
        self._schemas: dict[ColumnSchema, int] = {}
        # The last key below each node seen, None where it could not be read.
        self._seen: dict[bytes, bytes | None] = {}
        self._told: set[bytes] = set()
        self._kept: dict[int, Leaf] = {}
        self.owners: list[LeafOwner] = []
        self.objects: dict[str, None] = {}
        self.remote_rows = 0

    def check(self, column: str, entry: ColumnEntry, commit: str) -> None:
        """Check the tree of one column at one commit, as far as it was not seen before."""
        if entry.root is not None:
            _ColumnCheck(self, column, commit, entry.schema).nodes([entry.root], is_root=True)

    def whole_objects(self) -> None:
        """Check that every records object met is, as a whole, what its name says."""
        for path in self.objects:
            info = self._held.info(path)
            if info is None:
                continue
            hasher = blake3()
            for offset in range(0, info.size, _HASH_BYTES):
                held = self._held.read_each([(path, offset, min(_HASH_BYTES, info.size - offset))])[0]
                hasher.update(held.data or b"")
                self._progress(len(held.data or b""))
            if hasher.digest(length=OBJECT_ID_LENGTH) != identity(path):
                message = f"the bytes of a records object do not match its name{self._held.origin(path)}"
                self._report(Finding("damaged", path, message=message))

    def owner_of(self, leaf: int, row: int) -> tuple[LeafOwner, RowKey | None]:
        """The leaf of that number, and the key of one of its rows."""
        owner = self.owners[leaf]
        if leaf not in self._kept:
            place = owner.ref.place
            held = self._held.read_each([(records_path(place.object), place.offset, place.length)])[0]
            if held.data is None:
                return owner, None
            self._kept = {leaf: decode_rows(held.data, owner.schema)}  # the next one asked for is mostly of the same
        return owner, self._kept[leaf].keys[row]

    def object_of(self, ref: NodeRef) -> str | None:
        """The name of the object that a node really lies in, None if it lies nowhere any more."""
        place = ref.place
        return self._held.locate(records_path(place.object), place.offset, place.length).path

    def name_of(self, ref: NodeRef, schema: ColumnSchema, is_root: bool) -> bytes:
        """A short name of a node together with all that is expected of it."""
        number = self._schemas.setdefault(schema, len(self._schemas))
        return blake3(repr((number, ref, is_root)).encode()).digest(length=16)


class _ColumnCheck:
    """The check of one column at one commit."""

    def __init__(self, trees: TreeCheck, column: str, commit: str, schema: ColumnSchema) -> None:
        self._trees = trees
        self._column = column
        self._commit = commit
        self._schema = schema

    def nodes(self, refs: Sequence[NodeRef], *, is_root: bool = False) -> list[bytes | None]:
        """Check nodes and what is below them; the last key below each, None where it could not be read."""
        seen, names = self._trees._seen, [self._trees.name_of(ref, self._schema, is_root) for ref in refs]
        fresh = [(ref, name) for ref, name in zip(refs, names, strict=True) if name not in seen]
        for batch in portions(fresh, lambda one: one[0].place.length, _BATCH_BYTES):
            requests = [(records_path(ref.place.object), ref.place.offset, ref.place.length) for ref, _ in batch]
            for (ref, name), held in zip(batch, self._trees._held.read_each(requests), strict=True):
                seen[name] = self._node(ref, held, is_root)
        return [seen[name] for name in names]

    def _node(self, ref: NodeRef, held: Held, is_root: bool) -> bytes | None:
        trees = self._trees
        path = trees.object_of(ref) or records_path(ref.place.object)
        trees.objects[path] = None
        if held.data is not None and not held.rewritten and xxhash.xxh3_64_intdigest(held.data) != ref.place.checksum:
            if not held.sparse:
                self._tell(ref, "damaged", f"a record segment at byte {ref.place.offset} fails its checksum")
                return None
            held = Held(None, trees._held.absence(path, [(ref.place.offset, ref.place.length)]))
        if held.data is None:
            self._absent(ref, held.error)
            return None
        trees._progress(len(held.data))
        try:
            if ref.level > 0:
                return self._inner(ref, held.data, is_root)
            return self._leaf(ref, decode_rows(held.data, self._schema), held.rewritten)
        except CorruptDataError as error:
            self._tell(ref, "damaged", f"a node at byte {ref.place.offset} is not readable: {error}")
            return None

    def _absent(self, ref: NodeRef, error: HangarError | None) -> None:
        if error is None:
            self._trees.remote_rows += ref.count
        elif not isinstance(error, ObjectNotFoundError):
            self._tell(ref, "damaged", str(error))
        elif ref.place.object not in self._trees._told:
            # Once for each object, however many of its nodes are wanted.
            self._trees._told.add(ref.place.object)
            self._tell(ref, "missing", str(error))

    def _inner(self, ref: NodeRef, data: bytes, is_root: bool) -> bytes | None:
        children = decode_inner(data, ref.level, ref.place.object)
        try:
            right = inner_digest(ref.level, children) == ref.digest
        except OverflowError as error:
            raise CorruptDataError(str(error)) from error
        if not right:
            self._tell(ref, "digest", f"the inner node at byte {ref.place.offset} does not match its digest")
        for fault in children_faults(ref, children, is_root):
            self._tell(ref, "tree", fault)
        lasts = self.nodes(children)
        for last, after in zip(lasts, children[1:], strict=False):
            if last is not None and last >= after.first:
                self._tell(after, "tree", "a node begins before the end of the one before it")
        return lasts[-1]

    def _leaf(self, ref: NodeRef, leaf: Leaf, rewritten: bool) -> bytes:
        rows = leaf.entries()
        if leaf_digest(rows) == ref.digest:
            pass
        elif rewritten and self._lacks_purged_literals(rows):
            self._trees.unchecked += 1
        else:
            self._tell(ref, "digest", f"the leaf at byte {ref.place.offset} does not match its digest")
        for fault in leaf_faults(ref, leaf.keys, rows, self._schema):
            self._tell(ref, *fault)
        number = len(self._trees.owners)
        for i, (_, row) in enumerate(rows):
            if row.place is not None and row.identity[1:] in self._trees._purged:
                self._trees.purged_seen.add(row.identity[1:])
            elif row.place is not None:
                sample = PackedSample(self._found(row.place), row.identity[1:], self._schema.prefix(row.shape))
                self._trees._spool.add(sample, number, i)
        if any(row.place is not None for _, row in rows):
            self._trees.owners.append(LeafOwner(self._column, self._commit, self._schema, ref))
        return rows[-1][0]

    def _lacks_purged_literals(self, rows: Sequence[LeafEntry]) -> bool:
        """Whether the digest of a leaf cannot be made any more, and tombstones say why."""
        lacking = [row.identity[1:] for _, row in rows if lacks_literal(row)]
        return bool(lacking) and self._trees._purged.issuperset(lacking)

    def _found(self, place: Place) -> Place:
        """Where a sample really is, which is what has to be checked."""
        path = pack_path(place.pack)
        spot = self._trees._held.locate(path, place.offset, place.stored)
        if spot.path is None or spot.path == path:
            return place
        return place._replace(pack=identity(spot.path), offset=spot.offset, stored=spot.length)

    def _tell(self, ref: NodeRef, kind: str, message: str, key: Any = None) -> None:
        path = self._trees.object_of(ref) or records_path(ref.place.object)
        message += self._trees._held.origin(path)
        self._trees._report(Finding(kind, path, self._column, key, self._commit, message))
