"""Objects on a plain web server, through fsspec's HTTP filesystem: read-only, and without listings."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from hangar_cloud.backends.errors import UnsupportedStoreError, redact_url
from hangar_cloud.backends.store.explaining import Advice
from hangar_cloud.backends.store.port import ObjectInfo, Progress
from hangar_cloud.backends.store.remote import Page, RemoteStore
from hangar_cloud.backends.store.retry import Fault, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_ADVICE = Advice(
    no_bucket="Check the URL.",
    no_credentials="Give the server's credentials as storage_options, such as {'headers': {'Authorization': ...}}.",
    wrong_credentials="Check the credentials in storage_options.",
    no_permission="Ask the server's owner for access.",
    unreachable="Check the network connection and the host name, then try again.",
)

# The one object that every repository has (docs/format.md).
_ALWAYS_THERE = "hangar.json"

_BY_STATUS = {
    401: Fault.WRONG_CREDENTIALS,
    403: Fault.NO_PERMISSION,
    404: Fault.ABSENT,
    408: Fault.TRANSIENT,
    410: Fault.ABSENT,
    416: Fault.SHORT,
    429: Fault.BUSY,
    500: Fault.TRANSIENT,
    502: Fault.TRANSIENT,
    503: Fault.BUSY,
    504: Fault.TRANSIENT,
}


class HttpStore(RemoteStore):
    """Objects below an ``http://`` or ``https://`` URL; a query such as a shared-access signature stays at the end.

    storage_options are those of ``fsspec.implementations.http.HTTPFileSystem``.
    """

    advice = _ADVICE
    package = "aiohttp"
    read_only = True
    can_list = False
    _has_given = False

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        *,
        retry: RetryPolicy | None = None,
        concurrency: int = 16,
        part_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        if not urlsplit(url).netloc:
            raise UnsupportedStoreError(f"{redact_url(url)!r} names no host. Use https://host/path.")
        super().__init__(url, storage_options, retry=retry, concurrency=concurrency, part_bytes=part_bytes)

    def _make_filesystem(self) -> Any:
        import aiohttp
        from fsspec.implementations.http import HTTPFileSystem

        # A server that compresses unasked would decide how much memory its answer takes.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        client = {"timeout": timeout, "auto_decompress": False}
        options = dict(self.storage_options)
        options["client_kwargs"] = {**client, **(options.get("client_kwargs") or {})}
        # Brotli or gzip on the way would make lengths and ranges those of other bytes.
        options["headers"] = {"Accept-Encoding": "identity", **(options.get("headers") or {})}
        return HTTPFileSystem(**options, skip_instance_cache=True, use_listings_cache=False)

    def _classify(self, error: BaseException) -> Fault:
        import aiohttp

        if isinstance(error, aiohttp.ClientResponseError):
            return _BY_STATUS.get(error.status, Fault.PERMANENT)
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            return Fault.UNREACHABLE
        transient = (aiohttp.ClientError, asyncio.TimeoutError, TimeoutError, ConnectionError)
        permanent = (aiohttp.InvalidURL, aiohttp.TooManyRedirects)
        return Fault.TRANSIENT if isinstance(error, transient) and not isinstance(error, permanent) else Fault.PERMANENT

    def _place(self, path: str) -> str:
        return redact_url(self._object_url(path))

    def _object_url(self, path: str) -> str:
        parts = urlsplit(self._root)
        joined = f"{parts.path.rstrip('/')}/{quote(path)}" if path else parts.path
        return urlunsplit((parts.scheme, parts.netloc, joined, parts.query, ""))

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        import aiohttp

        try:
            return await self._ask(method, path, headers)
        except aiohttp.ClientResponseError as error:
            if error.status == 403 and path not in ("", _ALWAYS_THERE) and await self._gives_others():
                raise aiohttp.ClientResponseError(error.request_info, error.history, status=404) from error
            raise

    async def _gives_others(self) -> bool:
        """Whether 403 can only mean that an object is not there.

        S3 and GCS say so of what is absent, where a bucket is public but may not be listed; its readers ask for absent
        objects all the time, since that is how the end of a log is found.
        """
        import aiohttp

        if not self._has_given:
            try:
                await self._ask("GET", _ALWAYS_THERE, {})
            except aiohttp.ClientResponseError:
                return False
            self._has_given = True
        return True

    async def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        filesystem = self._filesystem()
        session = await filesystem.set_session()
        options = dict(filesystem.kwargs)
        options["headers"] = {**options.get("headers", {}), **headers}
        url = filesystem.encode_url(self._object_url(path))
        async with session.request(method, url, allow_redirects=True, **options) as answer:
            answer.raise_for_status()
            body: bytes = await answer.read()
            return answer.status, answer.headers, body

    async def _read(self, path: str, offset: int | None, length: int) -> bytes:
        headers = {} if offset is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        status, _, body = await self._request("GET", path, headers)
        # Simple servers ignore Range and answer 200 with everything.
        return body if offset is None or status == 206 else body[offset : offset + length]

    async def _describe(self, path: str) -> ObjectInfo:
        _, headers, _ = await self._request("HEAD", path, {})
        size = headers.get("Content-Length", "")
        if not size.isdecimal():
            _, headers, body = await self._request("GET", path, {})
            size = str(len(body))
        return ObjectInfo(path, int(size), _modified(headers))

    async def _round_trip(self) -> None:
        import aiohttp

        try:
            await self._request("HEAD", "", {})
        except aiohttp.ClientResponseError as error:
            # Servers rarely show folders; that one answered is all we ask.
            if error.status not in (403, 404, 405):
                raise

    async def _write(self, path: str, data: bytes, *, create: bool) -> None:
        self._require_writes()

    async def _write_parts(self, path: str, source: Path, size: int, progress: Progress | None) -> None:
        self._require_writes()

    async def _list_page(self, prefix: str, *, delimiter: bool, token: str | None) -> Page:
        self._require_listing()
        return [], [], None

    async def _remove(self, paths: Sequence[str]) -> None:
        self._require_writes()

    @staticmethod
    async def _close_filesystem(filesystem: Any) -> None:
        if filesystem._session is not None:
            await filesystem._session.close()


def _modified(headers: Mapping[str, str]) -> datetime:
    try:
        moment = parsedate_to_datetime(headers["Last-Modified"])
    except (KeyError, ValueError):
        return datetime.fromtimestamp(0, tz=timezone.utc)
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
