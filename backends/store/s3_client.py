"""S3 over connections of our own, with botocore for what is asked rarely.

Where a bucket is and who asks is botocore's to say: its endpoints, profiles, roles and the refreshing of their keys are
used as they are. The requests that a repository makes by the thousand (GET, HEAD, PUT) are then signed and sent here.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import ssl
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from hangar_cloud.backends.store.http_wire import Answer, NotConnectedError, Room, Wire
from hangar_cloud.backends.store.s3_options import S3Options
from hangar_cloud.backends.store.sigv4 import EMPTY_SHA256, Keys, Signer

_CODE: Final = re.compile(rb"<Code>([^<]{1,100})</Code>")
_MESSAGE: Final = re.compile(rb"<Message>([^<]{0,500})</Message>")
_OPERATIONS: Final = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject"}
_ELSEWHERE: Final = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_MOVED: Final = frozenset({301, 302, 307, 308})
CHECK_ENDPOINT: Final = "Check the endpoint_url option (https or http? which port?) and the region"


@lru_cache(maxsize=4)
def _descriptions(folders: str | None) -> Any:
    """What botocore knows of S3, read once for all clients: it is 23,000 dictionaries, which take a tenth of a second.

    Args:
        folders: further ones to look in, as botocore's setting data_path names them.
    """
    from botocore.loaders import create_loader

    return create_loader(folders)


class Place(NamedTuple):
    """Where the objects of a bucket are."""

    url: str
    """Without the objects' names, and without a slash at the end."""
    region: str


class _FoundError(Exception):
    """Carries what botocore would sign out of its depths."""

    def __init__(self, place: Place) -> None:
        self.place = place


class S3Client:
    """One bucket, as one process asks it. Safe to share between threads.

    Args:
        bucket: its name.
        options: how to ask.
    """

    def __init__(self, bucket: str, options: S3Options) -> None:
        import botocore.session

        self.bucket = bucket
        self._options = options
        self._session = botocore.session.Session(profile=options.profile)
        folders = self._session.get_config_variable("data_path")
        self._session.register_component("data_loader", _descriptions(folders))
        self.boto: Any = self._session.create_client("s3", config=options.config(), **options.client_arguments())
        self._lock = threading.Lock()
        self._credentials: Any = None
        self._wire: Wire | None = None
        self._settle()

    def request(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        most: int | None = None,
        room: Room | None = None,
    ) -> Answer:
        """Send one request about an object and return its answer.

        Args:
            method: GET, HEAD or PUT.
            key: the object's name.
            query, headers: of the request; headers in lower case.
            body: what is sent.
            most, room: as `Wire.send` takes them.

        Raises:
            botocore.exceptions.ClientError: the server refused it.
            botocore.exceptions.BotoCoreError: there are no credentials, no server, or no whole answer.
        """
        target = f"{self._path}/{quote(key, safe='/-._~')}"
        text = urlencode(sorted((query or {}).items()), quote_via=quote, safe="-._~")
        digest = hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
        for again in (False, True):
            wire, signer = self._wire, self._signer
            assert wire is not None
            given = {"host": wire.host, **(headers or {})}
            keys = self.keys()
            if keys is not None:
                given = signer.signed(method, target, text, given, digest, keys)
            answer = self._sent(wire, method, f"{target}?{text}" if text else target, given, body, most, room)
            if answer.status < 300:
                break
            error = _refusal(method, answer)
            code = error.response["Error"]["Code"]
            # Where a bucket lies in another region than was thought, botocore finds out which.
            if again or (answer.status not in _MOVED and code not in _ELSEWHERE) or not self._find_region():
                raise error
            target = f"{self._path}/{quote(key, safe='/-._~')}"
        return answer

    def keys(self) -> Keys | None:
        """The credentials of this moment, renewed if they are about to expire; None to ask anonymously.

        Raises:
            botocore.exceptions.NoCredentialsError: there are none.
            botocore.exceptions.InvalidConfigError: they cannot be sent.
        """
        from botocore.exceptions import InvalidConfigError

        if self._options.anonymous:
            return None
        if self._credentials is None:
            self._credentials = self._find_credentials()
        frozen = self._credentials.get_frozen_credentials()
        if not (frozen.access_key + (frozen.token or "")).isprintable():
            # The error that a header with a line break gets would quote the token.
            raise InvalidConfigError(error_msg="the key or the token has a line break in it, or the like")
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def close(self) -> None:
        """Close the connections."""
        if self._wire is not None:
            self._wire.close()
        self.boto.close()

    def _find_credentials(self) -> Any:
        from botocore.credentials import Credentials
        from botocore.exceptions import NoCredentialsError

        given = self._options.keys
        found = self._session.get_credentials() if given is None else Credentials(*given)
        if found is None:
            raise NoCredentialsError
        return found

    def _settle(self) -> None:
        """Find out where the bucket is, as far as botocore knows by now."""
        place = self._resolve()
        parts = urlsplit(place.url)
        self._path = parts.path
        self.place = place
        self._signer = Signer(place.region)
        url, before = f"{parts.scheme}://{parts.netloc}", self._wire
        if before is None or before.url != url:
            seconds = self._options.connect_timeout, self._options.read_timeout
            self._wire = Wire(url, self._tls_context, *seconds)
            if before is not None:
                before.close()

    def _resolve(self) -> Place:
        def take(request: Any, region_name: str, **_: Any) -> None:
            region = request.context.get("signing", {}).get("region") or region_name
            raise _FoundError(Place(request.url.partition("?")[0].rstrip("/"), region))

        # It is asked to sign a request, which shows where that would go, and is stopped before it is sent.
        event, name = "before-sign.s3.HeadBucket", "hangar-place"
        self.boto.meta.events.register_first(event, take, unique_id=name)
        try:
            self.boto.head_bucket(Bucket=self.bucket)
        except _FoundError as found:
            return found.place
        finally:
            self.boto.meta.events.unregister(event, unique_id=name)
        raise RuntimeError("botocore did not sign a request")  # pragma: no cover

    def _find_region(self) -> bool:
        """Ask where the bucket is; whether that is elsewhere than was thought."""
        from botocore.exceptions import BotoCoreError, ClientError

        with self._lock:
            before = self.place
            try:
                # botocore follows what the server says to it, and remembers the region.
                self.boto.head_bucket(Bucket=self.bucket)
            except (BotoCoreError, ClientError, RecursionError):
                # botocore asks the same server again and again which region it was sent to without being told.
                return False
            self._settle()
            return self.place != before

    def _tls_context(self) -> ssl.SSLContext:
        from botocore.httpsession import get_cert_path

        context = ssl.create_default_context()
        verify = self._options.verify(self._session)
        if verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_verify_locations(get_cert_path(verify))
        return context

    def _sent(
        self,
        wire: Wire,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        most: int | None,
        room: Room | None,
    ) -> Answer:
        from botocore import exceptions as boto

        try:
            return wire.send(method, target, headers, body, most, room)
        except NotConnectedError as error:
            reason = error.__cause__
            if isinstance(reason, TimeoutError):
                raise boto.ConnectTimeoutError(endpoint_url=wire.url, error=reason) from reason
            if isinstance(reason, ssl.SSLError):
                raise boto.SSLError(endpoint_url=wire.url, error=reason) from reason
            raise boto.EndpointConnectionError(endpoint_url=wire.url, error=reason) from reason
        except TimeoutError as error:
            raise boto.ReadTimeoutError(endpoint_url=wire.url, error=error) from error
        except (OSError, http.client.HTTPException) as error:
            raise boto.HTTPClientError(error=error) from error


def _refusal(method: str, answer: Answer) -> Any:
    """The exception that botocore raises of such an answer."""
    from botocore.exceptions import ClientError

    code, message = _CODE.search(answer.body), _MESSAGE.search(answer.body)
    words = message[1].decode(errors="replace") if message else ""
    if answer.status in _MOVED and not words:
        words = f"it sends to {answer.headers.get('location')}. {CHECK_ENDPOINT}"
    told = {"Code": code[1].decode(errors="replace") if code else str(answer.status), "Message": words}
    return ClientError({"Error": told, "ResponseMetadata": {"HTTPStatusCode": answer.status}}, _OPERATIONS[method])
