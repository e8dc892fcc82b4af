"""`hangar server` in a process of its own, as people run it."""

from __future__ import annotations

import http.client
import signal
import subprocess
from contextlib import closing

import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import cli, main
from tests.cli.running import HANGAR, clean_environment, invoke

pytestmark = pytest.mark.usefixtures("heard")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_cleanly(filled, place, tmp_path, how):
    with subprocess.Popen(
        [*HANGAR, "server", "--port", "0", "--verbose"],
        cwd=place,
        env=clean_environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        said = running.stdout.readline()
        assert said.startswith(f"Serving {place} at http://localhost:")
        url = said.split()[3]
        reader = Repository(url, cache_dir=tmp_path / "cache").checkout()
        with closing(reader):
            assert reader["labels", 3] == "label 3"
        address, port = url.removeprefix("http://").split(":")
        waiting = http.client.HTTPConnection(address, int(port))
        waiting.request("GET", "/hangar.json")
        waiting.getresponse().read()
        running.send_signal(how)
        assert running.wait(30) == 0
        waiting.close()
        assert running.stdout.read() == "The server has ended.\n"
        log = running.stderr.read()
        assert '"GET /hangar.json HTTP/1.1" 200' in log
        assert "Traceback" not in log


def test_what_it_warns_of(shared):
    result = invoke(cli.server, "--ip", "0.0.0.0", "--port", "0", "--timeout", "0.1", "--overwrite", obj=shared)
    assert "--overwrite does nothing" in result.stderr
    assert "readers get what is on this machine" in result.stderr
    assert "Everybody who reaches this machine can read" in result.stderr
    assert "The server has ended." in result.stdout


def test_a_bucket_is_served_too(shared, bucket):
    said = invoke(main, "-C", bucket, "server", "--port", "0", "--timeout", "0.1").stdout
    assert said.startswith(f"Serving {bucket} at http://localhost:")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--port", "70000"], 2, "70000 is not in the range"),
        (["--ip", "192.0.2.1", "--port", "0"], 1, "cannot listen at 192.0.2.1"),
        (["--timeout", "-1"], 2, "-1"),
    ],
)
def test_mistakes(filled, arguments, code, said):
    assert said in invoke(cli.server, *arguments, obj=filled, code=code).stderr


def test_clone_from_it_by_the_command_line(filled, place, tmp_path):
    import threading

    from hangar_cloud.http_server import RepositoryServer

    server = RepositoryServer(filled._storage.store, lambda: "", port=0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        there = str(tmp_path / "there")
        invoke(main, "-C", there, "clone", "--name", "Ben", "--email", "b@example.org", server.url)
        assert "ten samples" in invoke(main, "-C", there, "log").stdout
        assert "ten samples" in invoke(main, "-C", server.url, "log").stdout
        assert "Disk Usage: not known" in invoke(main, "-C", server.url, "summary").stdout
        for command in (["commit", "-m", "x"], ["column", "create", "x", "STR"], ["branch", "create", "x"], ["reset"]):
            assert "is read-only" in invoke(main, "-C", server.url, *command, code=1).stderr, command
    finally:
        server.stop()
        thread.join()
