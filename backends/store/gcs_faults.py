"""What the exceptions of gcsfs, google-auth and aiohttp mean."""

from __future__ import annotations

import asyncio

from hangar_cloud.backends.store.retry import Fault

_BY_STATUS = {
    401: Fault.WRONG_CREDENTIALS,
    403: Fault.NO_PERMISSION,
    404: Fault.ABSENT,
    408: Fault.TRANSIENT,
    409: Fault.TRANSIENT,
    412: Fault.EXISTS,
    416: Fault.SHORT,
    429: Fault.BUSY,
    500: Fault.TRANSIENT,
    502: Fault.TRANSIENT,
    503: Fault.BUSY,
    504: Fault.TRANSIENT,
}


class GcsAnswerError(Exception):
    """An answer with a status of 400 or more. anonymous: whether the request carried no credentials."""

    def __init__(self, status: int, body: bytes, *, anonymous: bool = False) -> None:
        super().__init__(f"status {status}: {body[:500].decode(errors='replace')}")
        self.status = status
        self.body = body
        self.anonymous = anonymous


def classify_gcs(error: BaseException) -> Fault:
    """Return what ``error`` means."""
    if isinstance(error, GcsAnswerError):
        return _of_answer(error)
    return _of_connection(error)


def _of_answer(error: GcsAnswerError) -> Fault:
    if error.status == 404 and b"bucket does not exist" in error.body:
        return Fault.NO_BUCKET
    if error.status in (401, 403) and error.anonymous:
        return Fault.NO_CREDENTIALS
    return _BY_STATUS.get(error.status, Fault.PERMANENT)


def _of_connection(error: BaseException) -> Fault:
    import aiohttp
    import requests.exceptions
    from gcsfs.retry import HttpError, NonRetryableError
    from google.auth import exceptions as auth

    unreachable = (
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        requests.exceptions.ConnectionError,
        auth.TransportError,
        ConnectionRefusedError,
    )
    transient = (
        aiohttp.ClientError,
        asyncio.TimeoutError,
        TimeoutError,
        ConnectionError,
        requests.exceptions.RequestException,
    )
    if isinstance(error, (auth.DefaultCredentialsError, NonRetryableError)):
        return Fault.NO_CREDENTIALS
    if isinstance(error, unreachable):
        return Fault.UNREACHABLE
    if isinstance(error, (auth.GoogleAuthError, HttpError)):
        return Fault.WRONG_CREDENTIALS
    return Fault.TRANSIENT if isinstance(error, transient) else Fault.PERMANENT
