"""Objects in S3 through s3fs, for what only it can do: proxies, extra arguments, other signatures."""

from __future__ import annotations

import asyncio
from datetime import timezone
from typing import TYPE_CHECKING, Any

from hangar_cloud.backends.errors import AccessDeniedError, StoreError
from hangar_cloud.backends.store.bounded import gather_bounded
from hangar_cloud.backends.store.bucket_url import split_bucket_url
from hangar_cloud.backends.store.client_session import session_config
from hangar_cloud.backends.store.port import ObjectInfo, Progress
from hangar_cloud.backends.store.remote import Page, RemoteStore
from hangar_cloud.backends.store.s3_answers import (
    UPLOADS_AT_ONCE,
    deletions,
    listing_query,
    page_of,
    part_places,
    require_deleted,
)
from hangar_cloud.backends.store.s3_faults import S3_ADVICE, classify_s3
from hangar_cloud.backends.store.transfer import read_part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from hangar_cloud.backends.store.retry import Fault, RetryPolicy


class S3FsspecStore(RemoteStore):
    """Objects below ``s3://bucket/prefix``. Creates are conditional PUTs (``If-None-Match: *``).

    storage_options are those of ``s3fs.S3FileSystem``.
    """

    advice = S3_ADVICE
    package = "s3fs"

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        *,
        retry: RetryPolicy | None = None,
        concurrency: int = 16,
        part_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._bucket, self._prefix = split_bucket_url(url)
        super().__init__(url, storage_options, retry=retry, concurrency=concurrency, part_bytes=part_bytes)

    def _make_filesystem(self) -> Any:
        import s3fs

        filesystem = s3fs.S3FileSystem(**self._driver_options(), skip_instance_cache=True, use_listings_cache=False)
        # Retrying is ours: two layers would multiply their attempts and their waits.
        filesystem.retries = 1
        return filesystem

    def _driver_options(self) -> dict[str, Any]:
        options = dict(self.storage_options)
        config: dict[str, Any] = {
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 4 * self.concurrency,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
        }
        config.update(session_config())
        client = options.get("client_kwargs") or {}
        if options.get("endpoint_url") or client.get("endpoint_url"):
            # Not every server that speaks S3 knows the checksum trailers that botocore sends by default.
            config["request_checksum_calculation"] = "when_required"
            config["response_checksum_validation"] = "when_required"
        options["config_kwargs"] = {**config, **(options.get("config_kwargs") or {})}
        return options

    def _classify(self, error: BaseException) -> Fault:
        return classify_s3(error)

    async def _call(self, method: str, **arguments: Any) -> Any:
        return await self._filesystem()._call_s3(method, Bucket=self._bucket, **arguments)

    async def _read(self, path: str, offset: int | None, length: int) -> bytes:
        wanted = {} if offset is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        answer = await self._call("get_object", Key=self._prefix + path, **wanted)
        async with answer["Body"] as body:
            data: bytes = await body.read()
        return data

    async def _write(self, path: str, data: bytes, *, create: bool) -> None:
        condition = {"IfNoneMatch": "*"} if create else {}
        await self._call("put_object", Key=self._prefix + path, Body=data, **condition)

    async def _write_parts(self, path: str, source: Path, size: int, progress: Progress | None) -> None:
        key = self._prefix + path
        started = await self._attempt("write", path, lambda: self._call("create_multipart_upload", Key=key))
        upload = {"Key": key, "UploadId": started["UploadId"]}
        sends = [
            self._part_sender(path, source, upload, number, *place, progress)
            for number, place in enumerate(part_places(size, self.part_bytes), start=1)
        ]
        try:
            parts = await gather_bounded(sends, UPLOADS_AT_ONCE)
            await self._complete(path, size, {**upload, "MultipartUpload": {"Parts": parts}})
        except BaseException:
            # Parts of an unfinished upload are invisible, and paid for until somebody aborts it.
            await asyncio.shield(asyncio.gather(self._call("abort_multipart_upload", **upload), return_exceptions=True))
            raise

    def _part_sender(
        self,
        path: str,
        source: Path,
        upload: Mapping[str, str],
        number: int,
        offset: int,
        length: int,
        progress: Progress | None,
    ) -> Callable[[], Awaitable[dict[str, Any]]]:
        async def send() -> dict[str, Any]:
            data = await read_part(source, offset, length)
            answer = await self._attempt(
                "write", path, lambda: self._call("upload_part", **upload, PartNumber=number, Body=data)
            )
            if progress is not None:
                progress(length)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        return send

    async def _complete(self, path: str, size: int, upload: Mapping[str, Any]) -> None:
        try:
            await self._attempt("write", path, lambda: self._call("complete_multipart_upload", **upload))
        except (StoreError, AccessDeniedError):
            # An upload whose completion landed while its answer was lost is unknown to the server afterwards.
            info = await self._attempt("look up", path, lambda: self._describe(path))
            if info.size != size:
                raise

    async def _describe(self, path: str) -> ObjectInfo:
        answer = await self._call("head_object", Key=self._prefix + path)
        return ObjectInfo(path, int(answer["ContentLength"]), answer["LastModified"].astimezone(timezone.utc))

    async def _list_page(self, prefix: str, *, delimiter: bool, token: str | None) -> Page:
        query = listing_query(self._prefix + prefix, delimiter=delimiter, token=token)
        return page_of(await self._call("list_objects_v2", **query), self._prefix, prefix)

    async def _remove(self, paths: Sequence[str]) -> None:
        for named in deletions(self._prefix, paths):
            require_deleted(await self._call("delete_objects", Delete=named))

    async def _round_trip(self) -> None:
        await self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)

    @staticmethod
    async def _close_filesystem(filesystem: Any) -> None:
        if filesystem._s3 is not None:
            await filesystem._s3.close()
