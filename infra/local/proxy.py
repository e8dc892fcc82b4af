"""A small HTTP proxy in front of a local server, which makes the network slow, lossy and countable."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from infra.local.server_process import RunsInBlock

if TYPE_CHECKING:
    from typing_extensions import Self

Matcher = Callable[[str, str], bool]
"""Whether a rule is for a request, by its method and its target (path and query)."""

_NO_BODY_STATUS = (204, 304)


@dataclass(slots=True)
class _Rule:
    matches: Matcher
    times: int
    status: int | None
    """None: forward the request and drop its answer. A number: answer so without forwarding."""


@dataclass(slots=True)
class Message:
    """A request or an answer: its first line, the bytes up to its body, its headers in lower case, its body."""

    first_line: str
    head: bytes
    headers: dict[str, str]
    body: bytes

    @property
    def nbytes(self) -> int:
        return len(self.head) + len(self.body)

    def send_to(self, connection: socket.socket) -> None:
        # Not joined: a copy of some MiB in new memory takes as long as to receive them.
        connection.sendall(self.head)
        connection.sendall(self.body)


class DelayingProxy(RunsInBlock):
    """Forwards HTTP requests to ``target`` (``http://host:port``); a context manager, listening on a free port.

    url: where it listens. delay: seconds that each answer is held back. requests: how many by method.
    targets: every (method, path and query) in order. bytes_up, bytes_down: bytes on the wire, heads included,
    to and from the server. largest_overlap: how many requests were under way at once.
    """

    def __init__(self, target: str, *, delay: float = 0.0) -> None:
        parts = urlsplit(target)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.delay = delay
        self.requests: Counter[str] = Counter()
        self.targets: list[tuple[str, str]] = []
        self.bytes_up = 0
        self.bytes_down = 0
        self.largest_overlap = 0
        self._under_way = 0
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="delaying-proxy", daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and cut every connection."""
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def reset(self) -> None:
        """Set all counts to zero and forget all rules."""
        with self._lock:
            self.requests.clear()
            self.targets.clear()
            self._rules.clear()
            self.bytes_up = self.bytes_down = self.largest_overlap = 0

    def drop_answers(self, matches: Matcher, *, times: int = 1) -> None:
        """Forward the next ``times`` matching requests, and cut the connection instead of passing the answer on."""
        with self._lock:
            self._rules.append(_Rule(matches, times, None))

    def answer_with(self, status: int, matches: Matcher, *, times: int = 1) -> None:
        """Answer the next ``times`` matching requests with ``status``, without forwarding them."""
        with self._lock:
            self._rules.append(_Rule(matches, times, status))

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="delaying-proxy-link", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client, socket.create_connection(self._upstream) as server:
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.update((client, server))
            try:
                with client.makefile("rb") as from_client, server.makefile("rb") as from_server:
                    while self._exchange(client, from_client, server, from_server):
                        pass
            finally:
                with self._lock:
                    self._open.difference_update((client, server))

    def _exchange(
        self, client: socket.socket, from_client: BinaryIO, server: socket.socket, from_server: BinaryIO
    ) -> bool:
        """Deal with the next request; False when the connection is to be closed."""
        request = read_message(from_client, expects=client)
        return request is not None and self.exchange(request, client, server, from_server)

    def exchange(self, request: Message, client: socket.socket, server: socket.socket, from_server: BinaryIO) -> bool:
        """Pass a request on, and its answer back; False when the connection is to be closed."""
        method, target = request.first_line.split(" ")[:2]
        rule = self._note(method, target, request.nbytes)
        try:
            if rule is not None and rule.status is not None:
                client.sendall(f"HTTP/1.1 {rule.status} Made Up\r\nContent-Length: 0\r\n\r\n".encode())
                return True
            request.send_to(server)
            answer = read_message(from_server, answering=method)
            if answer is None:
                return False
            with self._lock:
                self.bytes_down += answer.nbytes
            time.sleep(self.delay)
            if rule is not None:
                return False
            answer.send_to(client)
            return answer.headers.get("connection", "").lower() != "close"
        finally:
            with self._lock:
                self._under_way -= 1

    def _note(self, method: str, target: str, size: int) -> _Rule | None:
        with self._lock:
            self.requests[method] += 1
            self.targets.append((method, target))
            self.bytes_up += size
            self._under_way += 1
            self.largest_overlap = max(self.largest_overlap, self._under_way)
            for rule in self._rules:
                if rule.times and rule.matches(method, target):
                    rule.times -= 1
                    return rule
        return None


def read_message(stream: BinaryIO, *, expects: socket.socket | None = None, answering: str = "") -> Message | None:
    """Read one request (``expects``: whom to tell to continue) or the answer to a request of method ``answering``."""
    lines = []
    while (line := stream.readline()) not in (b"\r\n", b"\n"):
        if not line:
            return None
        lines.append(line)
    first_line = lines[0].decode("latin-1").strip()
    headers = {}
    for line in lines[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if answering and first_line.split(" ")[1] == "100":
        return read_message(stream, answering=answering)
    if expects is not None and "expect" in headers:
        expects.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        lines = [line for line in lines if not line.lower().startswith(b"expect:")]
    bodiless = answering == "HEAD" or (answering and int(first_line.split(" ")[1]) in _NO_BODY_STATUS)
    body = b"" if bodiless else _read_body(stream, headers, until_end=bool(answering))
    return Message(first_line, b"".join(lines) + b"\r\n", headers, body)


def _read_body(stream: BinaryIO, headers: dict[str, str], *, until_end: bool) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _read_chunks(stream)
    if "content-length" in headers:
        return _read_exactly(stream, int(headers["content-length"]))
    return stream.read() if until_end else b""


def _read_chunks(stream: BinaryIO) -> bytes:
    parts = []
    while True:
        line = stream.readline()
        parts.append(line)
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while (trailer := stream.readline()) not in (b"\r\n", b""):
                parts.append(trailer)
            parts.append(trailer)
            return b"".join(parts)
        parts.append(_read_exactly(stream, size + 2))


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError("the connection ended in the middle of a body")
    return data
