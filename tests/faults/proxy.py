"""A proxy that does to requests what a bad day does: it drops answers, holds them up, refuses, and cuts bodies."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from infra.local import DelayingProxy
from infra.local.proxy import Message, read_message

_MUTATING = ("PUT", "POST", "DELETE")
_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Fate(NamedTuple):
    """What becomes of one request.

    Attributes:
        name: under which it is counted.
        wait: seconds until its answer is passed on.
        refused: answered with 503 SlowDown, and not passed on.
        half_request: so much of its body is passed on, and both connections are closed.
        no_answer: it is passed on, and the connection is closed instead of its answer.
        half_answer: the connection is closed in the middle of the answer's body.
    """

    name: str = "fine"
    wait: float = 0.0
    refused: bool = False
    half_request: bool = False
    no_answer: bool = False
    half_answer: bool = False


FINE = Fate()
Weather = Callable[[str], Fate]
"""Says what becomes of the next request, by its method. Called by one thread at a time."""


def dropped_answers(every: int = 10) -> Weather:
    """The answer of every so many-th request that changes something is lost."""
    numbers = itertools.count(1)

    def weather(method: str) -> Fate:
        lost = method in _MUTATING and next(numbers) % every == 0
        return Fate("dropped", no_answer=True) if lost else FINE

    return weather


def delays(longest: float = 2.0, share: float = 1.0) -> Weather:
    """A share of all requests is held up, each by a random time of up to so many seconds."""

    def weather(method: str) -> Fate:
        return Fate("delayed", wait=random.uniform(0, longest)) if random.random() < share else FINE

    return weather


def slow_downs(seconds: float, every: float, after: float = 0.5) -> Weather:
    """All requests are refused for some seconds, time after time, the first time soon after the first request."""
    began: float | None = None

    def weather(method: str) -> Fate:
        nonlocal began
        began = time.monotonic() + after if began is None else began
        passed = time.monotonic() - began
        return Fate("refused", refused=True) if passed >= 0 and passed % every < seconds else FINE

    return weather


def cut_bodies(every: int = 10) -> Weather:
    """Of every so many-th request of each method half a body arrives: of a GET at the client, else at the server."""
    numbers: dict[str, itertools.count[int]] = {}

    def weather(method: str) -> Fate:
        if next(numbers.setdefault(method, itertools.count(1))) % every:
            return FINE
        return Fate("cut", half_answer=True) if method == "GET" else Fate("cut", half_request=True)

    return weather


class FaultProxy(DelayingProxy):
    """A proxy before a server, with its weather.

    Args:
        target: ``http://host:port`` of the server.
        weather: decides what becomes of each request.

    Attributes:
        fates: how many requests met each fate.
    """

    def __init__(self, target: str, weather: Weather) -> None:
        super().__init__(target)
        self.fates: Counter[str] = Counter()
        self._weather = weather
        self._weather_lock = threading.Lock()

    def exchange(self, request: Message, client: socket.socket, server: socket.socket, from_server: BinaryIO) -> bool:
        method = request.first_line.split(" ", 1)[0]
        with self._weather_lock:
            fate = self._weather(method)
            self.fates[fate.name] += 1
        if fate.refused:
            client.sendall(_refusal(method))
            return True
        if fate.half_request and len(request.body) > 1:
            server.sendall(request.head + request.body[: len(request.body) // 2])
            return False
        request.send_to(server)
        answer = read_message(from_server, answering=method)
        if answer is None or fate.no_answer:
            return False
        time.sleep(fate.wait)
        if fate.half_answer and len(answer.body) > 1:
            with suppress(OSError):
                client.sendall(answer.head + answer.body[: len(answer.body) // 2])
            return False
        answer.send_to(client)
        return answer.headers.get("connection", "").lower() != "close"


def _refusal(method: str) -> bytes:
    body = b"" if method == "HEAD" else _SLOW_DOWN
    head = f"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {len(_SLOW_DOWN)}\r\n\r\n"
    return head.encode() + body
