"""Runs the rows and prints the table: `make bench`, or

python -m benchmarks --data FOLDER [--rounds 3] [--peers FOLDER] [NAME ...]

The figures of all runs are kept in .bench/runs; `pytest-benchmark compare --storage .bench/runs` shows them beside
each other.
"""

from __future__ import annotations

import argparse
import sys

import pytest

from benchmarks.running import HERE


def main() -> int:
    """Run what was asked for, by pytest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", help="rows whose name has this in it; all without")
    parser.add_argument("--rounds", default="3")
    parser.add_argument("--peers", default=str(HERE.parent / ".bench"), help="virtual environments of the peers")
    parser.add_argument("--data", required=True, help="folder with the four files of MNIST")
    options = parser.parse_args()
    runs = HERE.parent / ".bench" / "runs"
    return pytest.main(
        [
            *("-c", str(HERE / "pytest.ini"), f"--rootdir={HERE}", str(HERE / "bench_rows.py")),
            *(f"--data={options.data}", f"--peers={options.peers}", f"--rounds={options.rounds}"),
            *(f"--row={name}" for name in options.names),
            *("--benchmark-autosave", f"--benchmark-storage=file://{runs}"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
