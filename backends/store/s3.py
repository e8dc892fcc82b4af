"""Objects in S3 and what speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

from hangar_cloud.backends.errors import AccessDeniedError, StoreError, UnsupportedStoreError
from hangar_cloud.backends.store.bounded import gather_bounded
from hangar_cloud.backends.store.bucket_url import split_bucket_url
from hangar_cloud.backends.store.http_wire import Room
from hangar_cloud.backends.store.port import ObjectInfo, ObjectStore, Progress
from hangar_cloud.backends.store.reception import rooms_for
from hangar_cloud.backends.store.remote import Page, RemoteStore
from hangar_cloud.backends.store.retry import Fault, RetryPolicy
from hangar_cloud.backends.store.s3_answers import (
    UPLOADS_AT_ONCE,
    deletions,
    listing_query,
    page_of,
    part_places,
    require_deleted,
)
from hangar_cloud.backends.store.s3_faults import S3_ADVICE, classify_s3
from hangar_cloud.backends.store.s3_options import S3Options, is_understood, with_defaults
from hangar_cloud.backends.store.s3_settings import s3_settings
from hangar_cloud.backends.store.transfer import read_part

_REQUESTS_AT_ONCE: Final = 32


class S3Store(RemoteStore):
    """Objects below ``s3://bucket/prefix``. Creates are conditional PUTs (``If-None-Match: *``).

    Requests are sent by the threads that want their answers, on connections of each process's own; credentials and
    endpoints are botocore's. storage_options are those of ``s3fs.S3FileSystem``, as far as
    `hangar_cloud.backends.store.s3_options.is_understood` says so.
    """

    advice = S3_ADVICE
    package = "boto3"
    driven = True

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        *,
        retry: RetryPolicy | None = None,
        concurrency: int | None = None,
        part_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._bucket, self._prefix = split_bucket_url(url)
        if concurrency is None:
            concurrency = _concurrency((storage_options or {}).get("max_concurrency"))
        super().__init__(url, storage_options, retry=retry, concurrency=concurrency, part_bytes=part_bytes)

    def _make_filesystem(self) -> Any:
        from hangar_cloud.backends.store.s3_client import S3Client

        options = with_defaults(self.storage_options)
        if not is_understood(self._bucket, options):
            raise UnsupportedStoreError(
                f"fsspec is configured to add options for S3 to those of {self.url} that need s3fs. Give them as "
                f"storage_options: {', '.join(sorted(set(options) - set(self.storage_options)))}"
            )
        return S3Client(self._bucket, S3Options(options, self.concurrency))

    async def _vfs_settings(self) -> dict[str, str] | None:
        return await s3_settings(self._filesystem(), self.storage_options)

    def _classify(self, error: BaseException) -> Fault:
        return classify_s3(error)

    def _call(self, method: str, **arguments: Any) -> Any:
        from hangar_cloud.backends.store.s3_client import CHECK_ENDPOINT

        try:
            return getattr(self._filesystem().boto, method)(Bucket=self._bucket, **arguments)
        except RecursionError:
            # What botocore makes of a server that sends it elsewhere and does not say to which region.
            raise StoreError(f"{self.url} is not there: its server sends elsewhere. {CHECK_ENDPOINT}") from None

    async def _read(self, path: str, offset: int | None, length: int) -> bytes:
        if offset is None:
            whole: bytes = self._filesystem().request("GET", self._prefix + path).body
            return whole
        data, *_ = self._read_part(path, offset, length)
        assert isinstance(data, bytes)
        return data

    async def _read_pieces(self, path: str, offset: int, lengths: Sequence[int]) -> Sequence[bytes | memoryview]:
        return self._read_part(path, offset, sum(lengths), lambda: rooms_for(offset, lengths))

    def _read_part(self, path: str, offset: int, length: int, room: Room | None = None) -> Sequence[bytes | memoryview]:
        wanted = {"range": f"bytes={offset}-{offset + length - 1}"}
        answer = self._filesystem().request("GET", self._prefix + path, headers=wanted, most=length, room=room)
        # Simple servers ignore Range and answer 200 with everything.
        if answer.status != 206:
            return [answer.body[offset : offset + length]]
        told = answer.headers.get("content-range")
        if told is not None and not told.lower().startswith(f"bytes {offset}-"):
            raise ConnectionError(f"{told!r} came where bytes from {offset} on were asked for")
        return [answer.body] if answer.pieces is None else answer.pieces

    async def _write(self, path: str, data: bytes, *, create: bool) -> None:
        condition = {"if-none-match": "*"} if create else {}
        self._filesystem().request("PUT", self._prefix + path, headers=condition, body=data)

    async def _write_parts(self, path: str, source: Path, size: int, progress: Progress | None) -> None:
        key = self._prefix + path

        async def start() -> Any:
            return self._call("create_multipart_upload", Key=key)

        upload = {"Key": key, "UploadId": (await self._attempt("write", path, start))["UploadId"]}
        sends = [
            self._part_sender(path, source, upload["UploadId"], number, *place, progress)
            for number, place in enumerate(part_places(size, self.part_bytes), start=1)
        ]
        try:
            parts = await gather_bounded(sends, UPLOADS_AT_ONCE)
            await self._complete(path, size, {**upload, "MultipartUpload": {"Parts": parts}})
        except BaseException:
            # Parts of an unfinished upload are invisible, and paid for until somebody aborts it.
            with suppress(Exception):
                self._call("abort_multipart_upload", **upload)
            raise

    def _part_sender(
        self,
        path: str,
        source: Path,
        upload: str,
        number: int,
        offset: int,
        length: int,
        progress: Progress | None,
    ) -> Callable[[], Any]:
        async def send() -> dict[str, Any]:
            data = await read_part(source, offset, length)
            query = {"partNumber": str(number), "uploadId": upload}

            async def put() -> str:
                answer = self._filesystem().request("PUT", self._prefix + path, query=query, body=data)
                return str(answer.headers["ETag"])

            tag = await self._attempt("write", path, put)
            if progress is not None:
                progress(length)
            return {"PartNumber": number, "ETag": tag}

        return send

    async def _complete(self, path: str, size: int, upload: Mapping[str, Any]) -> None:
        async def complete() -> None:
            self._call("complete_multipart_upload", **upload)

        try:
            await self._attempt("write", path, complete)
        except (StoreError, AccessDeniedError):
            # An upload whose completion landed while its answer was lost is unknown to the server afterwards.
            info = await self._attempt("look up", path, lambda: self._describe(path))
            if info.size != size:
                raise

    async def _describe(self, path: str) -> ObjectInfo:
        headers = self._filesystem().request("HEAD", self._prefix + path).headers
        return ObjectInfo(path, int(headers["Content-Length"]), _modified(headers))

    async def _list_page(self, prefix: str, *, delimiter: bool, token: str | None) -> Page:
        query = listing_query(self._prefix + prefix, delimiter=delimiter, token=token)
        return page_of(self._call("list_objects_v2", **query), self._prefix, prefix)

    async def _remove(self, paths: Sequence[str]) -> None:
        for named in deletions(self._prefix, paths):
            require_deleted(self._call("delete_objects", Delete=named))

    async def _round_trip(self) -> None:
        self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)

    @staticmethod
    async def _close_filesystem(filesystem: Any) -> None:
        filesystem.close()


def open_s3(url: str, storage_options: Mapping[str, Any]) -> ObjectStore:
    """The store of a bucket: over s3fs where it is asked for something that only s3fs can do."""
    bucket, _ = split_bucket_url(url)
    if not is_understood(bucket, storage_options):
        from hangar_cloud.backends.store.s3_fsspec import S3FsspecStore

        return S3FsspecStore(url, storage_options)
    return S3Store(url, storage_options)


def _concurrency(given: object) -> int:
    """Requests at once of one call, as they are asked for."""
    text = str(given)
    if given is None:
        return _REQUESTS_AT_ONCE
    if not text.isdecimal() or int(text) < 1:
        raise UnsupportedStoreError(f"max_concurrency must be a whole number from 1 on, not {given!r}")
    return int(text)


def _modified(headers: Mapping[str, str]) -> datetime:
    return parsedate_to_datetime(headers["Last-Modified"]).astimezone(timezone.utc)
