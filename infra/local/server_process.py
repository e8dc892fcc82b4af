"""Starting and stopping a server program on free ports."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

_PR_SET_PDEATHSIG = 1


class ServerPackageMissingError(RuntimeError):
    """The package that brings a server's program is not installed."""


def free_ports(count: int) -> list[int]:
    """Return ``count`` different TCP ports of 127.0.0.1 that nobody uses right now."""
    # Below those that systems give to outgoing connections: one of these took a port before its server could.
    candidates = random.SystemRandom().sample(range(12_000, 32_000), 40 * count)
    return list(itertools.islice(filter(_is_free, candidates), count))


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class RunsInBlock(ABC):
    """What runs from the beginning of a ``with`` block to its end."""

    @abstractmethod
    def start(self) -> Self:
        """Start it, and return once it can be used."""

    @abstractmethod
    def stop(self) -> None:
        """End it."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ServerProcess:
    """One running server program with a folder of its own, which goes when it stops.

    leftovers: files elsewhere that the program does not remove itself. detached: the program outlives this
    process (``stop_detached`` ends it); otherwise it dies with it.
    """

    def __init__(self, name: str, *, detached: bool = False) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"hangar-{name}-"))
        self.log = self.folder / "server.log"
        self.detached = detached
        self.leftovers: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The program's process id. Raises RuntimeError if it is not running."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    def start(self, command: Sequence[str]) -> None:
        """Start the program; its output goes to ``log``."""
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                # It only makes a system call, which no lock of another thread can hold up.
                preexec_fn=None if self.detached or sys.platform != "linux" else _die_with_parent,  # noqa: PLW1509
            )

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 30.0) -> None:
        """Return once ``ready()``; RuntimeError with the log's end if the program ends or time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start{': it ended' if ended else ''}. {self._last_words}")
            time.sleep(0.05)

    _last_words = ""

    def stop(self) -> None:
        """End the program at once (its data is disposable) and remove its folder."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self.log.exists():
            self._last_words = f"Its log ends: {self.log.read_bytes()[-1500:].decode(errors='replace')}"
        _remove(self.folder, self.leftovers)


def _remove(folder: Path, leftovers: Sequence[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for file in leftovers:
        file.unlink(missing_ok=True)


def answers(url: str) -> bool:
    """Whether an HTTP server answers at ``url``, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - a local server of ours
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def stop_detached(pid: int, folder: str, leftovers: Sequence[str] = ()) -> bool:
    """End a detached server started earlier; False if it was gone. Its files are removed either way."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        _remove(Path(folder), [Path(file) for file in leftovers])
    return True


def is_running(pid: int) -> bool:
    """Whether a process of that id exists and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    # In a container whose first process reaps nobody, what has ended stays as a zombie.
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def _die_with_parent() -> None:
    # A test run that is killed must not leave servers behind that slow the next one down.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
