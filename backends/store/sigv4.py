"""Signatures of requests to S3, by version 4 of AWS's: in headers, with the SHA-256 of what is sent.

botocore signs too, from a general model of requests, which takes it 0.1 ms of CPU each; a GET of a block is one of
thousands. A test compares the two.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Keys(NamedTuple):
    """Credentials at one moment."""

    access: str
    secret: str
    token: str | None = None


class Signer:
    """Signs requests to one region. Safe to share between threads.

    Args:
        region: such as ``eu-central-1``.
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def signed(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload_sha256: str,
        keys: Keys,
        now: float | None = None,
    ) -> dict[str, str]:
        """The headers of a request with its signature.

        Args:
            method: such as ``GET``.
            path: of its target, percent-encoded.
            query: percent-encoded, its parameters in alphabetical order; may be empty.
            headers: in lower case, ``host`` among them; all are signed.
            payload_sha256: of its body, in hexadecimal digits.
            keys: to sign with.
            now: seconds since 1970, by default the clock's.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        day = moment[:8]
        signed = {**headers, "x-amz-content-sha256": payload_sha256, "x-amz-date": moment}
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        names = sorted(signed)
        lines = "".join(f"{name}:{signed[name].strip()}\n" for name in names)
        named = ";".join(names)
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{named}\n{payload_sha256}"
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(keys.secret, day), text.encode(), "sha256").hex()
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={keys.access}/{scope}, SignedHeaders={named}, Signature={signature}"
        )
        return signed

    def _key(self, secret: str, day: str) -> bytes:
        derived = self._derived
        if derived[:2] == (secret, day):
            return derived[2]
        key = f"AWS4{secret}".encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._derived = (secret, day, key)
        return key
