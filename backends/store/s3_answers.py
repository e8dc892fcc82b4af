"""What S3's API takes and answers, whoever sends the requests: pages of listings, deletions, parts of uploads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timezone
from typing import Any, Final

from hangar_cloud.backends.store.paths import is_listable
from hangar_cloud.backends.store.port import ObjectInfo
from hangar_cloud.backends.store.remote import Page

UPLOADS_AT_ONCE: Final = 4
# S3 takes parts of 5 MiB and more, up to 10,000 of them, and 1,000 names a deletion.
_LEAST_PART_BYTES: Final = 5 * 1024 * 1024
_MOST_PARTS: Final = 9_000
_MOST_DELETED: Final = 1_000


def part_places(size: int, part_bytes: int) -> list[tuple[int, int]]:
    """Offset and length of each part of an upload of `size` bytes, in parts of `part_bytes` where S3 takes those."""
    length = max(part_bytes, _LEAST_PART_BYTES, -(-size // _MOST_PARTS))
    return [(offset, min(length, size - offset)) for offset in range(0, size, length)]


def listing_query(prefix: str, *, delimiter: bool, token: str | None) -> dict[str, str]:
    """Arguments of ``ListObjectsV2`` for the page behind `token`."""
    arguments = {"Prefix": prefix}
    if token:
        arguments["ContinuationToken"] = token
    if delimiter:
        arguments["Delimiter"] = "/"
    return arguments


def page_of(answer: Mapping[str, Any], root: str, prefix: str) -> Page:
    """The page that ``ListObjectsV2`` answered.

    Args:
        answer: as botocore parses it.
        root: the store's own prefix, which its objects' paths do not have.
        prefix: what was listed below that.
    """
    start, skip = len(root), len(root) + len(prefix)
    objects = [
        ObjectInfo(item["Key"][start:], int(item["Size"]), item["LastModified"].astimezone(timezone.utc))
        for item in answer.get("Contents", [])
        if is_listable(item["Key"][start:])
    ]
    folders = [item["Prefix"][skip:].rstrip("/") for item in answer.get("CommonPrefixes", [])]
    return objects, folders, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None


def deletions(root: str, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The argument ``Delete`` of each ``DeleteObjects`` that it takes to delete objects below `root`."""
    for start in range(0, len(paths), _MOST_DELETED):
        named = [{"Key": root + path} for path in paths[start : start + _MOST_DELETED]]
        yield {"Objects": named, "Quiet": True}


def require_deleted(answer: Mapping[str, Any]) -> None:
    """Raise botocore's ClientError for the first object that ``DeleteObjects`` left where it was."""
    from botocore.exceptions import ClientError

    for failure in answer.get("Errors", []):
        if failure.get("Code") != "NoSuchKey":
            told = {"Error": {"Code": failure.get("Code"), "Message": failure.get("Message")}}
            raise ClientError(told, "DeleteObjects")
