"""Getting objects of a remote store into a local repository."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Final

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.pack_reader import UNREADABLE, PackedSample
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog import history
from hangar_cloud.catalog.commits import METADATA, ColumnEntry, commit_path, decode_commit
from hangar_cloud.catalog.keys import RowKey, check_key, key_range
from hangar_cloud.catalog.near_names import did_you_mean
from hangar_cloud.catalog.pointers import Pointer, PointerLog
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH
from hangar_cloud.catalog.tombstones import listed_tombstones
from hangar_cloud.errors import ColumnNotFoundError, InvalidArgumentError, InvalidNameError, SampleNotFoundError
from hangar_cloud.pack_fetch import PackFetch
from hangar_cloud.storage import Storage
from hangar_cloud.tags import Tags
from hangar_cloud.upload import check_same_repository

_COMMITS_AT_ONCE: Final = 512


def remote_head(storage: Storage, store: ObjectStore, branch: str) -> Pointer | None:
    """The living head of a remote's branch, None where there is none.

    Raises:
        InvalidArgumentError: the remote holds another repository than this one.
    """
    text, *_ = store.get_many([REPOSITORY_PATH])
    if text is None:
        return None
    check_same_repository(storage, store, text)
    pointer = PointerLog(store).head(branch)
    return pointer if pointer is not None and pointer.alive else None


def contains(store: ObjectStore, head: str, digest: str) -> bool:
    """Whether a commit is in the history behind `head` on a remote."""
    commits = _read_commits(store, head, lambda _: False)
    return digest in commits


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


def fetch_tags(storage: Storage, store: ObjectStore) -> list[str]:
    """Add a remote's tags whose names are free here, and the history behind them; returns their names."""
    mine = storage.tags()
    new = []
    for tag in Tags(PointerLog(store, kind="tags"), store.url).all():
        if mine.find(tag.name) is None:
            fetch_commits(storage, store, tag.digest)
            storage.tags(tag.author).take(tag)
            new.append(tag.name)
    return new


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
                f"{did_you_mean(absent[0], known)}"
            )
    wanted: dict[bytes, dict[int, list[PackedSample]]] = {}
    seen: set[tuple[object, bytes]] = set()
    purged = storage.purged.digests() | listed_tombstones(store)
    skipped: set[bytes] = set()
    for digest in commits:
        for name, entry in storage.commit(digest).trees.items():
            if names is None or name in names or name == METADATA:
                skipped |= _collect(storage, entry, wanted, seen, purged)
    if skipped:
        warnings.warn(f"{len(skipped):,} purged samples are left out: nobody has them", UserWarning, stacklevel=3)
    PackFetch(storage, store, most).run(wanted)
    return list(commits)


def has_sample(storage: Storage, digest: str, column: str, key: Any) -> bool:
    """Whether a column has a sample at a commit, as `fetch_samples` would find it."""
    entry = storage.commit(digest).columns.get(column)
    return entry is not None and bool(_rows(storage, entry, key))


def fetch_samples(storage: Storage, digest: str, column: str, keys: Iterable[Any]) -> None:
    """Make some samples of one column local. See `Remotes.fetch_data_sample`."""
    columns = storage.commit(digest).columns
    if column not in columns:
        raise ColumnNotFoundError(
            f"there is no column {column!r} at commit {digest[:12]}; there is: {', '.join(columns)}"
            f"{did_you_mean(column, columns)}"
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
    try:
        storage.packs.fetch(samples)
    except UNREADABLE:
        for sample in samples:
            if (purged := storage.purged.error(sample.digest)) is not None:
                raise purged from None
        raise


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


def _collect(
    storage: Storage,
    entry: ColumnEntry,
    wanted: dict[bytes, dict[int, list[PackedSample]]],
    seen: set[tuple[object, bytes]],
    purged: set[bytes],
) -> set[bytes]:
    """Bring a column's leaves here, and note its packed samples by pack and block; returns those that were purged."""
    skipped = set()
    leaves = [ref for ref in storage.nodes.leaves(entry.root) if (entry.schema, ref.digest) not in seen]
    storage.nodes.prefetch(leaves, entry.schema)
    for ref in leaves:
        seen.add((entry.schema, ref.digest))
        leaf = storage.nodes.leaf(ref, entry.schema)
        whole = all(storage.packs.is_whole(pack) for pack in leaf.packs())
        if whole and not purged:
            continue
        for i in range(len(leaf)):
            row = leaf.row(i)
            if row.place is not None and row.identity[1:] in purged:
                skipped.add(row.identity[1:])
            elif row.place is not None and not whole:
                sample = PackedSample(row.place, row.identity[1:], entry.schema.prefix(row.shape))
                wanted.setdefault(row.place.pack, {}).setdefault(row.place.offset, []).append(sample)
    return skipped


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
