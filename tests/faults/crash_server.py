"""A process with nothing open that forks one child for each thing it is asked for; some of them die on the way.

Run as a module, it reads a request per line from standard input, `{"work": name, "arguments": {...}, "last": n}`, and
answers with a line: `{"status": exit status, "value": ..., "moments": [...], "error": traceback}`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from typing import Any, NamedTuple

from tests.faults.crash_moments import KILLED, Moments
from tests.repository.making import ROOT


class Answer(NamedTuple):
    """What became of a child: whether it died where it was told to, or what it returned and the moments it passed."""

    died: bool
    value: Any
    moments: list[tuple[str, int]]


class CrashServer:
    """The other end of this module: starts it, and asks it.

    Args:
        works: the module in which it finds what it is asked for: functions that take and return what JSON can say.
    """

    def __init__(self, works: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.faults.crash_server", works],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, work: str, last: int | None = None, *, watched: bool = False, **arguments: Any) -> Answer:
        """Let a child do some work, and die at a moment; `watched` only counts them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"work": work, "arguments": arguments, "last": last, "watched": watched or last is not None}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the server ended at {request}"
        answer = json.loads(line)
        assert answer["status"] in (0, KILLED), f"{request}\n{answer['error'] or answer}"
        return Answer(answer["status"] == KILLED, answer["value"], [(what, at) for what, at in answer["moments"]])

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def main() -> None:
    """Answer requests until there are no more."""
    import importlib

    # Threads of libraries that were only imported hold nothing that a child needs.
    import warnings

    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
    works = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        answer = _answer(works, json.loads(line))
        for name in answer.pop("modules"):  # so that the next child need not import them
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(works: Any, request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(works, request, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = json.loads(text) if text else _nothing_told()
    return {"status": status, **told}


def _be_child(works: Any, request: dict[str, Any], writing: int) -> None:
    told = _nothing_told()
    known = set(sys.modules)
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        moments = Moments(request["last"])
        with contextlib.redirect_stdout(io.StringIO()):
            if request["watched"]:
                moments.watch()
            told["value"] = getattr(works, request["work"])(**request["arguments"])
            told["moments"] = [*moments.passed]
            told["modules"] = sorted(sys.modules.keys() - known)
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the other end has to hear of it
        told["error"] = traceback.format_exc()
    finally:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(told).encode())
        os._exit(status)


def _nothing_told() -> dict[str, Any]:
    return {"value": None, "moments": [], "modules": [], "error": ""}


if __name__ == "__main__":
    main()
