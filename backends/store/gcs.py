"""Objects in Google Cloud Storage: its JSON API over gcsfs's session and credentials."""

from __future__ import annotations

import io
import json
import os
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hangar_cloud.backends.errors import StoreError
from hangar_cloud.backends.store.bounded import gather_bounded
from hangar_cloud.backends.store.bucket_url import split_bucket_url
from hangar_cloud.backends.store.client_session import forbid_resending
from hangar_cloud.backends.store.explaining import Advice
from hangar_cloud.backends.store.gcs_faults import GcsAnswerError, classify_gcs
from hangar_cloud.backends.store.paths import is_listable
from hangar_cloud.backends.store.port import ObjectInfo, Progress
from hangar_cloud.backends.store.remote import Page, RemoteStore
from hangar_cloud.backends.store.retry import Fault, RetryPolicy
from hangar_cloud.backends.store.timestamps import parse_time
from hangar_cloud.backends.store.transfer import read_part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

_STREAMED_BYTES = 1024 * 1024
_CHUNK_UNIT = 256 * 1024
_FIELDS = "name,size,updated"

_ADVICE = Advice(
    no_bucket="Check the bucket's name and the endpoint_url option, or create the bucket.",
    no_credentials=(
        "Run 'gcloud auth application-default login', set GOOGLE_APPLICATION_CREDENTIALS, or give "
        "storage_options "
        "{'token': 'path/to/key.json'}; for a public bucket {'token': 'anon'}."
    ),
    wrong_credentials="Check the token option or log in again; the credentials may have expired.",
    no_permission="Ask the bucket's owner for the role Storage Object Viewer to read, or Storage Object User to write.",
)


class GcsStore(RemoteStore):
    """Objects below ``gs://bucket/prefix``. Creates carry ``ifGenerationMatch=0``.

    storage_options are those of ``gcsfs.GCSFileSystem``. gcsfs's own request methods are not used: they retry
    for a minute, forget the answer's text, and frame uploads with a fixed boundary that sample bytes may
    contain.
    """

    advice = _ADVICE
    package = "gcsfs"

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
        # Otherwise importing gcsfs turns on a mode that asks for the bucket's type over gRPC, for minutes on
        # emulators.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        from gcsfs.core import GCSFileSystem

        options = dict(self.storage_options)
        endpoint = options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST") or ""
        if endpoint and "googleapis.com" not in endpoint:
            # An emulator wants no credentials, and looking for some costs seconds.
            options.setdefault("token", "anon")
        return GCSFileSystem(**options, skip_instance_cache=True, use_listings_cache=False)

    async def _vfs_settings(self) -> dict[str, str] | None:
        if set(self.storage_options) - {"token", "endpoint_url", "project"}:
            return None
        filesystem = self._filesystem()
        anonymous = filesystem.credentials.credentials is None
        return gcs_settings(filesystem._location, self.storage_options.get("token"), anonymous)

    def _classify(self, error: BaseException) -> Fault:
        return classify_gcs(error)

    async def _call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        **parameters: str | None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request; ``url`` is absolute or starts with a path below the endpoint. Raises GcsAnswerError."""
        import aiohttp

        filesystem = self._filesystem()
        session = await _session_of(filesystem)
        absolute = url if "://" in url else filesystem._location + url
        async with session.request(
            method,
            _encoded(absolute),
            params=None if "://" in url else filesystem._get_params(parameters),
            headers=filesystem._get_headers(headers),
            # aiohttp warns of bytes above a megabyte, which it would send in one piece.
            data=data if data is None or len(data) < _STREAMED_BYTES else io.BytesIO(data),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
            allow_redirects=False,
        ) as answer:
            body: bytes = await answer.read()
            if answer.status >= 400:
                raise GcsAnswerError(answer.status, body, anonymous=filesystem.credentials.credentials is None)
            return answer.status, answer.headers, body

    def _object_url(self, path: str, *, download: bool = False) -> str:
        base = "/download/storage/v1" if download else "/storage/v1"
        return f"{base}/b/{quote(self._bucket, safe='')}/o/{quote(self._prefix + path, safe='')}"

    @property
    def _upload_url(self) -> str:
        return f"/upload/storage/v1/b/{quote(self._bucket, safe='')}/o"

    async def _read(self, path: str, offset: int | None, length: int) -> bytes:
        headers = None if offset is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        _, _, body = await self._call("GET", self._object_url(path, download=True), headers=headers, alt="media")
        return body

    async def _write(self, path: str, data: bytes, *, create: bool) -> None:
        boundary, body = _framed(self._prefix + path, data)
        await self._call(
            "POST",
            self._upload_url,
            headers={"Content-Type": f'multipart/related; boundary="{boundary}"'},
            data=body,
            uploadType="multipart",
            ifGenerationMatch="0" if create else None,
        )

    async def _write_parts(self, path: str, source: Path, size: int, progress: Progress | None) -> None:
        location = await self._attempt("write", path, lambda: self._start_upload(path, size))
        step = max(4 * self.part_bytes // _CHUNK_UNIT, 1) * _CHUNK_UNIT
        offset = 0
        while offset < size:
            length = min(step, size - offset)
            data = await read_part(source, offset, length)
            sent = await self._attempt("write", path, self._chunk_sender(location, data, offset, size))
            if progress is not None:
                progress(sent - offset)
            offset = sent
        info = await self._attempt("look up", path, lambda: self._describe(path))
        if info.size != size:
            raise StoreError(
                f"{self._place(path)} has {info.size} bytes after an upload of {size}: the server mixed up "
                "its parts. "
                "Delete that object and upload it again."
            )

    async def _start_upload(self, path: str, size: int) -> str:
        _, headers, _ = await self._call(
            "POST",
            self._upload_url,
            headers={
                "X-Upload-Content-Type": "application/octet-stream",
                "X-Upload-Content-Length": str(size),
            },
            data=b"",
            uploadType="resumable",
            name=self._prefix + path,
        )
        return headers["Location"]

    def _chunk_sender(self, location: str, data: bytes, offset: int, size: int) -> Callable[[], Awaitable[int]]:
        # Sending a chunk again is safe: the server ignores bytes at offsets that it has.
        async def send() -> int:
            end = offset + len(data)
            headers = {
                "Content-Range": f"bytes {offset}-{end - 1}/{size}",
                "Content-Type": "application/octet-stream",
            }
            status, answer, _ = await self._call("PUT", location, headers=headers, data=data)
            if status != 308:
                return size
            kept = answer.get("Range", "").rpartition("-")[2]
            # The server may have kept less than was sent; an emulator's off-by-one must not run past the end.
            return min(int(kept) + 1, end) if kept.isdecimal() else offset

        return send

    async def _describe(self, path: str) -> ObjectInfo:
        _, _, body = await self._call("GET", self._object_url(path), fields=_FIELDS)
        return self._info(json.loads(body))

    def _info(self, item: Mapping[str, Any]) -> ObjectInfo:
        return ObjectInfo(item["name"][len(self._prefix) :], int(item.get("size", 0)), parse_time(item["updated"]))

    async def _list_page(self, prefix: str, *, delimiter: bool, token: str | None) -> Page:
        _, _, body = await self._call(
            "GET",
            f"/storage/v1/b/{quote(self._bucket, safe='')}/o",
            prefix=self._prefix + prefix,
            delimiter="/" if delimiter else None,
            pageToken=token,
            fields=f"items({_FIELDS}),prefixes,nextPageToken",
        )
        answer = json.loads(body)
        start = len(self._prefix)
        objects = [self._info(item) for item in answer.get("items", []) if is_listable(item["name"][start:])]
        skip = start + len(prefix)
        folders = [name[skip:].rstrip("/") for name in answer.get("prefixes", [])]
        return objects, folders, answer.get("nextPageToken") or None

    async def _remove(self, paths: Sequence[str]) -> None:
        await gather_bounded([self._remover(path) for path in paths], self.concurrency)

    def _remover(self, path: str) -> Callable[[], Awaitable[None]]:
        async def remove() -> None:
            try:
                await self._call("DELETE", self._object_url(path))
            except GcsAnswerError as error:
                if classify_gcs(error) is not Fault.ABSENT:
                    raise

        return remove

    async def _round_trip(self) -> None:
        url = f"/storage/v1/b/{quote(self._bucket, safe='')}/o"
        await self._call("GET", url, prefix=self._prefix, maxResults="1", fields="nextPageToken")

    @staticmethod
    async def _close_filesystem(filesystem: Any) -> None:
        if filesystem._session is not None:
            await filesystem._session.close()


async def _session_of(filesystem: Any) -> Any:
    if filesystem._session is None:
        if filesystem._use_client_cert:
            return await filesystem._set_session()
        import aiohttp

        # Made here, it has no finalizer of gcsfs's, which would close it from the wrong thread.
        filesystem._session = forbid_resending(aiohttp.ClientSession(**filesystem.session_kwargs))
    return filesystem._session


def gcs_settings(endpoint: str, token: Any, anonymous: bool) -> dict[str, str] | None:
    """What TileDB has to be told to read a bucket as gcsfs does; None where it cannot be.

    Args:
        endpoint: URL of the server.
        token: as gcsfs takes it.
        anonymous: whether gcsfs has no credentials.
    """
    if "googleapis.com" not in endpoint:
        # An address of its own is taken for an emulator's, without credentials.
        return {"vfs.gcs.endpoint": endpoint} if anonymous else None
    if token in (None, "google_default"):
        return None if anonymous else {}
    if isinstance(token, dict) and token.get("type") == "service_account":
        return {"vfs.gcs.service_account_key": json.dumps(token)}
    return None


def _framed(name: str, data: bytes) -> tuple[str, bytes]:
    """Return a boundary that ``data`` does not contain, and the body of a multipart upload."""
    boundary = secrets.token_hex(16)
    while boundary.encode() in data:  # pragma: no cover - 128 random bits
        boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\nContent-Type: application/json; "
        f"charset=UTF-8\r\n\r\n{json.dumps({'name': name})}\r\n"
        f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    return boundary, b"".join((head.encode(), data, f"\r\n--{boundary}--\r\n".encode()))


def _encoded(url: str) -> Any:
    # aiohttp would decode and re-encode the %2F in object names otherwise.
    from yarl import URL

    return URL(url, encoded=True)
