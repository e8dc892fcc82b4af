"""Checking a whole repository: everything that its heads reach, against every digest and rule.

Reached as `Repository.fsck` and `Repository.verify_repo_integrity`. Nothing is repaired, fetched or kept, and caches
are not believed: a bucket is read itself. The order is that of reference: names, commits, record trees, packs; then
what is staged on top of them.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hangar_cloud.backends.held_objects import HeldObjects
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.sample_spool import SampleSpool
from hangar_cloud.backends.store import ObjectStore, open_store
from hangar_cloud.catalog.commits import commit_path
from hangar_cloud.catalog.findings import Finding, advice
from hangar_cloud.catalog.fsck_history import walk_history
from hangar_cloud.catalog.fsck_moves import moves_findings
from hangar_cloud.catalog.fsck_records import TreeCheck
from hangar_cloud.catalog.fsck_refs import RefCheck
from hangar_cloud.catalog.fsck_staging import StagingCheck
from hangar_cloud.catalog.fsck_tombstones import check_tombstones, purged_note
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.pack_integrity import PackCheck
from hangar_cloud.progress import byte_progress
from hangar_cloud.storage import Storage
from hangar_cloud.verified_packs import VerifiedPacks

LEVELS: Final = ("all", "records")
_PROGRESS_FILE: Final = "verified.jsonl"
_SCRATCH: Final = "verify-"
_ABANDONED_SECONDS: Final = 7 * 24 * 3600


def check_repository(storage: Storage, level: str, resume: bool, fetch: bool) -> list[Finding]:
    """See `Repository.fsck`."""
    if level not in LEVELS:
        raise InvalidArgumentError(f"level must be one of {', '.join(map(repr, LEVELS))}, not {level!r}")
    if storage.is_bucket and not storage.reads_in_place:
        storage.refuse_offline("verify what a bucket holds")
    if fetch:
        storage.refuse_offline("verify what only a remote holds")
    findings: list[Finding] = []
    refs = RefCheck(storage.store)
    findings += refs.repository_file()
    findings += refs.branches()
    if not storage.is_bucket:
        findings += refs.tracking(storage.root / "remotes")
    findings += refs.hint()
    findings += moves_findings(storage.store)
    purged = check_tombstones(storage.store, findings.append)
    held = _held(storage, fetch)
    verified = VerifiedPacks(storage.root / _PROGRESS_FILE, resume or level != "all")
    with _scratch(storage.root) as folder:
        spool = SampleSpool(folder)
        with byte_progress("checking records") as progress:
            trees = TreeCheck(held, spool, findings.append, progress, purged)
            for digest, commit in walk_history(storage.store, refs.heads, findings.append):
                for column, entry in commit.trees.items():
                    trees.check(column, entry, digest)
            trees.whole_objects()
        packs = PackCheck(held, trees, level == "all", verified, folder, findings.append)
        packs.run(spool)
        findings += StagingCheck(
            storage.root,
            folder,
            level == "all",
            lambda digest: storage.store.exists(commit_path(digest)),
            lambda pack: _lost(held, pack),
        ).run()
    findings += _notes(held, trees.remote_rows, packs.remote_samples)
    findings += [purged_note(trees.purged_seen, trees.unchecked)] if trees.purged_seen else []
    if level == "all":
        verified.clear()
    return findings


def report_lines(findings: Sequence[Finding], most: int = 50) -> Iterator[str]:
    """What `Repository.verify_repo_integrity` prints: the findings, damage first, a verdict and what to do."""
    damage = [finding for finding in findings if finding.is_damage]
    yield from map(str, damage[:most])
    if len(damage) > most:
        yield f"... and {len(damage) - most:,} more; repo.fsck() returns them all"
    yield from (str(finding) for finding in findings if not finding.is_damage)
    if damage:
        yield f"The repository is damaged: {len(damage):,} finding{'s' * (len(damage) > 1)}."
        yield from advice(damage)


def _held(storage: Storage, fetch: bool) -> HeldObjects:
    """What the repository holds itself, without the cache of a bucket."""
    if storage.is_bucket:
        return HeldObjects(storage.store, moves=storage.moves)
    partial = open_store(str(storage.root / "partial"))
    asking = not (storage.offline and _remote_names(storage))
    return HeldObjects(
        storage.store, partial, lambda: _remotes(storage), asking=asking, fetching=fetch, moves=storage.moves
    )


def _lost(held: HeldObjects, pack: bytes) -> str | None:
    path = pack_path(pack)
    absence = None if held.info(path) is not None or held.is_moved(path) else held.absence(path)
    return None if absence is None else str(absence)


def _remote_names(storage: Storage) -> list[str]:
    return list(storage.config().remotes)


def _remotes(storage: Storage) -> list[ObjectStore]:
    found = []
    for name in _remote_names(storage):
        # An address that cannot be opened holds nothing.
        with contextlib.suppress(ValueError):
            found.append(storage.remote_store(name))
    return found


def _notes(held: HeldObjects, rows: int, samples: int) -> Iterator[Finding]:
    where = "a remote has them, and fetch=True (`hangar verify --fetch`) checks them there"
    if held.unasked:
        where = "no remote could be asked whether it has them"
    unchecked = {f"the records of {rows:,} samples (over all commits)": rows, f"{samples:,} samples": samples}
    for what, count in unchecked.items():
        if count:
            yield Finding("remote", "", message=f"{what} are not on this machine and were not checked; {where}")


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A folder for what does not fit into memory, removed afterwards; beside the repository if possible."""
    with contextlib.suppress(OSError):
        for left in root.glob(f"{_SCRATCH}*"):
            # Of a process that was killed. Others may be verifying at this moment.
            if left.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=root))
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="hangar-verify-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
