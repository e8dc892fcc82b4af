"""The errors of everything below the catalog: the root class and what goes wrong where bytes live.

::

    HangarError                     (Exception)
    ├── StoreError                  (OSError)            a store answered, or did not, in a way we cannot use
    │   ├── ObjectNotFoundError     (FileNotFoundError)  that object is not there
    │   ├── BucketNotFoundError     (FileNotFoundError)  the bucket (or the root folder) is not there
    │   ├── AccessDeniedError       (PermissionError)    no, wrong or insufficient credentials
    │   ├── StoreUnavailableError   (ConnectionError)    no network, time-outs, throttled beyond all retries
    │   ├── ReadOnlyStoreError      (PermissionError)    this store may not be written to
    │   └── TruncatedObjectError    (EOFError)           an object ends before the bytes asked for
    ├── InvalidPathError            (ValueError)         an object name that no store may hold
    ├── UnsupportedStoreError       (ValueError)         unknown kind of URL, or its driver is not installed
    ├── DataNotLocalError           (FileNotFoundError)  not on this machine, and not to be fetched
    ├── CorruptDataError            (ValueError)         bytes that are not what they should be
    ├── PurgedBytesError            (LookupError)        bytes that were removed from all history
    └── UnsupportedFormatError      (RuntimeError)       written by a newer version, or not ours

Every message says what happened, to which URL or object, and what to do next. No message contains a
credential: text from outside goes through :func:`redact_text`, URLs through :func:`redact_url`.
"""

from __future__ import annotations

import re
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

__all__ = [
    "AccessDeniedError",
    "BucketNotFoundError",
    "CorruptDataError",
    "DataNotLocalError",
    "HangarError",
    "InvalidPathError",
    "ObjectNotFoundError",
    "PurgedBytesError",
    "ReadOnlyStoreError",
    "StoreError",
    "StoreUnavailableError",
    "TruncatedObjectError",
    "UnsupportedFormatError",
    "UnsupportedStoreError",
    "redact_text",
    "redact_url",
    "without_frames",
]

_Error = TypeVar("_Error", bound=BaseException)


class HangarError(Exception):
    """Root of every error that hangar-cloud raises on purpose; ``str(error)`` is always the plain message."""

    def __str__(self) -> str:
        # KeyError quotes its message and OSError reformats two arguments; a user should see neither.
        return str(self.args[0]) if self.args else ""


class StoreError(HangarError, OSError):
    """A store could not do what was asked, for a reason that no subclass names."""


class ObjectNotFoundError(StoreError, FileNotFoundError):
    """The named object does not exist."""


class BucketNotFoundError(StoreError, FileNotFoundError):
    """The bucket, container or root folder of a store does not exist."""


class AccessDeniedError(StoreError, PermissionError):
    """The store refused: no credentials, wrong credentials, or credentials without this permission."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store could not be reached, or kept failing beyond all retries.

    Raised by a create (``put_if_absent``) it means *unknown*: the object was not there when we last looked,
    but a request still on its way may yet make it. Trying the same create again is always safe.
    """


class ReadOnlyStoreError(StoreError, PermissionError):
    """The store may not be written to: it has no writes, or it has not proven that a create never overwrites."""


class TruncatedObjectError(StoreError, EOFError):
    """An object ends before the range that was asked for."""


class InvalidPathError(HangarError, ValueError):
    """An object name that cannot be used: empty, absolute, with ``..``, a backslash or control characters."""


class UnsupportedStoreError(HangarError, ValueError):
    """A URL of a kind that we do not know, or whose driver package is not installed."""


class DataNotLocalError(HangarError, FileNotFoundError):
    """The data is not on this machine, and the repository is offline or knows no remote to fetch it from."""


class CorruptDataError(HangarError, ValueError):
    """Bytes are not what their name, checksum or digest says they are."""


class PurgedBytesError(HangarError, LookupError):
    """Bytes of an object were removed on purpose, for good; the store's log of moves says so."""


class UnsupportedFormatError(HangarError, RuntimeError):
    """Data in a format that this version cannot read."""


_SECRET_NAME = re.compile(
    r"(sig|token|secret|password|passwd|pwd|credential|access_?key|api_?key|^key$|^auth|^x-amz-|^x-goog-|upload_?id)",
    re.IGNORECASE,
)
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_CHAINED = re.compile(r"(.*)::([A-Za-z][A-Za-z0-9+.-]*://.*)", re.DOTALL)
_CONTAINER_SCHEMES = frozenset({"abfs", "abfss", "wasb", "wasbs"})
_HIDDEN = "***"


def redact_url(url: str) -> str:
    """Return ``url`` without ``user:password@`` and without the values of secret query parameters.

    Text that cannot be parsed as a URL loses everything after its first ``?``, rather than risk a secret.
    """
    if "://" not in url:
        return url
    chain = _CHAINED.match(url)
    if chain:
        return f"{redact_url(chain[1])}::{redact_url(chain[2])}"
    try:
        parts = urlsplit(url)
        location = parts.netloc
        query = parts.query
    except ValueError:
        return re.sub("//.*@", f"//{_HIDDEN}@", url.partition("?")[0])
    account, _, _ = location.rpartition("@")
    # abfs://container@account names no secret; anything else before an @ may be one.
    if account and (parts.scheme not in _CONTAINER_SCHEMES or ":" in account):
        location = f"{_HIDDEN}@{location.rpartition('@')[2]}"
    if query:
        query = "&".join(_redact_parameter(parameter) for parameter in query.split("&"))
    if not location:
        return url.partition("?")[0] + ("?" if query else "") + query
    return urlunsplit((parts.scheme, location, parts.path, query, ""))


def redact_text(text: str) -> str:
    """Return ``text`` with :func:`redact_url` applied to every URL in it."""
    return _URL_IN_TEXT.sub(lambda match: redact_url(match.group()), text)


def _redact_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={_HIDDEN}" if equals and _SECRET_NAME.search(name) else parameter


def without_frames(error: _Error) -> _Error:
    """An error that is kept while something else is tried: its frames would keep all bytes that failed in memory."""
    waiting: list[BaseException] = [error]
    for one in waiting:  # grows meanwhile
        one.__traceback__ = None
        waiting += [next_ for next_ in (one.__cause__, one.__context__) if next_ is not None and next_ not in waiting]
    return error
