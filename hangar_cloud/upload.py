"""Pushing: getting objects of a local repository into a remote store, and then moving a pointer there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError, HangarError, ObjectNotFoundError
from hangar_cloud.backends.move_log import MoveLog
from hangar_cloud.backends.packs import file_pack_id, pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog import history
from hangar_cloud.catalog.commits import ColumnEntry, Commit, commit_path
from hangar_cloud.catalog.errors import HeadMovedError
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.live_extents import LiveExtent, LiveExtents
from hangar_cloud.catalog.moves_file import decode_moves
from hangar_cloud.catalog.pointers import Pointer, PointerLog
from hangar_cloud.catalog.record_writer import OBJECT_ID_LENGTH
from hangar_cloud.catalog.records import NodeRef, records_path
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH, decode_repository_file
from hangar_cloud.catalog.tombstones import listed_tombstones
from hangar_cloud.catalog.watch import Watch, land, settle
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.progress import byte_progress
from hangar_cloud.purged_remotes import carry_tombstones, purged_in, refuse_alive, refuse_purged
from hangar_cloud.storage import Storage
from hangar_cloud.upload_moved import MovedUpload

_PARALLEL: Final = 4

T = TypeVar("T")
N = TypeVar("N", bound="Needed")


def push(
    storage: Storage, store: ObjectStore, branch: str, head: str, there: Pointer | None, author: str, action: str
) -> None:
    """Upload what `store` lacks of a branch: packs, records, commits, and then its pointer.

    Raises:
        HeadMovedError: another writer moved the remote branch meanwhile.
        InvalidArgumentError: another repository was pushed there meanwhile.
    """
    pointers = PointerLog(store, author)
    expected = there if there is not None else pointers.head(branch)
    try:
        living = None if there is None else there.commit
        push_history(storage, store, head, lambda: pointers.move(branch, expected, head, action), living)
    except HeadMovedError as error:
        raise HeadMovedError(f"{error}. Nothing was lost: fetch the branch, merge it, and push again") from error


def push_history(
    storage: Storage, store: ObjectStore, head: str, move: Callable[[], T], living: str | None = None
) -> T:
    """Upload what `store` lacks of a commit and of all that came before it, and then move a pointer to it.

    Args:
        storage: of the repository that has it.
        store: where to.
        head: the commit.
        move: moves the pointer; fails if the branch is not at `living` any more.
        living: the commit that the branch is at in `store`, if it is there.

    Raises:
        InvalidArgumentError: another repository was pushed there meanwhile.
    """
    watch = Watch(store)
    upload = Upload(storage, store, head, watch, living)
    return land(watch, upload.run, lambda _: move())


def check_same_repository(storage: Storage, store: ObjectStore, text: bytes) -> None:
    """Raises InvalidArgumentError if a store's `hangar.json` is that of another repository."""
    theirs = decode_repository_file(text, store.url).id
    if theirs != storage.repository_id():
        raise InvalidArgumentError(
            f"{store.url} holds another repository (id {theirs[:8]}) than {storage.location}; use another URL, "
            "or clone it"
        )


class Upload:
    """The upload of a commit's history.

    Args:
        storage: of the repository that has it.
        store: where to.
        head: the commit.
        watch: of that store.
        living: a commit that certainly stays there.
    """

    def __init__(
        self, storage: Storage, store: ObjectStore, head: str, watch: Watch, living: str | None = None
    ) -> None:
        self._storage = storage
        self._store = store
        self._head = head
        self._watch = watch
        self._living = living
        self._missing: list[str] = []
        self._mine: set[str] = set()

    def run(self) -> tuple[set[str], str]:
        """Upload what the store lacks. May be repeated.

        Returns:
            names of all that was uploaded, or found to be there and relied on; and the commit.
        """
        self._store.ensure_writable()
        # A commit in a store stands for all that it refers to, so it comes after that is known to stay.
        names = {*settle(self._watch, lambda: (self._samples_and_records(), self._head))[0]}
        for digest in reversed(self._missing):
            self._store.put_if_absent(commit_path(digest), self._storage.commit(digest).encode())
            names.add(commit_path(digest))
        self._mark_repository()
        return names, self._head

    def _samples_and_records(self) -> set[str]:
        """Upload what the missing commits refer to; also gives the names of the commits that they stand on."""
        storage = self._storage
        commits = self._missing = self._missing_commits()
        self._mine.update(commits)
        parents = self._parents_there(commits) if commits else [self._head]
        if {*parents} - {self._living}:
            self._watch.announce([commit_path(parent) for parent in parents], None)
        there, here = listed_tombstones(self._store), listed_tombstones(storage.store)
        needed = self._needed(Needed(there ^ here), parents)
        packs = [pack_path(pack) for pack in needed.packs]
        records = [records_path(name) for name in needed.records]
        log = MoveLog(decode_moves)
        log.refresh(self._store.get_many)
        refuse_purged(self._store, log.moves, (found for found in needed.purged if found[0] in there))
        lacking = _upload(storage, self._store, packs, "pushing samples", log)
        lacking |= _upload(storage, self._store, records, "pushing records", log)
        names = {*packs, *records, *map(commit_path, parents)}
        if not lacking:
            return names
        carry_tombstones(storage, self._store, {digest for digest, path in needed.purged if path in lacking} & here)
        extents = self._needed(NeededExtents(lacking), parents).extents
        try:
            return (names - {*lacking}) | MovedUpload(storage, self._store, log).send(extents)
        except (ObjectNotFoundError, DataNotLocalError) as error:
            raise next((reason for reason in lacking.values() if reason is not None), error) from error

    def _needed(self, needed: N, parents: Sequence[str]) -> N:
        """What the missing commits refer to, beyond what is referred to by those that they stand on."""
        for parent in parents:
            needed.skip(self._storage, self._storage.commit(parent))
        for digest in reversed(self._missing):
            needed.add(self._storage, self._storage.commit(digest))
        return needed

    def _missing_commits(self) -> list[str]:
        """Commits behind the head that the store lacks, or did at first, children before parents.

        A commit that was there before has its whole history there: commits are uploaded parents first, after what
        they refer to, and collected children first, before that.
        """
        missing: dict[str, Commit] = {}
        waiting = [self._head]
        while waiting:
            digest = waiting.pop()
            if digest in missing or (digest not in self._mine and self._store.exists(commit_path(digest))):
                continue
            missing[digest] = self._storage.commit(digest)
            waiting += missing[digest].parents
        return [digest for digest in history.ancestors([self._head], self._storage.commit) if digest in missing]

    def _parents_there(self, missing: Sequence[str]) -> list[str]:
        absent = set(missing)
        parents = {parent for digest in missing for parent in self._storage.commit(digest).parents}
        return sorted(parents - absent)

    def _mark_repository(self) -> None:
        text = self._store.get_many([REPOSITORY_PATH])[0]
        if text is None:
            self._store.put_if_absent(REPOSITORY_PATH, self._storage.store.get(REPOSITORY_PATH))
            text = self._store.get(REPOSITORY_PATH)
        check_same_repository(self._storage, self._store, text)  # another one may have been pushed here meanwhile


class Needed:
    """The objects that some commits refer to.

    Args:
        purged: digests of samples that were purged on one side; `purged` says where they would be.
    """

    def __init__(self, purged: Collection[bytes] = ()) -> None:
        self._purged = purged
        self.purged: dict[tuple[bytes, str], None] = {}
        self.records: dict[bytes, None] = {}
        self.packs: dict[bytes, None] = {}
        self._seen: set[tuple[object, bytes]] = set()

    def skip(self, storage: Storage, commit: Commit) -> None:
        """Leave out what this commit refers to; its leaves are not read for it."""
        for entry in commit.trees.values():
            self._skip(storage, entry, entry.root)

    def add(self, storage: Storage, commit: Commit) -> None:
        """Take in what this commit refers to, beside what was seen before."""
        for entry in commit.trees.values():
            if entry.root is not None:
                self._add(storage, entry, entry.root)

    def _skip(self, storage: Storage, entry: ColumnEntry, ref: NodeRef | None) -> None:
        if ref is None or (entry.schema, ref.digest) in self._seen:
            return
        self._seen.add((entry.schema, ref.digest))
        if ref.level > 0:
            for child in storage.nodes.children(ref):
                self._skip(storage, entry, child)

    def _take_node(self, ref: NodeRef) -> None:
        self.records[ref.place.object] = None

    def _take_leaf(self, leaf: Leaf) -> None:
        self.packs |= dict.fromkeys(sorted(leaf.packs()))

    def _add(self, storage: Storage, entry: ColumnEntry, ref: NodeRef) -> None:
        if (entry.schema, ref.digest) in self._seen:
            return
        self._seen.add((entry.schema, ref.digest))
        self._take_node(ref)
        if ref.level == 0:
            leaf = storage.nodes.leaf(ref, entry.schema)
            self._take_leaf(leaf)
            found = dict.fromkeys(purged_in(leaf, ref, entry.schema, self._purged)) if self._purged else {}
            self.purged |= found
            if found:
                refuse_alive(storage, ref, entry.schema)
            return
        for child in storage.nodes.children(ref):
            self._add(storage, entry, child)


class NeededExtents(Needed):
    """The parts of some objects that commits refer to.

    Args:
        paths: names of these objects.
    """

    def __init__(self, paths: Collection[str]) -> None:
        super().__init__()
        self._paths = frozenset(paths)
        self.extents = LiveExtents()

    def _take_node(self, ref: NodeRef) -> None:
        place = ref.place
        if (path := records_path(place.object)) in self._paths:
            self.extents.add(path, LiveExtent(place.offset, place.length, place.checksum, True))

    def _take_leaf(self, leaf: Leaf) -> None:
        for pack, offset, length, digest in leaf.extents():
            if (path := pack_path(pack)) in self._paths:
                self.extents.add(path, LiveExtent(offset, length, int.from_bytes(digest[:8], "little"), False))


def _upload(
    storage: Storage, store: ObjectStore, paths: Sequence[str], what: str, log: MoveLog
) -> dict[str, HangarError | None]:
    """Upload whole objects, but for those that the store, by its log of moves, had and moved elsewhere.

    Returns:
        names of those, and of those that are nowhere whole, perhaps since they were repacked; and why they cannot be
        fetched.
    """
    lacking: dict[str, HangarError | None] = {}

    def send(path: str) -> None:
        if store.exists(path):
            return
        if path in log.moves:
            lacking[path] = None
            return
        if not (storage.source.store / path).exists():
            if storage.source.was_moved(path):
                lacking[path] = None
                return
            check = _check_pack_path if path.startswith("packs/") else _check_records
            try:
                storage.source.fetch_whole(path, lambda file: check(file, path))
            except (ObjectNotFoundError, DataNotLocalError) as error:
                lacking[path] = error
                return
        store.upload(path, storage.source.store / path, progress=progress)

    known = [storage.source.store / path for path in paths]
    total = sum(file.stat().st_size for file in known if file.exists())
    with byte_progress(what, total) as progress, ThreadPoolExecutor(_PARALLEL) as pool:
        for done in [pool.submit(send, path) for path in paths]:
            done.result()
    return lacking


def _check_pack_path(file: Path, path: str) -> None:
    check_pack(file, bytes.fromhex(Path(path).stem))


def check_pack(file: Path, pack: bytes) -> None:
    """Raises CorruptDataError if a file is not the pack of that id."""
    if file_pack_id(file) != pack:
        raise CorruptDataError(f"pack {pack.hex()} arrived damaged: its contents do not match its name")


def _check_records(file: Path, path: str) -> None:
    name = blake3(file.read_bytes()).hexdigest(length=OBJECT_ID_LENGTH)
    if records_path(bytes.fromhex(name)) != path:
        raise CorruptDataError(f"{path} arrived damaged: its contents do not match its name")
