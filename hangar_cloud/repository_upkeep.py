"""Keeping a repository in order: its size, its lock, and giving back what nothing refers to."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any

from hangar_cloud import writer_lock
from hangar_cloud.collection import DEFAULT_GRACE, DEFAULT_KEEP_REFLOG, collect_garbage
from hangar_cloud.garbage import GarbageReport
from hangar_cloud.purge_report import PurgeReport
from hangar_cloud.purge_targets import check_reason, check_target
from hangar_cloud.purging import purge
from hangar_cloud.repack import repack
from hangar_cloud.repack_report import RepackReport
from hangar_cloud.reports import human_size
from hangar_cloud.repository_refs import RepositoryRefs


class RepositoryUpkeep(RepositoryRefs):
    """The part of `Repository` that looks after it as a whole."""

    @property
    def size_nbytes(self) -> int:
        """Bytes that the repository takes: on this disk, or in the bucket."""
        self._require()
        if self._storage.is_bucket:
            return sum(info.size for info in self._storage.store.list())
        return sum(_disk_size(path) for path in self._storage.root.rglob("*"))

    @property
    def size_human(self) -> str:
        """`size_nbytes` as text, such as "1.23 GB"."""
        return human_size(self.size_nbytes)

    @property
    def writer_lock_held(self) -> bool:
        """True if a writer of this repository is open on this machine."""
        self._require()
        return writer_lock.is_held(self._storage.root)

    def force_release_writer_lock(self) -> bool:
        """Make the open writer lose its lock, so that another can be opened.

        A writer that died has freed its lock by itself. The old writer raises `PermissionError` from then
        on; what it had staged is there for the next one.

        Warns:
            ResourceWarning: always; nobody may be writing.
        """
        self._require()
        warnings.warn(
            "the writer lock is released by force: make sure that nobody else is writing", ResourceWarning, stacklevel=2
        )
        writer_lock.force_release(self._storage.root)
        return True

    def gc(
        self,
        dry_run: bool = False,
        *,
        grace: timedelta | float = DEFAULT_GRACE,
        keep_reflog: timedelta | float = DEFAULT_KEEP_REFLOG,
    ) -> GarbageReport:
        """Delete the commits, records and packs that nothing refers to any more.

        What a branch or tag reaches stays, and what a branch was within `keep_reflog`. So do staged changes, stashes
        and remote-tracking branches of this machine. In a bucket, others may write meanwhile; see docs/gc.md.

        Args:
            dry_run: delete nothing, and return what would be deleted.
            grace: keep what is younger, by the clock of the store; a timedelta or seconds, one day by default. What
                writers of older versions are just uploading is protected by this alone.
            keep_reflog: how long deleted and moved branches can be brought back (`restore_branch`, ``branch@{n}``);
                a timedelta or seconds, 30 days by default.

        Returns:
            what was deleted and what was kept, see `hangar_cloud.garbage.GarbageReport`.

        Raises:
            ValueError: something that is in use is damaged or missing, and nothing was deleted; or an argument cannot
                be meant.
            PermissionError: a writer of this local repository is open, or the bucket may not be written to.
            RuntimeError: another collection is at work.
            OSError: the store failed. What was not deleted will be by the next collection.
        """
        self._require()
        return collect_garbage(self._storage, bool(dry_run), grace, keep_reflog)

    def repack(self, dry_run: bool = False) -> RepackReport:
        """Merge small packs and record files, as thousands of small commits leave them, and leave dead bytes behind.

        Packs below 16 MiB and records objects below 8 MiB are copied into new ones of about 64 and 32 MiB, and so are
        those of which less than half is in use. No commit, digest or value changes, and others may read and write
        meanwhile. The old objects stay until a garbage collection (`gc`) finds that nothing needs them any more; run
        one afterwards. See docs/repack.md.

        Args:
            dry_run: write nothing, and return what would be done.

        Returns:
            what was copied, see `hangar_cloud.repack_report.RepackReport`.

        Raises:
            ValueError: something that is in use is damaged or missing; nothing was moved.
            PermissionError: a writer of this local repository is open, or the bucket may not be written to.
            RuntimeError: other repacks were faster time and again.
            OSError: the store failed, or this machine's disk is full. What was recorded until then holds, and the rest
                will be by the next repack.
        """
        self._require()
        return repack(self._storage, bool(dry_run))

    def purge(
        self,
        *,
        digest: str | None = None,
        column: str | None = None,
        key: Any = None,
        subkey: Any = None,
        commit: str | None = None,
        reason: str,
        dry_run: bool = False,
    ) -> PurgeReport:
        """Erase the bytes of a sample from all of history, for good, as the law may ask for.

        Commits, their digests and the sample's key stay; reading its value raises `PurgedError`, which says when, by
        whom and why it was purged. Equal samples (the same bytes, dtype and shape) are one sample: they go wherever
        they are, under any key of any column. Only of values of up to 32 bytes, such as labels, those of this key go,
        unless they are purged by their digest. Look at a dry run first. See docs/purge.md.

        Args:
            digest: of the sample, 64 hex digits; this, or `column` and `key`.
            column: a column; every value that the key ever had in it is purged. "" is the metadata.
            key: of the sample there; of a nested column also the pair (sample, subsample).
            subkey: of one subsample of a nested column; without it all of the sample's are purged.
            commit: purge only the value that the key has there: a digest, its first digits, a branch or a tag.
            reason: why; everybody sees it who reads the sample.
            dry_run: change nothing, and return what would be purged.

        Returns:
            what was found and erased, see `hangar_cloud.purge_report.PurgeReport`.

        Raises:
            KeyError: no commit has such a column, key or sample.
            ValueError: an argument cannot be meant; the sample is staged here and not committed; or something that is
                in use is damaged. Nothing was changed.
            PermissionError: a writer of this local repository is open, or the bucket may not be written to.
            RuntimeError: a garbage collection is at work. What was begun is ended by calling this again.
            OSError: the store failed. What was begun is ended by calling this again.
        """
        self._require()
        target = check_target(digest, column, key, subkey, commit)
        return purge(self._storage, target, check_reason(reason), self._author, bool(dry_run))


def _disk_size(path: Any) -> int:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    # Sparse cache files take less than their length.
    return min(status.st_size, status.st_blocks * 512) if path.is_file() else 0
