"""What the exceptions of s3fs, aiobotocore, botocore and aiohttp mean."""

from __future__ import annotations

import asyncio
from typing import Any

from hangar_cloud.backends.store.explaining import Advice
from hangar_cloud.backends.store.retry import Fault

S3_ADVICE = Advice(
    no_bucket="Check the bucket's name, its region and the endpoint_url option, or create the bucket.",
    no_credentials=(
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give storage_options "
        "{'key': ..., 'secret': ...}; for a public bucket {'anon': True}."
    ),
    wrong_credentials="Check the key, secret and token, that they have not expired and belong to this endpoint.",
    no_permission=(
        "Ask the bucket's owner for s3:GetObject and s3:ListBucket to read, and s3:PutObject to write. "
        "(Without s3:ListBucket, S3 says this of objects that do not exist, too.)"
    ),
)

_BY_CODE = {
    "NoSuchKey": Fault.ABSENT,
    "404": Fault.ABSENT,
    "NotFound": Fault.ABSENT,
    "NoSuchVersion": Fault.ABSENT,
    "NoSuchBucket": Fault.NO_BUCKET,
    "InvalidBucketName": Fault.NO_BUCKET,
    "PreconditionFailed": Fault.EXISTS,
    "412": Fault.EXISTS,
    "ConditionalRequestConflict": Fault.TRANSIENT,
    "OperationAborted": Fault.TRANSIENT,
    "InvalidRange": Fault.SHORT,
    "416": Fault.SHORT,
    "InvalidAccessKeyId": Fault.WRONG_CREDENTIALS,
    "SignatureDoesNotMatch": Fault.WRONG_CREDENTIALS,
    "ExpiredToken": Fault.WRONG_CREDENTIALS,
    "InvalidToken": Fault.WRONG_CREDENTIALS,
    "TokenRefreshRequired": Fault.WRONG_CREDENTIALS,
    "RequestTimeTooSkewed": Fault.WRONG_CREDENTIALS,
    "InvalidSecurity": Fault.WRONG_CREDENTIALS,
    "RequestTimeout": Fault.TRANSIENT,
    "RequestTimeoutException": Fault.TRANSIENT,
    "SlowDown": Fault.BUSY,
    "Throttling": Fault.BUSY,
    "ThrottlingException": Fault.BUSY,
    "TooManyRequests": Fault.BUSY,
    "RequestLimitExceeded": Fault.BUSY,
    "ServiceUnavailable": Fault.BUSY,
    "InternalError": Fault.TRANSIENT,
    "IncompleteBody": Fault.TRANSIENT,
    "XAmzContentSHA256Mismatch": Fault.TRANSIENT,
    "BadDigest": Fault.TRANSIENT,
}

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


def classify_s3(error: BaseException) -> Fault:
    """Return what ``error`` means; s3fs's translation is looked through to botocore's own exception."""
    from botocore.exceptions import ClientError

    original = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(original, ClientError):
        return _of_answer(original.response)
    return _of_connection(error)


def _of_answer(response: Any) -> Fault:
    code = str(response.get("Error", {}).get("Code", ""))
    if code in _BY_CODE:
        return _BY_CODE[code]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") or (int(code) if code.isdecimal() else 0)
    if code in ("AccessDenied", "AllAccessDisabled", "AccountProblem"):
        return Fault.NO_PERMISSION
    return _BY_STATUS.get(status, Fault.PERMANENT)


def _of_connection(error: BaseException) -> Fault:
    import aiohttp
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError
    from fsspec.exceptions import FSTimeoutError

    no_credentials = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.ProfileNotFound,
        boto.ConfigNotFound,
        boto.NoAuthTokenError,
        boto.TokenRetrievalError,
        boto.SSOError,
        boto.LoginError,
        boto.MetadataRetrievalError,
        boto.InvalidConfigError,
        boto.ConfigParseError,
        boto.RefreshWithMFAUnsupportedError,
    )
    unreachable = (
        boto.EndpointConnectionError,
        boto.ConnectTimeoutError,
        boto.ProxyConnectionError,
        boto.SSLError,
        aiohttp.ClientConnectorError,
        ConnectionRefusedError,
    )
    transient = (
        boto.HTTPClientError,
        boto.ConnectionError,
        boto.IncompleteReadError,
        boto.ChecksumError,
        boto.FlexibleChecksumError,
        ResponseParserError,
        FSTimeoutError,
        aiohttp.ClientError,
        asyncio.TimeoutError,
        TimeoutError,
        ConnectionError,
        EOFError,
    )
    if isinstance(error, no_credentials):
        return Fault.NO_CREDENTIALS
    if isinstance(error, unreachable):
        return Fault.UNREACHABLE
    return Fault.TRANSIENT if isinstance(error, transient) else Fault.PERMANENT
