"""Looking after a repository: whether it is whole."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hangar_cloud.catalog.findings import Finding
from hangar_cloud.integrity import check_repository, report_lines
from hangar_cloud.storage import Storage


class RepositoryCare(ABC):
    """The part of `Repository` that checks it."""

    _storage: Storage

    @abstractmethod
    def _require(self) -> None:
        """Raises NotInitializedError where there is no repository."""

    def verify_repo_integrity(self, *, level: str = "all", resume: bool = True, fetch: bool = False) -> bool:
        """Check everything that any branch reaches, and print what is wrong; see `fsck`.

        Returns:
            True if nothing is damaged. Samples that a clone does not hold are no damage.
        """
        findings = self.fsck(level=level, resume=resume, fetch=fetch)
        for line in report_lines(findings):
            print(line)
        return not any(finding.is_damage for finding in findings)

    def fsck(self, *, level: str = "all", resume: bool = True, fetch: bool = False) -> list[Finding]:
        """Check everything that any branch reaches, and what is staged and stashed here; nothing is repaired.

        Pointers, commits, record trees and packs are read, each once, and all their digests computed again. A bucket
        is read itself, all of it, and not the cache. A clone checks what it holds, asks its remotes only whether they
        have the rest, and says in a note how many samples that is.

        Args:
            level: "all", or "records": everything except sample bytes.
            resume: go on where a check was interrupted, without reading the packs that it found intact (for a week;
                and only if their size and time did not change). False reads all of them.
            fetch: read what a clone does not hold from its remotes, and check it. Nothing of it is kept.

        Returns:
            the findings, see `hangar_cloud.Finding`. Those whose ``is_damage`` is False are notes.

        Raises:
            ValueError: no such level.
            OSError: the store cannot be reached. Calling it again goes on from there.
            OSError: of a bucket, or with `fetch`: the repository was opened with ``offline=True``.
        """
        self._require()
        return check_repository(self._storage, level, resume, fetch)
