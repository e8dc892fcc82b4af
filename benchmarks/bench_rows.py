"""The rows, under pytest-benchmark: it keeps the figures of each run, and compares runs.

Ours and the peer's run in turns, each in a process of its own, so that what else the machine does meanwhile troubles
both. A process says what it took without its preparations; the clock that pytest-benchmark reads goes on by that.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Final

import pytest

from benchmarks.conftest import LINES
from benchmarks.rows import ROWS, Row
from benchmarks.running import measure
from benchmarks.table import line


class Told:
    """A clock that goes on when it is told to, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now


CLOCK: Final = Told()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The rows that were asked for."""
    names = metafunc.config.getoption("--row")
    rows = [row for row in ROWS if not names or any(name in row.name for name in names)]
    metafunc.parametrize("row", rows, ids=[row.name for row in rows])


@pytest.mark.benchmark(timer=CLOCK, disable_gc=False)
def bench_row(row: Row, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """Measure one row, and the peer's work in the same rounds."""
    peers, data, rounds = (request.config.getoption(name) for name in ("--peers", "--data", "--rounds"))
    ours: list[float] = []
    theirs: list[float] = []

    def run_ours() -> None:
        ours.append(measure(row.ours, peers, data))
        CLOCK.now += ours[-1]

    def run_peer() -> None:
        if row.peer is not None:
            theirs.append(measure(row.peer, peers, data))

    benchmark.group = "seconds" if not row.measure else row.measure
    benchmark.pedantic(run_ours, setup=run_peer, rounds=rounds)
    peer = median(theirs) if theirs else None
    benchmark.extra_info.update(unit=row.unit, peer=row.peer and row.peer.who, median_of_peer=peer)
    LINES.append(line(row, median(ours), peer))
    print(f"\n{LINES[-1]}")
