"""Moving objects between a local repository and a remote store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.packs import file_pack_id, pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog import history
from hangar_cloud.catalog.commits import METADATA, ColumnEntry, Commit, commit_path, decode_commit
from hangar_cloud.catalog.errors import HeadMovedError, InvalidNameError
from hangar_cloud.catalog.keys import RowKey, check_key, key_range
from hangar_cloud.catalog.pointers import Pointer, PointerLog
from hangar_cloud.catalog.record_writer import OBJECT_ID_LENGTH
from hangar_cloud.catalog.records import NodeRef, Row, records_path
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH, decode_repository_file
from hangar_cloud.errors import ColumnNotFoundError, InvalidArgumentError, SampleNotFoundError
from hangar_cloud.progress import byte_progress
from hangar_cloud.storage import Storage

_PARALLEL: Final = 4
_BATCH_BYTES: Final = 32 * 1024 * 1024
_WHOLE_SHARE: Final = 0.5
_COMMITS_AT_ONCE: Final = 512


class Needed:
    """The objects that some commits refer to."""

    def __init__(self) -> None:
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

    def _add(self, storage: Storage, entry: ColumnEntry, ref: NodeRef) -> None:
        if (entry.schema, ref.digest) in self._seen:
            return
        self._seen.add((entry.schema, ref.digest))
        self.records[ref.place.object] = None
        if ref.level == 0:
            self.packs |= dict.fromkeys(sorted(storage.nodes.leaf(ref, entry.schema).packs()))
            return
        for child in storage.nodes.children(ref):
            self._add(storage, entry, child)


def remote_head(storage: Storage, store: ObjectStore, branch: str) -> Pointer | None:
    """The living head of a remote's branch, None where there is none.

    Raises:
        InvalidArgumentError: the remote holds another repository than this one.
    """
    text, *_ = store.get_many([REPOSITORY_PATH])
    if text is None:
        return None
    _check_same_repository(storage, store, text)
    pointer = PointerLog(store).head(branch)
    return pointer if pointer is not None and pointer.alive else None


def _check_same_repository(storage: Storage, store: ObjectStore, text: bytes) -> None:
    theirs = decode_repository_file(text, store.url).id
    if theirs != storage.repository_id():
        raise InvalidArgumentError(
            f"{store.url} holds another repository (id {theirs[:8]}) than {storage.location}; use another URL, "
            "or clone it"
        )


def contains(store: ObjectStore, head: str, digest: str) -> bool:
    """Whether a commit is in the history behind `head` on a remote."""
    commits = _read_commits(store, head, lambda _: False)
    return digest in commits


def push(storage: Storage, store: ObjectStore, branch: str, head: str, there: Pointer | None, author: str) -> None:
    """Upload what `store` lacks of a branch: packs, records, commits, and then its pointer.

    Raises:
        HeadMovedError: another writer moved the remote branch meanwhile.
        InvalidArgumentError: another repository was pushed there meanwhile.
    """
    store.ensure_writable()
    commits = _missing_commits(storage, store, head)
    needed = Needed()
    for commit in _parents_there(storage, commits):
        needed.skip(storage, commit)
    for digest in reversed(commits):
        needed.add(storage, storage.commit(digest))
    _upload(storage, store, [pack_path(pack) for pack in needed.packs], "pushing samples")
    _upload(storage, store, [records_path(name) for name in needed.records], "pushing records")
    for digest in reversed(commits):
        store.put_if_absent(commit_path(digest), storage.commit(digest).encode())
    text = store.get_many([REPOSITORY_PATH])[0]
    if text is None:
        store.put_if_absent(REPOSITORY_PATH, storage.store.get(REPOSITORY_PATH))
        text = store.get(REPOSITORY_PATH)
    _check_same_repository(storage, store, text)  # another one may have been pushed here meanwhile
    pointers = PointerLog(store, author)
    expected = there if there is not None else pointers.head(branch)
    try:
        pointers.move(branch, expected, head, "push")
    except HeadMovedError as error:
        raise HeadMovedError(f"{error}. Nothing was lost: fetch the branch, merge it, and push again") from error


def fetch_commits(storage: Storage, store: ObjectStore, head: str) -> None:
    """Copy the commits behind `head` that are not here, oldest first."""
    local = storage.source.store

    def here(digest: str) -> bool:
        return (local / commit_path(digest)).exists()

    texts = _read_commits(store, head, here)
    commits = {digest: decode_commit(text, digest) for digest, text in texts.items()}
    order: list[str] = []
    waiting = [head]
    seen: set[str] = set()
    while waiting:
        digest = waiting.pop()
        if digest in seen or digest not in commits:
            continue
        seen.add(digest)
        order.append(digest)
        waiting += commits[digest].parents
    ordered = history.ancestors([head], lambda digest: commits.get(digest) or storage.commit(digest))
    for digest in reversed([digest for digest in ordered if digest in seen]):
        storage.store.put_if_absent(commit_path(digest), texts[digest])


def fetch_data(
    storage: Storage, store: ObjectStore, commits: Sequence[str], names: Sequence[str] | None, most: int | None
) -> list[str]:
    """Make records and samples of commits local; returns the commits. See `Remotes.fetch_data`."""
    if names is not None:
        known = {name for digest in commits for name in storage.commit(digest).columns}
        absent = sorted(set(names) - known)
        if absent:
            raise InvalidArgumentError(
                f"no column {absent[0]!r} at these commits; there is: {', '.join(sorted(known))}"
            )
    wanted: dict[bytes, dict[int, list[PackedSample]]] = {}
    seen: set[tuple[object, bytes]] = set()
    for digest in commits:
        for name, entry in storage.commit(digest).trees.items():
            if names is None or name in names or name == METADATA:
                _collect(storage, entry, wanted, seen)
    budget = _Budget(most)
    for pack, places in wanted.items():
        if not storage.packs.is_whole(pack):
            _fetch_pack(storage, store, pack, places, budget)
        if budget.spent:
            break
    return list(commits)


def fetch_samples(storage: Storage, digest: str, column: str, keys: Iterable[Any]) -> None:
    """Make some samples of one column local. See `Remotes.fetch_data_sample`."""
    columns = storage.commit(digest).columns
    if column not in columns:
        raise ColumnNotFoundError(
            f"there is no column {column!r} at commit {digest[:12]}; there is: {', '.join(columns)}"
        )
    entry = columns[column]
    samples = []
    for key in keys:
        try:
            rows = _rows(storage, entry, key)
        except InvalidNameError as error:
            raise InvalidNameError(f"column {column!r}: {error}") from None
        if not rows:
            raise SampleNotFoundError(f"column {column!r} has no sample {key!r} at commit {digest[:12]}")
        samples += [
            PackedSample(row.place, row.identity[1:], entry.schema.prefix(row.shape))
            for row in rows
            if row.place is not None
        ]
    storage.packs.fetch(samples)


def _rows(storage: Storage, entry: ColumnEntry, key: Any) -> list[Row]:
    """The rows that a key names: of a sample alone, or with ``...``, those of all its subsamples."""
    wanted: RowKey
    if entry.schema.column_layout == "nested":
        sample, sub = key if isinstance(key, tuple) and len(key) == 2 else (_only(key), ...)
        if sub is ...:
            found = storage.nodes.range(entry.root, entry.schema, *key_range(check_key(sample)))
            return [row for _, row in found]
        wanted = (check_key(sample), check_key(sub))
    else:
        wanted = check_key(_only(key))
    row = storage.nodes.find(entry.root, entry.schema, wanted)
    return [] if row is None else [row]


def _only(key: Any) -> Any:
    return key[0] if isinstance(key, tuple) and len(key) == 1 else key


class _Budget:
    """Bytes of sample data that may still be fetched."""

    def __init__(self, most: int | None) -> None:
        self.left = most
        self.spent = False

    def take(self, size: int) -> bool:
        """Whether another `size` bytes may be fetched; if not, the budget counts as spent."""
        if self.left is None:
            return True
        if size > self.left:
            self.spent = True
            return False
        self.left -= size
        return True


def _collect(
    storage: Storage,
    entry: ColumnEntry,
    wanted: dict[bytes, dict[int, list[PackedSample]]],
    seen: set[tuple[object, bytes]],
) -> None:
    """Bring a column's leaves here, and note its packed samples by pack and block."""
    leaves = [ref for ref in storage.nodes.leaves(entry.root) if (entry.schema, ref.digest) not in seen]
    storage.nodes.prefetch(leaves, entry.schema)
    for ref in leaves:
        seen.add((entry.schema, ref.digest))
        leaf = storage.nodes.leaf(ref, entry.schema)
        if all(storage.packs.is_whole(pack) for pack in leaf.packs()):
            continue
        for i in range(len(leaf)):
            row = leaf.row(i)
            if row.place is not None:
                sample = PackedSample(row.place, row.identity[1:], entry.schema.prefix(row.shape))
                wanted.setdefault(row.place.pack, {}).setdefault(row.place.offset, []).append(sample)


def _fetch_pack(
    storage: Storage, store: ObjectStore, pack: bytes, places: dict[int, list[PackedSample]], budget: _Budget
) -> None:
    path = pack_path(pack)
    used = sum(samples[0].place.stored for samples in places.values())
    size = store.stat(path).size
    if used >= size * _WHOLE_SHARE and (budget.left is None or size <= budget.left):
        budget.take(size)
        with byte_progress(f"fetching {pack.hex()[:8]}", size) as progress:
            storage.source.fetch_whole(path, lambda file: _check_pack(file, pack), progress)
        return
    batch: list[PackedSample] = []
    waiting = 0
    for offset in sorted(places):
        samples = places[offset]
        if storage.packs.is_local(samples[0]):
            continue
        if not budget.take(samples[0].place.stored):
            break
        batch += samples
        waiting += samples[0].place.stored
        if waiting >= _BATCH_BYTES:
            storage.packs.fetch(batch)
            batch, waiting = [], 0
    storage.packs.fetch(batch)


def _check_pack(file: Path, pack: bytes) -> None:
    if file_pack_id(file) != pack:
        raise CorruptDataError(f"pack {pack.hex()} arrived damaged: its contents do not match its name")


def _check_records(file: Path, path: str) -> None:
    name = blake3(file.read_bytes()).hexdigest(length=OBJECT_ID_LENGTH)
    if records_path(bytes.fromhex(name)) != path:
        raise CorruptDataError(f"{path} arrived damaged: its contents do not match its name")


def _missing_commits(storage: Storage, store: ObjectStore, head: str) -> list[str]:
    """Commits behind `head` that the store lacks, children before parents.

    A commit that is there has its whole history there: commits are uploaded parents first.
    """
    missing: dict[str, Commit] = {}
    waiting = [head]
    while waiting:
        digest = waiting.pop()
        if digest in missing or store.exists(commit_path(digest)):
            continue
        missing[digest] = storage.commit(digest)
        waiting += missing[digest].parents
    return [digest for digest in history.ancestors([head], storage.commit) if digest in missing]


def _parents_there(storage: Storage, missing: Sequence[str]) -> list[Commit]:
    absent = set(missing)
    parents = {parent for digest in missing for parent in storage.commit(digest).parents if parent not in absent}
    return [storage.commit(parent) for parent in sorted(parents)]


def _upload(storage: Storage, store: ObjectStore, paths: Sequence[str], what: str) -> None:
    def send(path: str) -> None:
        if store.exists(path):
            return
        if not (storage.source.store / path).exists():
            check = _check_pack_path if path.startswith("packs/") else _check_records
            storage.source.fetch_whole(path, lambda file: check(file, path))
        store.upload(path, storage.source.store / path, progress=progress)

    known = [storage.source.store / path for path in paths]
    total = sum(file.stat().st_size for file in known if file.exists())
    with byte_progress(what, total) as progress, ThreadPoolExecutor(_PARALLEL) as pool:
        for done in [pool.submit(send, path) for path in paths]:
            done.result()


def _check_pack_path(file: Path, path: str) -> None:
    _check_pack(file, bytes.fromhex(Path(path).stem))


def _read_commits(store: ObjectStore, head: str, here: object) -> dict[str, bytes]:
    """Texts of the commits behind `head` on a remote, without those (and their history) that are `here`."""
    is_here = here if callable(here) else (lambda _: False)
    texts: dict[str, bytes] = {}
    listed: list[str] | None = None
    waiting = [head]
    while waiting:
        batch = [digest for digest in dict.fromkeys(waiting) if digest not in texts and not is_here(digest)]
        waiting = []
        if len(texts) >= 8 and listed is None and store.can_list:
            # Walking a long history one parent at a time costs a round trip each: take what there is at once.
            listed = [name.removesuffix(".json") for name in store.list_children("commits")]
            batch = list(dict.fromkeys([*batch, *(d for d in listed if d not in texts and not is_here(d))]))
        for start in range(0, len(batch), _COMMITS_AT_ONCE):
            part = batch[start : start + _COMMITS_AT_ONCE]
            for digest, text in zip(part, store.get_many([commit_path(d) for d in part]), strict=True):
                if text is None:
                    raise CorruptDataError(f"{store.url} lacks commit {digest[:12]}, which its history refers to")
                texts[digest] = text
                waiting += decode_commit(text, digest).parents
    return texts
