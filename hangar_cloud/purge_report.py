"""What a purge found and did, as data (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hangar_cloud.reports import human_size

_MOST_SHOWN = 50


class PurgedSample(NamedTuple):
    """One key under which a purged sample was found.

    Attributes:
        column: name of the column at these commits; "" is the metadata.
        key: of the sample; a pair of keys in a nested column.
        digest: of the sample, 64 hex digits.
        commits: digests of all commits that have it there.
    """

    column: str
    key: Any
    digest: str
    commits: tuple[str, ...]


@dataclass
class PurgeReport:
    """The outcome of `Repository.purge`.

    Attributes:
        dry_run: True if nothing was changed.
        digests: of the samples, 64 hex digits each.
        before: those of them that had been purged before; what was left of them, if anything, is gone now too.
        samples: every column and key where they were found, in any commit.
        branches: living branches whose history holds them; remote-tracking ones too.
        tags: likewise.
        rewritten: names of the objects that held their bytes, and were deleted (or would be).
        erased: bytes of these samples that were removed, all copies together; 0 in a dry run.
        left: what on this machine could not be cleaned, in words.
    """

    dry_run: bool
    digests: list[str]
    before: list[str] = field(default_factory=list)
    samples: list[PurgedSample] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    erased: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def commits(self) -> list[str]:
        """Digests of all commits that the samples were found in."""
        return sorted({commit for sample in self.samples for commit in sample.commits})

    def __repr__(self) -> str:
        lines = ["Hangar Purge" + (" (dry run: nothing was changed)" if self.dry_run else "")]
        lines += [f"    Sample       : {digest}" for digest in self.digests]
        if self.before:
            lines.append(f"    Purged before: {len(self.before):,} of {len(self.digests):,}")
        where = f"{len(self.commits):,} commits; branches {', '.join(self.branches) or 'none'}"
        lines.append(f"    Found in     : {where}; tags {', '.join(self.tags) or 'none'}")
        for sample in self.samples[:_MOST_SHOWN]:
            column = f"column {sample.column!r}" if sample.column else "metadata"
            lines.append(f"        {column}, sample {sample.key!r}: {len(sample.commits):,} commits")
        if len(self.samples) > _MOST_SHOWN:
            lines.append(f"        ... and {len(self.samples) - _MOST_SHOWN:,} more")
        verb = "Would rewrite" if self.dry_run else "Rewritten"
        size = "" if self.dry_run else f", {human_size(self.erased)} of samples erased"
        lines.append(f"    {verb:<13}: {len(self.rewritten):,} objects{size}")
        lines += [f"    Left here    : {text}" for text in self.left]
        return "\n".join(lines)
