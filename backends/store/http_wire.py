"""One HTTP/1.1 request at a time on kept connections, each sent once.

urllib3 and aiohttp do more than is wanted here (redirects, decoding, a second sending of a PUT when a kept connection
breaks), and cost two to five times the CPU of the standard library's client, which reads a body into its one place.
"""

from __future__ import annotations

# `connect` would import this in a thread: a process forked meanwhile would wait for ever for Python's lock of it.
import encodings.idna  # noqa: F401
import http.client
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from hangar_cloud.backends.store.driving import interruptible
from hangar_cloud.backends.store.in_flight import REQUESTS

_IDLE_SECONDS: Final = 30.0
_NOT_CONNECTED: Final = (OSError, http.client.HTTPException)
Room = Callable[[], "Sequence[memoryview] | None"]
"""Gives memory for an answer, in pieces that are as long as it together; None if it is to be in memory of its own."""


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    pieces: Sequence[memoryview] | None = None
    """The body, if it was received into memory that was given for it."""


class NotConnectedError(Exception):
    """No connection came about; the cause says why. The server saw nothing of the request."""


class Wire:
    """Connections to one server. Safe to share between threads, not between processes.

    Args:
        url: ``http://host:port`` or ``https://``.
        tls: gives the context of encrypted connections.
        connect_timeout, read_timeout: seconds.
    """

    def __init__(
        self, url: str, tls: Callable[[], ssl.SSLContext], connect_timeout: float, read_timeout: float
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.netloc
        self._address = (parts.hostname or "", parts.port)
        self._tls = tls() if parts.scheme == "https" else None
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._idle: deque[tuple[float, http.client.HTTPConnection]] = deque()

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        most: int | None = None,
        room: Room | None = None,
    ) -> Answer:
        """Send a request, once, and return what is answered.

        Args:
            method, target, headers, body: of the request.
            most: bytes of a part of an object that are taken for an answer; None for any number.
            room: gives memory that a part of exactly so many bytes is received into.

        Raises:
            NotConnectedError: there is no way to the server.
            OSError, http.client.HTTPException: the connection broke, or the answer did not come in time.
        """
        with REQUESTS.one():
            connection = self._connection()
            try:
                with interruptible(lambda: _cut(connection)):
                    answer, keep = _exchange(connection, method, target, headers, body, most, room)
            except BaseException:
                connection.close()
                raise
        if keep:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop()[1].close()

    def _connection(self) -> http.client.HTTPConnection:
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if time.monotonic() - since < _IDLE_SECONDS and not _is_dropped(connection):
                return connection
            connection.close()
        return self._connected()

    def _connected(self) -> http.client.HTTPConnection:
        host, port = self._address
        made: http.client.HTTPConnection
        if self._tls is None:
            made = http.client.HTTPConnection(host, port, timeout=self._connect_timeout)
        else:
            made = http.client.HTTPSConnection(host, port, timeout=self._connect_timeout, context=self._tls)
        try:
            made.connect()
        except _NOT_CONNECTED as error:
            made.close()
            raise NotConnectedError from error
        made.sock.settimeout(self._read_timeout)
        return made


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    most: int | None,
    room: Room | None,
) -> tuple[Answer, bool]:
    """The answer, and whether the connection can be used again."""
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body or method in ("PUT", "POST"):
        connection.putheader("content-length", str(len(body)))
    sent = True
    try:
        connection.endheaders(body or None)
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses a long body says so, and hangs up before all of it was sent.
        sent = False
    with connection.getresponse() as response:
        is_part = most is not None and response.status == http.client.PARTIAL_CONTENT
        if is_part and (response.length or 0) > (most or 0):
            # Memory is not made for what nobody asked for.
            raise http.client.HTTPException(f"{response.length} bytes came where {most} were asked for")
        places = room() if room is not None and is_part and response.length == most else None
        if places is None:
            answer = Answer(response.status, response.headers, response.read())
        else:
            pieces = [_received(response, place) for place in places]
            answer = Answer(response.status, response.headers, b"", pieces)
        return answer, sent and not response.will_close


def _received(response: http.client.HTTPResponse, place: memoryview) -> memoryview:
    """The next bytes of the body, in memory of their length."""
    done = 0
    while done < len(place):
        count = response.readinto(place[done:])
        if not count:
            raise http.client.IncompleteRead(b"", len(place) - done)
        done += count
    return place.toreadonly()


def _is_dropped(connection: http.client.HTTPConnection) -> bool:
    """Whether the server hung up: it says nothing unasked, so there is nothing else that could be read."""
    try:
        if hasattr(select, "poll"):
            waiting = select.poll()
            waiting.register(connection.sock, select.POLLIN)
            return bool(waiting.poll(0))
        return bool(select.select([connection.sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _cut(connection: http.client.HTTPConnection) -> None:
    """Make whoever waits for the connection fail."""
    held = connection.sock
    if held is not None:
        with suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)
