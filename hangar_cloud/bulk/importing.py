"""The course of a bulk import: look at everything, let workers read and write, then stage it whole and commit."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import warnings
from collections.abc import Sequence
from typing import Any, Final

from hangar_cloud.backends.packs import pack_path
from hangar_cloud.bulk.crew import Crew, Member
from hangar_cloud.bulk.items import Items, pickled
from hangar_cloud.bulk.ledger import Ledger
from hangar_cloud.bulk.messages import Claim, Done, Packs, Ready, Rows, Setup
from hangar_cloud.bulk.recording import Recording
from hangar_cloud.bulk.udf import check_items, check_share, check_udf
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.sample_writer import default_backend
from hangar_cloud.catalog.staging import BULK_SCRATCH, UNFINISHED
from hangar_cloud.errors import (
    ColumnNotFoundError,
    DirtyStagingError,
    HangarError,
    InvalidArgumentError,
    NothingToCommitError,
    StagingError,
)
from hangar_cloud.opening import resolve_landing
from hangar_cloud.progress import item_progress
from hangar_cloud.repository import Repository
from hangar_cloud.writer_checkout import WriterCheckout

_NAMES_SHOWN: Final = 5
WORKER_BACKENDS: Final = ("p0", "i0")


def bulk_import(
    repo: Any, branch: Any, column_names: Any, udf: Any, udf_kwargs: Any, ncpus: Any, autocommit: Any, recheck: Any
) -> str | None:
    """See `hangar_cloud.bulk_importer.run_bulk_import`."""
    names = _check_arguments(repo, branch, column_names, ncpus, autocommit)
    check_udf(udf)
    arguments = check_items(udf, udf_kwargs)
    workers = max(1, min(_processes(ncpus), len(arguments)))
    items = Items(arguments, workers, check_share(recheck))
    function = pickled(udf, "udf")
    current = repo._branches.current()
    checkout = repo.checkout(write=True, branch=branch)
    imported = BulkImport(checkout, names, autocommit)
    try:
        imported.check()
        imported.gather(function, items, workers, len(arguments))
        return imported.finish()
    except BaseException:
        if not checkout._storage.is_bucket:
            repo._branches.set_current(current)
        raise
    finally:
        imported.close()


class BulkImport:
    """One import into an open writer.

    Args:
        checkout: the writer.
        names: of the columns that may be written to.
        autocommit: commit in the end.
    """

    def __init__(self, checkout: WriterCheckout, names: Sequence[str], autocommit: bool) -> None:
        self._checkout = checkout
        self._names = names
        self._autocommit = autocommit
        self._storage = checkout._storage
        self._scratch = checkout._staging.folder / BULK_SCRATCH / secrets.token_hex(8)
        self._folders = [self._scratch]
        self._ledger = Ledger()
        # A store on this machine is not uploaded to: packs are linked into it.
        self._uploads = autocommit and self._storage.is_bucket and not self._storage.reads_in_place
        self._committing = False

    def check(self) -> None:
        """Raises HangarError where nothing can be imported."""
        working = self._checkout._working
        if self._autocommit and working.dirty:
            raise DirtyStagingError(
                f"there are uncommitted changes on branch {self._checkout.branch_name!r}, and autocommit would commit "
                "them too; commit them or call reset_staging_area() first, or give autocommit=False to add to them"
            )
        for name in self._names:
            if name not in working.columns or not name:
                known = ", ".join(sorted(filter(None, working.columns))) or "none"
                raise ColumnNotFoundError(
                    f"there is no column {name!r} on branch {self._checkout.branch_name!r}; there is: {known}. "
                    "Add it and commit before the import"
                )

    def gather(self, function: bytes, items: Items, workers: int, total: int) -> None:
        """Let workers read and write everything."""
        if not total:
            return
        setups = self._setups(function, workers)
        self._folders = [setup.folder for setup in setups]
        crew = Crew(setups)
        done = False
        try:
            crew.start()
            with item_progress("importing", "items", total) as progress:
                for member, message in crew.messages():
                    self._take(member, message, items, progress)
            done = True
        finally:
            crew.end(at_once=not done)

    def finish(self) -> str | None:
        """Stage what was read, and commit it if that was asked for; the digest of the commit."""
        ledger, checkout = self._ledger, self._checkout
        checkout._alive()
        self._committing = self._autocommit
        Recording(checkout, self._folders, self._scratch).stage(ledger, self._late(), unfinished=self._autocommit)
        if not self._autocommit:
            return None
        if self._uploads:
            publisher = checkout._committer.await_uploads()
            for number, name in ledger.sealed.items():
                publisher.sent(checkout._staging.pack_file(number), pack_path(name))
        return self._commit()

    def close(self) -> None:
        """Close the writer, and remove what was left of an import that came to nothing."""
        checkout = self._checkout
        shutil.rmtree(self._scratch.parent, ignore_errors=True)
        with contextlib.suppress(HangarError):  # what comes of it is found out by the next writer
            if self._committing:
                resolve_landing(self._storage, checkout._staging)
        if self._committing:
            checkout._shut()
            return
        with contextlib.suppress(HangarError):  # its lock was released by force, which whoever wrote was told
            checkout.close()

    def _commit(self) -> str | None:
        count, names = sum(self._ledger.counts.values()), sorted(self._ledger.counts)
        shown = ", ".join(names[:_NAMES_SHOWN]) + (" and more" if len(names) > _NAMES_SHOWN else "")
        try:
            digest = self._checkout.commit(f"Bulk import of {count:,} samples into {shown}")
        except NothingToCommitError:
            self._committing = False
            warnings.warn(
                f"nothing was imported into branch {self._checkout.branch_name!r}: it has all of the {count:,} samples "
                "already",
                UserWarning,
                stacklevel=5,
            )
            return None
        except HangarError:
            # Hours of work may be in it, and all of it was found to be right: it can be committed again.
            self._committing = False
            with contextlib.suppress(StagingError):
                self._checkout._staging.set_settings(**{UNFINISHED: None})
            raise
        self._committing = False
        return digest

    def _take(self, member: Member, message: object, items: Items, progress: Any) -> None:
        if isinstance(message, Ready):
            member.answer(items.take())
        elif isinstance(message, Claim):
            member.answer(self._ledger.claim(message.digests))
        elif isinstance(message, Rows):
            self._ledger.add(message)
        elif isinstance(message, Done):
            progress(message.items)
        elif isinstance(message, Packs):
            self._ledger.add_packs(message)

    def _entries(self) -> dict[str, ColumnEntry]:
        return {name: self._checkout._working.columns[name].entry for name in self._names}

    def _late(self) -> frozenset[str]:
        """Columns of backends that workers cannot write: their samples pass through this process in the end."""
        return frozenset(name for name, entry in self._entries().items() if entry.backend not in WORKER_BACKENDS)

    def _setups(self, function: bytes, workers: int) -> list[Setup]:
        entries = self._entries()
        for entry in entries.values():
            # Samples of the same schema are all short enough to stand in their records.
            if entry.schema.column_type != "ndarray" or default_backend(entry.schema) != "i0":
                self._checkout._committer.cover(entry)
        if self._uploads:
            self._checkout._committer.await_uploads()
        staging = self._checkout._staging
        late = self._late()
        first = 1 + max({*staging.extents(), *staging.sealed()}, default=-1)
        return [
            Setup(self._storage, entries, late, function, self._scratch / str(i), first + i, workers, self._uploads)
            for i in range(workers)
        ]


def _check_arguments(repo: Any, branch: Any, column_names: Any, ncpus: Any, autocommit: Any) -> list[str]:
    """The names of the columns, each once. Raises InvalidArgumentError."""
    if not isinstance(repo, Repository):
        raise InvalidArgumentError(f"repo must be a Repository, not {type(repo).__name__}")
    if not isinstance(branch, str) or not branch:
        raise InvalidArgumentError(f"branch_name must be the name of a branch, not {branch!r}")
    if isinstance(column_names, str) or not isinstance(column_names, Sequence) or not column_names:
        raise InvalidArgumentError(f"column_names must be a list of names of columns, not {column_names!r}")
    if not all(isinstance(name, str) for name in column_names):
        raise InvalidArgumentError(f"column_names must be text, not {column_names!r}")
    if isinstance(ncpus, bool) or not isinstance(ncpus, int):
        raise InvalidArgumentError(f"ncpus must be a whole number (0 for half the cores), not {ncpus!r}")
    if not isinstance(autocommit, bool):
        raise InvalidArgumentError(f"autocommit must be True or False, not {autocommit!r}")
    if repo._storage.store.url.partition("://")[0].rpartition("::")[2] == "memory":
        raise InvalidArgumentError(
            f"cannot import into {repo._storage.location} with several processes: it is in the memory of this one. "
            "Use a folder or a bucket, or write in a checkout"
        )
    return list(dict.fromkeys(column_names))


def _processes(ncpus: int) -> int:
    """How many processes to start: as asked, or half the cores that this one may use."""
    if ncpus > 0:
        return ncpus
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)
