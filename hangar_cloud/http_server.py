"""Serving a repository to readers over HTTP: read-only, with ranges, from any store.

`Repository("http://host:port")` reads it, and so does every program that reads files by URL.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from email.utils import format_datetime
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from hangar_cloud.backends.errors import HangarError, ObjectNotFoundError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.port import ObjectInfo
from hangar_cloud.catalog.hint import HINT_PATH
from hangar_cloud.catalog.pointers import fresh_hint
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.http_objects import (
    Part,
    Unsatisfiable,
    fails_condition,
    is_served,
    is_unchanged,
    media_type,
    range_counts,
    wanted_part,
)

_CHUNK: Final = 1024 * 1024
_READ: Final = "GET, HEAD"
_OTHER_METHODS: Final = frozenset({"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"})
_IDLE_SECONDS: Final = 60.0
_MOST_CONNECTIONS: Final = 256
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Page = Callable[[], str]
Log = Callable[[str], None]


class RepositoryServer:
    """A web server for one repository; `serve` runs it until `stop`.

    Args:
        store: where the repository's objects are.
        page: makes the HTML that browsers see at ``/``.
        host: name or address of this machine to listen at.
        port: to listen at; 0 takes any that is free.
        log: told of each request, in a line; nobody by default.

    `url` is where it can be read, and `is_private` whether only from this machine.

    Raises:
        InvalidArgumentError: the address is not one of this machine, or the port is taken or out of range.
    """

    def __init__(
        self, store: ObjectStore, page: Page, host: str = "localhost", port: int = 50051, log: Log | None = None
    ) -> None:
        handler = partial(_Handler, store, page, log)
        try:
            family, address = _address(host, port)
            kind = type("_Server", (_Server,), {"address_family": family})
            self._server: ThreadingHTTPServer = kind(address, handler)
        except (OSError, OverflowError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InvalidArgumentError(
                f"cannot listen at {host} port {port}: {why}. Choose another port (0 takes any that is free), or an "
                "address of this machine"
            ) from error
        self.port: int = self._server.server_address[1]
        listens_at = ipaddress.ip_address(str(address[0]).partition("%")[0])
        self.is_private = listens_at.is_loopback
        shown = socket.gethostname() if listens_at.is_unspecified else host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}"

    def serve(self, timeout: float | None = None) -> None:
        """Answer requests until `stop` is called, or for so many seconds."""
        timer = None if timeout is None else threading.Timer(timeout, self.stop)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            if timer is not None:
                timer.cancel()
            self._server.server_close()

    def stop(self) -> None:
        """Make `serve` return, from another thread; what is being sent is cut off when the process ends."""
        self._server.shutdown()


def _address(host: str, port: int) -> tuple[int, Any]:
    """How to listen at a name: IPv4 first, which is what most programs try with "localhost"."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is a fault of this program, and is shown as one."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "hangar-cloud"
    sys_version = ""
    timeout = _IDLE_SECONDS
    wbufsize = -1
    disable_nagle_algorithm = True

    def __init__(self, store: ObjectStore, page: Page, log: Log | None, *arguments: Any) -> None:
        self._store = store
        self._page = page
        self._log = log
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _refuse_method(self) -> None:
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, "This server only gives; write to the repository itself.", Allow=_READ)

    def __getattr__(self, name: str) -> Any:
        if name.removeprefix("do_") in _OTHER_METHODS:
            return self._refuse_method
        raise AttributeError(name)

    def _answer(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # its body is not read, and would be taken for the next request
        try:
            name = unquote(urlsplit(self.path).path, errors="strict").removeprefix("/")
        except ValueError:
            self._say(HTTPStatus.NOT_FOUND, "There is no such object.")
            return
        try:
            self._answer_with(name)
        except (OSError, HangarError) as error:
            if isinstance(error, ObjectNotFoundError):
                self._say(HTTPStatus.NOT_FOUND, "There is no such object.")
            elif isinstance(error, HangarError):
                self._say(HTTPStatus.INTERNAL_SERVER_ERROR, "The repository cannot be read at this moment.")
            else:
                raise

    def _answer_with(self, name: str) -> None:
        if name in ("", "index.html"):
            text = self._page().encode()
            self._send_bytes(name, text, "text/html; charset=utf-8")
        elif name == HINT_PATH:
            self._send_bytes(name, self._hint(), media_type(name))
        elif is_served(name) and not self._leads_out(name):
            self._send_object(self._store.stat(name))
        else:
            self._say(HTTPStatus.NOT_FOUND, "There is no such object.")

    def _leads_out(self, name: str) -> bool:
        """Whether a link in the store leads to a file outside."""
        file = self._store.local_path(name)
        if file is None:
            return False
        root = file.parents[name.count("/")]
        return not file.resolve().is_relative_to(root.resolve())

    def _hint(self) -> bytes:
        """The hint, made anew: readers over HTTP cannot list, so a branch that it lacks would not be there."""
        try:
            return fresh_hint(self._store)
        except HangarError:
            return self._store.get(HINT_PATH)

    def _send_bytes(self, name: str, data: bytes, kind: str) -> None:
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        self._send(
            tag, datetime.now(timezone.utc), len(data), kind, lambda part: iter([data[part.start :][: part.length]])
        )

    def _send_object(self, info: ObjectInfo) -> None:
        tag = f'"{info.size:x}-{int(info.modified.timestamp() * 1e6):x}"'
        self._send(tag, info.modified, info.size, media_type(info.path), partial(self._chunks, info.path))

    def _chunks(self, name: str, part: Part) -> Iterator[bytes]:
        for start in range(part.start, part.start + part.length, _CHUNK):
            yield self._store.get_range(name, start, min(_CHUNK, part.start + part.length - start))

    def _send(
        self, tag: str, modified: datetime, size: int, kind: str, read: Callable[[Part], Iterator[bytes]]
    ) -> None:
        # Objects never change, but they can go: a purge must not live on in the caches between.
        head = {"ETag": tag, "Last-Modified": format_datetime(modified, usegmt=True), "Cache-Control": "no-cache"}
        if fails_condition(self.headers, tag, modified):
            self._say(HTTPStatus.PRECONDITION_FAILED, "The object is another one by now.", **head)
            return
        if is_unchanged(self.headers, tag, modified):
            self._begin(HTTPStatus.NOT_MODIFIED, head)
            return
        header = self.headers.get("Range") if range_counts(self.headers, tag, modified) else None
        try:
            part = wanted_part(header, size) if self.command == "GET" else None
        except Unsatisfiable:
            self._say(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                "The object ends before.",
                **{"Content-Range": f"bytes */{size}"},
            )
            return
        head |= {"Content-Type": kind, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}
        if part is not None:
            head["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{size}"
        whole = part or Part(0, size)
        chunks = read(whole) if self.command == "GET" and whole.length else iter(())
        # Read before the first line is sent, so that an object that is gone is still told as such.
        first = next(chunks, b"")
        self._begin(HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT, head, whole.length)
        self._pour(first, chunks)

    def _pour(self, first: bytes, chunks: Iterator[bytes]) -> None:
        try:
            self.wfile.write(first)
            for chunk in chunks:
                self.wfile.write(chunk)
        except HangarError:
            # The length was promised: closing is the one way to say that the rest does not come.
            self.close_connection = True

    def _say(self, status: HTTPStatus, text: str, **head: str) -> None:
        """A short answer in words."""
        data = f"{text}\n".encode()
        if self.command not in ("GET", "HEAD"):
            self.close_connection = True
        self._begin(
            status, {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **head}, len(data)
        )
        if self.command != "HEAD":
            self.wfile.write(data)

    def _begin(self, status: HTTPStatus, head: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in head.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name that is overridden
        if self._log is not None:
            line = format % arguments
            self._log("".join(c if c.isprintable() else "?" for c in f"{self.address_string()} {line}"))
