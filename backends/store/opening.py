"""From a URL to the store behind it."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from hangar_cloud.backends.errors import UnsupportedStoreError, redact_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hangar_cloud.backends.store.port import ObjectStore

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_IPV6_HOST = re.compile(r"://\[[0-9A-Fa-f:.%]+\]")
_COMMON_SCHEMES = ("file", "s3", "gs", "gcs", "memory", "http", "https", "az", "abfs")


def open_store(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> ObjectStore:
    """Return the store whose root is ``url``; nothing is asked over the network before its first use.

    url: a folder, ``file://``, ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``,
        ``memory://name``, ``http(s)://`` (read-only), or a URL of any other filesystem that fsspec knows.
    storage_options: what that filesystem's fsspec driver accepts, such as ``key``, ``secret``,
        ``endpoint_url`` for s3fs (whose names are taken for S3, though most requests are not sent by it) or ``token``
        for gcsfs. Local folders and ``memory://`` need none and ignore
        them.

    Raises UnsupportedStoreError for URLs of an unknown kind or shape, and if a driver package is missing.
    """
    text = os.fspath(url)
    options = dict(storage_options or {})
    match = _SCHEME.match(text)
    if "::" in text and _looks_chained(text):
        raise UnsupportedStoreError(
            f"{redact_url(text)!r} chains filesystems with '::'. A repository may not be cached or unpacked "
            "on the way: "
            "give the plain URL, such as s3://bucket/path."
        )
    if match is None:
        return _open_folder(text)
    try:
        urlsplit(text)
    except ValueError as error:
        raise UnsupportedStoreError(f"{redact_url(text)!r} is not a URL ({error}). Use s3://bucket/path.") from None
    scheme = match.group(1).lower()
    if scheme == "file":
        return _open_folder(_folder_of(text))
    if scheme == "memory":
        from hangar_cloud.backends.store.memory import MemoryStore

        return MemoryStore(text)
    return _open_remote(scheme, text, options)


def _open_folder(folder: str) -> ObjectStore:
    from hangar_cloud.backends.store.local import LocalStore

    if not folder:
        raise UnsupportedStoreError("An empty path names no store. Give a folder, or a URL such as s3://bucket/path.")
    return LocalStore(os.path.expanduser(folder))


def _open_remote(scheme: str, url: str, options: dict[str, Any]) -> ObjectStore:
    if scheme in ("s3", "s3a"):
        from hangar_cloud.backends.store.s3 import open_s3

        return open_s3(url, options)
    if scheme in ("gs", "gcs"):
        from hangar_cloud.backends.store.gcs import GcsStore

        return GcsStore(url, options)
    if scheme in ("az", "abfs", "abfss"):
        from hangar_cloud.backends.store.azure import AzureStore

        return AzureStore(url, options)
    if scheme in ("http", "https"):
        from hangar_cloud.backends.store.http import HttpStore

        return HttpStore(url, options)
    from hangar_cloud.backends.store.fsspec_store import FsspecStore

    _require_known(scheme, url)
    return FsspecStore(url, options)


def _require_known(scheme: str, url: str) -> None:
    from fsspec.registry import available_protocols, registry

    known = sorted({*available_protocols(), *registry, *_COMMON_SCHEMES})
    if scheme in known:
        return
    near = difflib.get_close_matches(scheme, _COMMON_SCHEMES, n=1) or difflib.get_close_matches(scheme, known, n=1)
    guess = f" Did you mean {near[0]}://?" if near else ""
    raise UnsupportedStoreError(
        f"Cannot open {redact_url(url)!r}: there is no kind of store called {scheme}://.{guess} "
        "Known are a plain folder, file://, s3://, gs://, az://, http(s):// and what other fsspec drivers "
        "you install."
    )


def _looks_chained(text: str) -> bool:
    text = _IPV6_HOST.sub("://host", text)
    return any(_SCHEME.match(link) or re.fullmatch(r"[a-z0-9+.-]+", link) for link in text.split("::")[:-1])


def _folder_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UnsupportedStoreError(
            f"{redact_url(url)!r} names a file on another host. Local files have three slashes: file:///folder/name."
        )
    path = unquote(url.partition("://")[2].removeprefix(parts.netloc))
    # file:///C:/folder is C:/folder on Windows.
    return path[1:] if re.match(r"^/[A-Za-z]:", path) and os.name == "nt" else path
