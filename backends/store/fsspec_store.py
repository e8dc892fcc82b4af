"""Objects on any other fsspec filesystem, such as ``abfs://``, with what they all have in common."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from hangar_cloud.backends.store.bounded import gather_bounded
from hangar_cloud.backends.store.creating import not_proven, prove_creates_by_race
from hangar_cloud.backends.store.explaining import Advice
from hangar_cloud.backends.store.paths import is_listable
from hangar_cloud.backends.store.port import ObjectInfo, Progress
from hangar_cloud.backends.store.remote import Page, RemoteStore
from hangar_cloud.backends.store.retry import Fault
from hangar_cloud.backends.store.timestamps import parse_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

_ADVICE = Advice(
    no_bucket="Check the URL, or create the bucket.",
    no_credentials="Give credentials as the storage_options of this filesystem's fsspec driver.",
    wrong_credentials="Check the credentials in storage_options.",
    no_permission="Ask the owner for access.",
)

_BY_STATUS = {
    401: Fault.WRONG_CREDENTIALS,
    403: Fault.NO_PERMISSION,
    404: Fault.ABSENT,
    412: Fault.EXISTS,
    416: Fault.SHORT,
    **dict.fromkeys((408, 500, 502, 504), Fault.TRANSIENT),
    **dict.fromkeys((429, 503), Fault.BUSY),
}

_BY_TYPE: tuple[tuple[tuple[type[BaseException], ...], Fault], ...] = (
    ((FileExistsError,), Fault.EXISTS),
    ((FileNotFoundError, IsADirectoryError, NotADirectoryError), Fault.ABSENT),
    ((PermissionError,), Fault.NO_PERMISSION),
    ((ConnectionRefusedError,), Fault.UNREACHABLE),
    ((asyncio.TimeoutError, TimeoutError, ConnectionError, EOFError), Fault.TRANSIENT),
)

_BY_TYPE_NAME = {
    "ClientConnectorError": Fault.UNREACHABLE,
    "ServerDisconnectedError": Fault.TRANSIENT,
    "ClientPayloadError": Fault.TRANSIENT,
}


class FsspecStore(RemoteStore):
    """Objects below a URL of some fsspec filesystem, writable if it proves that of racing creates one wins.

    fsspec's own ``mode="create"`` looks first and then writes; drivers that do better are found out by the
    proof. storage_options are those of the driver.
    """

    advice = _ADVICE

    @property
    def package(self) -> str:  # type: ignore[override]
        """The driver that fsspec names for this kind of URL."""
        from fsspec.registry import known_implementations

        scheme = self._root.partition("://")[0]
        described = known_implementations.get(scheme, {})
        return (
            str(described.get("err") or f"(the fsspec driver of {scheme}://)")
            .removeprefix("Install ")
            .partition(" to ")[0]
        )

    def _make_filesystem(self) -> Any:
        import fsspec

        scheme = self._root.partition("://")[0]
        kind = fsspec.get_filesystem_class(scheme)
        options = {**kind._get_kwargs_from_urls(self._root), **self.storage_options}
        filesystem = kind(**options, skip_instance_cache=True, use_listings_cache=False)
        self._base = str(filesystem._strip_protocol(self._root)).rstrip("/")
        return filesystem

    async def _do(self, method: str, *arguments: Any, **options: Any) -> Any:
        filesystem = self._filesystem()
        if filesystem.async_impl:
            return await getattr(filesystem, f"_{method}")(*arguments, **options)
        return await asyncio.to_thread(getattr(filesystem, method), *arguments, **options)

    def _full(self, path: str) -> str:
        self._filesystem()
        return f"{self._base}/{path}" if path else self._base

    def _classify(self, error: BaseException) -> Fault:
        status = getattr(error, "status", None) or getattr(error, "status_code", None)
        named = _BY_TYPE_NAME.get(type(error).__name__)
        if named is not None:
            return named
        if isinstance(status, int) and status in _BY_STATUS:
            return _BY_STATUS[status]
        for kinds, fault in _BY_TYPE:
            if isinstance(error, kinds):
                return fault
        return Fault.PERMANENT

    async def _read(self, path: str, offset: int | None, length: int) -> bytes:
        limits = {} if offset is None else {"start": offset, "end": offset + length}
        return bytes(await self._do("cat_file", self._full(path), **limits))

    async def _write(self, path: str, data: bytes, *, create: bool) -> None:
        await self._do("pipe_file", self._full(path), data, mode="create" if create else "overwrite")

    async def _write_parts(self, path: str, source: Path, size: int, progress: Progress | None) -> None:
        await self._attempt("write", path, lambda: self._do("put_file", str(source), self._full(path)))
        if progress is not None:
            progress(size)

    async def _describe(self, path: str) -> ObjectInfo:
        found = await self._do("info", self._full(path))
        if found.get("type") == "directory":
            raise FileNotFoundError(path)
        return _info(path, found)

    async def _list_page(self, prefix: str, *, delimiter: bool, token: str | None) -> Page:
        folder = prefix.rpartition("/")[0]
        method, options = ("ls", {}) if delimiter else ("find", {"withdirs": False})
        try:
            found = await self._do(method, self._full(folder), detail=True, **options)
        except (FileNotFoundError, NotADirectoryError):
            return [], [], None
        # Asked for what is below an object, adlfs answers with the object's name.
        entries = [entry for entry in (found.values() if isinstance(found, dict) else found) if type(entry) is not str]
        objects, folders = [], []
        for entry in entries:
            path = str(entry["name"]).strip("/").removeprefix(self._base.strip("/")).strip("/")
            if not path.startswith(prefix):
                continue
            if entry.get("type") == "directory":
                folders += [path[len(prefix) :].strip("/")] if path != prefix else []
            elif is_listable(path):
                objects.append(_info(path, entry))
        return sorted(objects, key=lambda info: info.path), folders, None

    async def _remove(self, paths: Sequence[str]) -> None:
        await gather_bounded([self._remover(path) for path in paths], self.concurrency)

    def _remover(self, path: str) -> Callable[[], Awaitable[None]]:
        async def remove() -> None:
            with suppress(FileNotFoundError):
                await self._do("rm_file", self._full(path))

        return remove

    async def _round_trip(self) -> None:
        # An empty prefix is fine: the server answered.
        with suppress(FileNotFoundError):
            await self._do("info", self._full(""))

    async def _prove(self) -> None:
        from fsspec.spec import AbstractFileSystem

        filesystem = self._filesystem()
        if not filesystem.async_impl and type(filesystem).pipe_file is AbstractFileSystem.pipe_file:
            raise not_proven(self)  # fsspec's own looks first and then writes
        await prove_creates_by_race(self)


def _info(path: str, found: dict[str, Any]) -> ObjectInfo:
    modified = (
        found.get("mtime") or found.get("last_modified") or found.get("modified") or found.get("LastModified") or 0
    )
    if isinstance(modified, (int, float)):
        modified = datetime.fromtimestamp(modified, tz=timezone.utc)
    if not isinstance(modified, datetime):
        modified = parse_time(str(modified))
    return ObjectInfo(path, int(found.get("size") or 0), modified.astimezone(timezone.utc))
