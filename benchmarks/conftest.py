"""Options of the benchmarks, and their table at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.running import HERE

LINES: Final[list[str]] = []
"""Of the table, as rows are done."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where things are, and how often rows are run."""
    group = parser.getgroup("hangar-cloud")
    group.addoption("--data", type=Path, default=Path("mnist"), help="folder with the four files of MNIST")
    group.addoption("--peers", type=Path, default=HERE.parent / ".bench", help="virtual environments of the peers")
    group.addoption("--rounds", type=int, default=3, help="medians are of so many runs")
    group.addoption("--row", action="append", default=[], help="only rows whose name has this in it")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse before anything is installed or run for nothing."""
    data = config.getoption("--data")
    if not (data / "train-images-idx3-ubyte.gz").is_file():
        raise pytest.UsageError(
            f"{data} has no train-images-idx3-ubyte.gz; name the folder that has: make bench MNIST=DIR"
        )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table."""
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end"
    rounds = config.getoption("--rounds")
    terminalreporter.section(f"medians of {rounds} runs, one of each in turns; {load}")
    for line in LINES:
        terminalreporter.write_line(line)
