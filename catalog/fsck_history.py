"""Integrity of commits: every one that the heads reach, its digest recomputed, its parents there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.commits import Commit, commit_path, decode_commit
from hangar_cloud.catalog.findings import Finding
from hangar_cloud.catalog.fsck_refs import kind_of

_AT_ONCE: Final = 64
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def walk_history(
    store: ObjectStore, heads: Iterable[str], report: Callable[[Finding], None]
) -> Iterator[tuple[str, Commit]]:
    """Every intact commit behind the heads, once, newest generations first; what is wrong with the others is reported.

    Args:
        store: where the repository is.
        heads: digests of commits.
        report: takes the findings.
    """
    waiting: dict[str, str | None] = dict.fromkeys(heads)
    seen: set[str] = set()
    while waiting:
        batch = dict(list(waiting.items())[:_AT_ONCE])
        waiting = {digest: child for digest, child in waiting.items() if digest not in batch}
        seen.update(batch)
        for (digest, child), text in zip(batch.items(), store.get_many([commit_path(d) for d in batch]), strict=True):
            if text is None:
                who = "a branch is at it" if child is None else f"it is a parent of commit {child[:12]}"
                report(Finding("missing", commit_path(digest), commit=digest, message=f"a commit is missing; {who}"))
                continue
            try:
                commit = decode_commit(text, digest)
            except (CorruptDataError, UnsupportedFormatError) as error:
                report(Finding(kind_of(error), commit_path(digest), commit=digest, message=str(error)))
                continue
            for parent in commit.parents:
                if not _DIGEST.fullmatch(parent):
                    message = f"the commit has a parent {parent!r}, which is no commit"
                    report(Finding("damaged", commit_path(digest), commit=digest, message=message))
                elif parent not in seen:
                    waiting[parent] = digest
            yield digest, commit
