"""What the ``--json`` of each command prints, made from what the library returns."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hangar_cloud.catalog.commits import ColumnEntry, Commit
    from hangar_cloud.catalog.findings import Finding
    from hangar_cloud.catalog.stashes import StashInfo
    from hangar_cloud.garbage import Count, GarbageReport
    from hangar_cloud.purge_report import PurgeReport
    from hangar_cloud.repack_report import RepackReport
    from hangar_cloud.revisions import ReflogEntry
    from hangar_cloud.status import RepositoryStatus


def status_document(
    status: RepositoryStatus, location: str, remotes: Mapping[str, tuple[int, int] | None], stashes: int
) -> dict[str, Any]:
    """Of `hangar status`."""
    return {
        "repository": location,
        "branch": status.branch,
        "head": status.head,
        "clean": not status.areas and not status.unreadable,
        "writer_open": status.writer_open,
        "staged": [asdict(area) for area in status.areas],
        "unreadable": list(status.unreadable),
        "remotes": [
            {
                "branch": name,
                "ahead": None if counts is None else counts[0],
                "behind": None if counts is None else counts[1],
            }
            for name, counts in remotes.items()
        ],
        "stashes": stashes,
    }


def log_document(contents: Mapping[str, Any], tags: Mapping[str, list[str]], limit: int | None) -> dict[str, Any]:
    """Of `hangar log`."""
    commits = []
    for digest in contents["order"][:limit]:
        spec = contents["specs"][digest]
        commits.append(
            {
                "digest": digest,
                "parents": contents["ancestors"][digest],
                "message": spec["commit_message"],
                "time": spec["commit_time"],
                "author": spec["commit_user"],
                "email": spec["commit_email"],
                "branches": contents["branch_heads"].get(digest, []),
                "tags": tags.get(digest, []),
            }
        )
    return {"head": contents["head"], "commits": commits}


def commit_document(digest: str, commit: Commit) -> dict[str, Any]:
    """One commit, without its columns."""
    return {
        "digest": digest,
        "parents": list(commit.parents),
        "message": commit.message,
        "time": commit.time,
        "author": commit.author,
        "email": commit.email,
    }


def column_document(name: str, entry: ColumnEntry, samples: int) -> dict[str, Any]:
    """One column; `samples` is the number of its samples, of nested columns that of all subsamples."""
    schema = entry.schema
    arrays = schema.column_type == "ndarray"
    return {
        "column": name,
        "type": schema.column_type,
        "layout": schema.column_layout,
        "schema_type": schema.schema_type,
        "dtype": schema.numpy_dtype.name if arrays else None,
        "shape": list(schema.shape or ()) if arrays else None,
        "backend": entry.backend,
        "backend_options": entry.backend_options,
        "samples": samples,
    }


def reflog_document(branch: str, entries: Iterable[ReflogEntry]) -> dict[str, Any]:
    """Of `hangar reflog`."""
    return {
        "branch": branch,
        "entries": [
            {**entry._asdict(), "commit": entry.commit or None, "time": entry.time.isoformat()} for entry in entries
        ],
    }


def stash_document(stashes: Iterable[StashInfo]) -> dict[str, Any]:
    """Of `hangar stash list`."""
    return {"stashes": [{**asdict(info), "base": info.base or None} for info in stashes]}


def gc_document(report: GarbageReport) -> dict[str, Any]:
    """Of `hangar gc`."""
    return {
        "dry_run": report.dry_run,
        "removed": _counts(report.removed),
        "total": report.total._asdict(),
        "names": report.names,
        "young": report.young._asdict(),
        "rescued": report.rescued,
        "unknown": report.unknown,
        "reachable": report.reachable,
    }


def repack_document(report: RepackReport) -> dict[str, Any]:
    """Of `hangar repack`."""
    counts = {name: _counts(getattr(report, name)) for name in ("before", "merged", "made", "after")}
    return {"dry_run": report.dry_run, **counts, "freed": report.freed._asdict()}


def purge_document(report: PurgeReport) -> dict[str, Any]:
    """Of `hangar purge`."""
    return {
        "dry_run": report.dry_run,
        "digests": report.digests,
        "before": report.before,
        "samples": [sample._asdict() for sample in report.samples],
        "commits": report.commits,
        "branches": report.branches,
        "tags": report.tags,
        "rewritten": report.rewritten,
        "erased": report.erased,
        "left": report.left,
    }


def verify_document(findings: Iterable[Finding]) -> dict[str, Any]:
    """Of `hangar verify`."""
    found = [{**finding._asdict(), "is_damage": finding.is_damage} for finding in findings]
    return {"damaged": any(one["is_damage"] for one in found), "findings": found}


def _counts(counts: Mapping[str, Count]) -> dict[str, Any]:
    return {kind: count._asdict() for kind, count in counts.items()}
