"""Importing much data with many processes: `run_bulk_import` and what its functions yield, `UDF_Return`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hangar_cloud.bulk.udf import UDF_Return

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

__all__ = ["UDF_Return", "run_bulk_import"]


def run_bulk_import(
    repo: Repository,
    branch_name: str,
    column_names: Sequence[str],
    udf: Callable[..., Iterator[UDF_Return]],
    udf_kwargs: Sequence[Mapping[str, Any]],
    *,
    ncpus: int = 0,
    autocommit: bool = True,
    recheck: float = 0.02,
) -> str | None:
    """Run a function on many arguments in several processes, and store what it yields: all of it, or nothing.

    Every process reads, checks, deduplicates, compresses and writes on its own (into a bucket too); only keys and
    digests come to the calling process. Nothing is recorded before everything was found to be right. If anything fails,
    Control-C is pressed, or a process dies, this one included, the repository is as it was.

    The function goes to processes that are started anew. It may be defined anywhere: in a notebook, in a script without
    ``if __name__ == "__main__"``, inside another function. A sample under a key that exists replaces what is there.

    Args:
        repo: an initialized repository, local or in a bucket (not ``memory://``, which other processes do not see).
        branch_name: branch to import into.
        column_names: every column that `udf` names. The columns are there already.
        udf: generator function that yields `UDF_Return`. For equal arguments it yields the same columns, keys and data
            in the same order.
        udf_kwargs: the *items*: for each call of `udf` a dict of its keyword arguments, which should be small (names
            of files rather than their contents).
        ncpus: number of processes; half the cores for 0 or less. Never more than there are items.
        autocommit: commit what was imported, and refuse to start on staged changes. Otherwise it is left staged, on top
            of what is staged already.
        recheck: share of the items, from 0 to 1, for which `udf` is run twice and the outcomes are compared, to find
            functions that are not deterministic. They are spread evenly, and are at least five unless it is 0. Of
            each item the first 1,000 samples or 64 MiB are compared.

    Returns:
        the digest of the commit; None if nothing was committed.

    Warns:
        UserWarning: all that was to be imported is on the branch already (with `autocommit`).

    Raises:
        TypeError: `udf` cannot be called with these arguments, does not yield `UDF_Return`, or is not deterministic
            (`UdfError`).
        ValueError: a column that `udf` names is not in `column_names`; a key or value that the column does not take;
            two different values for one key; no such branch; staged changes in the way; another argument that cannot be
            meant.
        KeyError: no such column.
        RuntimeError: `udf` raised, or a process died (`BulkImportError`); or another writer committed something else
            for the same samples.
        PermissionError: another writer is open.
        OSError: a disk or store failed. If that happened at the commit, what was imported is staged, to be committed.
    """
    from hangar_cloud.bulk.importing import bulk_import

    return bulk_import(repo, branch_name, column_names, udf, udf_kwargs, ncpus, autocommit, recheck)
