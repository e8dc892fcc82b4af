"""Runs the rows and prints the table: `make bench`, or

    python -m benchmarks [--rounds 3] [--peers FOLDER] [--data FOLDER] [NAME ...]

Each piece of work runs in a process of its own, ours and the peer's in turns, and medians are compared, so that what
else the machine does meanwhile troubles both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.rows import OURS, PEERS, PLAIN, ROWS, Row, Work

HERE: Final = Path(__file__).resolve().parent


def python_of(who: str, peers: Path) -> Path:
    """The Python of a peer; its virtual environment is made first where there is none."""
    if who in (OURS, PLAIN):
        return Path(sys.executable)
    python = peers / who / "bin" / "python"
    if not python.exists():
        print(f"installing {' '.join(PEERS[who])} into {peers / who}", flush=True)
        base = shutil.which("python3.11") if who == "hangar" else sys.executable
        if base is None:
            raise SystemExit("Hangar 0.5.2 needs Python 3.11: install one, or name other rows")
        subprocess.run([base, "-m", "venv", str(peers / who)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS[who]], check=True)
    return python


def seconds(work: Work, options: argparse.Namespace) -> float:
    """Run a piece of work once; what one unit of it took."""
    python = python_of(work.who, options.peers)
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "BENCH_PYTHON": sys.executable,
        "PYTHONPATH": str(HERE.parent) if work.who in (OURS, PLAIN) else "",
    }
    with tempfile.TemporaryDirectory(prefix="hangar-bench-") as folder:
        command = [str(python), str(HERE / "kit.py"), str(HERE / work.file), work.function, folder, str(options.data)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{work.function} of {work.who} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def run(row: Row, options: argparse.Namespace) -> tuple[float, float | None]:
    """Medians of our seconds and the peer's."""
    ours, peers = [], []
    for _ in range(options.rounds):
        ours.append(seconds(row.ours, options))
        if row.peer is not None:
            peers.append(seconds(row.peer, options))
    return median(ours), median(peers) if peers else None


def human(value: float) -> str:
    """Seconds in the unit that suits."""
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1, 1e3, "ms")):
        if value < limit:
            return f"{value * factor:.2f} {unit}"
    return f"{value:.2f} s"


def line(row: Row, ours: float, peer: float | None) -> str:
    """A line of the table."""
    if row.measure:
        met = ours <= row.seconds
        return f"{row.name:<44} {ours:>10,.0f} {row.measure:<38} <= {row.seconds:<9,.0f} {'met' if met else 'NOT MET'}"
    if peer is None or row.peer is None:
        met, compared, bar = ours <= row.seconds, "", f"<= {human(row.seconds)}"
    else:
        ratio = peer / ours
        met, compared, bar = ratio >= row.factor, f"{row.peer.who} {human(peer)} = {ratio:.2f}x", f">= {row.factor:g}x"
    return f"{row.name:<44} {human(ours):>10} / {row.unit:<7} {compared:<28} {bar:<12} {'met' if met else 'NOT MET'}"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", help="rows whose name has this in it; all without")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".bench", help="virtual environments of the peers")
    parser.add_argument("--data", type=Path, required=True, help="folder with the four files of MNIST")
    options = parser.parse_args()
    if not (options.data / "train-images-idx3-ubyte.gz").is_file():
        parser.error(
            f"{options.data} has no train-images-idx3-ubyte.gz; name the folder that has: make bench MNIST=DIR"
        )
    rows = [row for row in ROWS if not options.names or any(name in row.name for name in options.names)]
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {options.rounds} runs, one of each in turns"
    )
    for row in rows:
        print(line(row, *run(row, options)), flush=True)


if __name__ == "__main__":
    main()
