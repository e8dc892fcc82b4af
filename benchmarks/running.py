"""Pieces of work, each run in a process and in the environment of whose it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.rows import OURS, PEERS, PLAIN, Work

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


def measure(work: Work, peers: Path, data: Path) -> float:
    """Run a piece of work once; what one unit of it took, in seconds or in what its row measures."""
    python = python_of(work.who, peers)
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "BENCH_PYTHON": sys.executable,
        "PYTHONPATH": str(HERE.parent) if work.who in (OURS, PLAIN) else "",
    }
    # Modules are compiled once, as those of an installed package are.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="hangar-bench-") as folder:
        command = [str(python), str(HERE / "kit.py"), str(HERE / work.file), work.function, folder, str(data)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{work.function} of {work.who} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))
