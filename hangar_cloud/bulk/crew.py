"""The worker processes of a bulk import, as the process that starts them sees them.

They are started anew (not forked: the event loops of fsspec and DuckDB's threads do not survive that), and do not load
the calling program's main module, so notebooks and scripts without a guard can start them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import Pipe, spawn
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from hangar_cloud.bulk.messages import Failed, Packs, Setup
from hangar_cloud.bulk.worker import AT_FILE
from hangar_cloud.errors import BulkImportError

_LOOK_SECONDS: Final = 1.0
_END_SECONDS: Final = 10.0
_BOOT: Final = (
    "import sys; from multiprocessing.connection import Connection; "
    "connection = Connection(int(sys.argv[1])); sys.path[:] = connection.recv(); "
    "from hangar_cloud.bulk.worker import run; run(connection, int(sys.argv[2]))"
)


class Member:
    """One worker process.

    Args:
        setup: what it is told first.
    """

    def __init__(self, setup: Setup) -> None:
        self.folder = setup.folder
        self.folder.mkdir(parents=True)
        self.connection, theirs = Pipe()
        watched, self._lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                [_executable(), "-c", _BOOT, str(theirs.fileno()), str(watched)],
                pass_fds=(theirs.fileno(), watched),
                stdin=subprocess.DEVNULL,
                # Control-C in a terminal is for this process, which then ends that one.
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline)
            self.connection.close()
            raise
        finally:
            theirs.close()
            os.close(watched)
        self._setup: Setup | None = setup

    def start(self) -> None:
        """Tell it what to work on."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # found out when it is listened to
            self.connection.send(sys.path)
            # Pickled by multiprocessing, as for its own workers: with credentials, which stay in memory.
            self.connection.send(self._setup)
        self._setup = None

    def answer(self, answer: object) -> None:
        """Answer a question."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # as above
            self.connection.send(answer)

    def item(self) -> int | None:
        """The item that it was about when it was last seen."""
        with contextlib.suppress(OSError):
            data = (self.folder / AT_FILE).read_bytes()
            return int.from_bytes(data, "little") if data else None
        return None

    def end(self, seconds: float) -> None:
        """Wait for its end; then end it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        # With all that the function has started: it leads a group of its own, which is none any more where all ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.connection.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


class Crew:
    """All workers of one import.

    Args:
        setups: what each is told.
    """

    def __init__(self, setups: list[Setup]) -> None:
        self._setups = setups
        self._members: list[Member] = []

    def start(self) -> None:
        """Start them all, or none."""
        try:
            for setup in self._setups:
                self._members.append(Member(setup))
            for member in self._members:
                member.start()
        except BaseException:
            self.end(at_once=True)
            raise

    def end(self, *, at_once: bool) -> None:
        """Wait for their ends, or end them."""
        for member in self._members:
            member.end(0 if at_once else _END_SECONDS)

    def messages(self) -> Iterator[tuple[Member, Any]]:
        """What they say, until all have said what they wrote.

        Raises:
            BulkImportError: one of them died.
            HangarError: one of them failed; what it says.
        """
        at_work: dict[Connection[Any, Any], Member] = {member.connection: member for member in self._members}
        looked = time.monotonic()
        while at_work:
            for connection in wait(list(at_work), _LOOK_SECONDS):
                assert isinstance(connection, Connection)
                message = self._heard(at_work[connection])
                if isinstance(message, Failed):
                    raise _raised(message)
                yield at_work[connection], message
                if isinstance(message, Packs):
                    del at_work[connection]
            if time.monotonic() > looked + _LOOK_SECONDS:
                looked = time.monotonic()
                for member in at_work.values():
                    # A process that a worker forked may hold its end of the connection open when it is gone.
                    if member.process.poll() is not None and not member.connection.poll():
                        raise _died(member)

    def _heard(self, member: Member) -> Any:
        try:
            return member.connection.recv()
        except (EOFError, OSError):
            raise _died(member) from None


class WorkerTracebackError(Exception):
    """Shows, as the cause of an error, what Python said in the process where it happened."""


def _raised(failed: Failed) -> Exception:
    if not issubclass(failed.kind, BulkImportError):
        return failed.kind(failed.message)
    error = failed.kind(failed.message, failed.item, failed.trace)
    if failed.trace:
        error.__cause__ = WorkerTracebackError(f"\n{failed.trace}")
    return error


def _died(member: Member) -> BulkImportError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        member.process.wait(_END_SECONDS)
    code = member.process.returncode
    how = f"ended with exit code {code}"
    if code is None:
        how = "does not answer"
    elif code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else "unknown"
        how = f"was killed by signal {-code} ({name})"
    item = member.item()
    advice = " If the machine ran out of memory, give a smaller ncpus." if code == -signal.SIGKILL else ""
    about = "before it took an item" if item is None else f"at item {item} of udf_kwargs"
    return BulkImportError(f"a process of the bulk import {how}, {about}. Nothing was imported.{advice}", item)


def _executable() -> str:
    """The Python to run; as `multiprocessing` has it, which can be told where it is embedded."""
    found = spawn.get_executable()
    return os.fsdecode(found) if found else sys.executable
