"""A process that reads whatever repository it is told to, in every way, and says what came of it.

It is a process of its own so that memory can be measured, and that one which hangs or is ended by the
system is seen from outside. Run as ``python -m tests.faults.reader``: it takes paths on standard input, one a line, and
answers each with a line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository
from hangar_cloud.errors import HangarError

_HEADROOM = 4 * 1024**3
_STATUS = Path("/proc/self/status")


def _read_columns(checkout: Any) -> None:
    for name in checkout.keys():  # noqa: SIM118 - a checkout is no dict
        for use in (_read_first, _read_box, _read_some, _read_each):
            with contextlib.suppress(HangarError):
                use(checkout[name])
    with contextlib.suppress(HangarError):
        dict(checkout.metadata.items())
    checkout.close()


def _read_first(column: Any) -> None:
    len(column)
    key = next(iter(column), None)
    if key is not None:
        value = column[key]
        if column.contains_subsamples:
            dict(value.items())


def _read_box(column: Any) -> None:
    key = next(iter(column), None)
    if key is not None and not column.contains_subsamples and column.column_type == "ndarray":
        column.read_slice(key, (slice(0, 1),))


def _read_some(column: Any) -> None:
    if not column.contains_subsamples:
        column.get_batch([key for key, _ in zip(column.keys(), range(5), strict=False)])
    list(column.remote_reference_keys)
    str(column)


def _read_each(column: Any) -> None:
    for value in column.values():
        if column.contains_subsamples:
            dict(value.items())


def _read_branches(path: str) -> None:
    repository = Repository(path, exists=False)
    for branch in repository.list_branches():
        with contextlib.suppress(HangarError):
            _read_columns(repository.checkout(branch=branch))


def _look_back(path: str) -> None:
    repository = Repository(path, exists=False)
    uses: list[Callable[[], Any]] = [
        repository.log,
        lambda: repository.log(show_time=True, show_user=True),
        repository.summary,
        repository.list_tags,
        lambda: repository.reflog("master"),
        lambda: repository.checkout(as_of="2026-01-01"),
        lambda: repository.diff("master", "other"),
    ]
    for use in uses:
        with contextlib.suppress(HangarError):
            use()


def _verify(path: str) -> None:
    for finding in Repository(path, exists=False).fsck(resume=False):
        str(finding)


def _clone(path: str) -> None:
    folder = tempfile.mkdtemp()
    try:
        clone = Repository(folder, exists=False)
        clone.clone("a", "b", f"{path}/.hangar/store")
        with contextlib.suppress(HangarError):
            _read_columns(clone.checkout())
        with contextlib.suppress(HangarError):
            clone.remote.fetch("origin", "other")
        clone.remote.fetch_data("origin", "master")
    finally:
        shutil.rmtree(folder)


def _write(path: str) -> None:
    repository = Repository(path, exists=False)
    writer = repository.checkout(write=True)
    try:
        with contextlib.suppress(HangarError):
            writer.stash.list()
        for column in writer.values():
            with contextlib.suppress(HangarError):
                _read_each(column)
        if "images" in writer:
            with contextlib.suppress(HangarError):
                writer["images"][99] = np.zeros((40, 40), np.uint8)
                writer.commit("after damage")
    finally:
        writer.close()


def _merge(path: str) -> None:
    Repository(path, exists=False).merge("after damage", "other", "master", strategy="ours")


USES: dict[str, Callable[[str], None]] = {
    "read": _read_branches,
    "look back": _look_back,
    "verify": _verify,
    "clone": _clone,
    "write": _write,
    "merge": _merge,
}


def _memory(field: str) -> int:
    """Bytes in use ("VmRSS"), or the most since `_forget_peak` ("VmHWM"); elsewhere than on Linux, the most ever."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _STATUS.open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def _forget_peak() -> None:
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


def try_use(use: str, path: str) -> dict[str, Any]:
    """What came of one use: the error if it is none of ours, seconds, and bytes that memory grew by at its peak."""
    _forget_peak()
    before, started = _memory("VmRSS"), time.monotonic()
    error = ours = ""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            USES[use](path)
        except HangarError as problem:
            ours = f"{type(problem).__name__}: {problem}"
        except BaseException as problem:  # noqa: BLE001 - which one it is, is what is asked
            import traceback

            error = "".join(traceback.format_exception(problem)[-8:])
    return {
        "use": use,
        "error": error[-4000:],
        "ours": ours,
        "seconds": time.monotonic() - started,
        "grew": _memory("VmHWM") - before,
    }


def main() -> None:
    """Answer one line after the other. The first path is read to load what is needed, and nothing is measured."""
    for number, line in enumerate(sys.stdin):
        order = json.loads(line)
        answers = [try_use(use, order["path"]) for use in order["uses"]]
        if number == 0 and _STATUS.exists():
            size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (size + _HEADROOM, size + _HEADROOM))
        print(json.dumps(answers), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
