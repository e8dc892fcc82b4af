"""The whole story as a person types it, each command in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.cli.running import clean_environment, shell

INGEST = """
import numpy as np
from hangar_cloud import Repository
co = Repository(".").checkout(write=True)
with co:
    for i in range(300):
        co["images"][i] = np.full((28, 28), i % 256, np.uint8)
        co["captions"][i] = f"shade {i % 256}"
co.close()
"""
READ = """
from hangar_cloud import Repository
co = Repository(".", offline=True).checkout()
assert [co["images", i][0, 0] for i in range(300)] == [i % 256 for i in range(300)]
assert co["captions", 299] == "shade 43"
co.close()
"""


def python(program: str, cwd) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=cwd,
        env=clean_environment(cwd),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def without_digests(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{12}([0-9a-f]{52})?\b", "DIGEST", text)


def test_the_story(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    transcript = []

    def hangar(*arguments: str, cwd=here) -> None:
        done = shell(*arguments, cwd=cwd)
        said = (done.stdout + done.stderr).replace(str(tmp_path), "~")
        transcript.append(f"$ hangar {' '.join(arguments)}\n{without_digests(said)}")

    hangar("init", "--name", "Ada", "--email", "ada@example.org")
    hangar("column", "create", "images", "UINT8", "28", "28")
    hangar("column", "create", "captions", "STR")
    python(INGEST, here)
    hangar("status")
    hangar("commit", "-m", "three hundred shades")
    hangar("log")
    hangar("branch", "create", "dev")
    hangar("checkout", "dev")
    hangar("column", "remove", "captions")
    hangar("commit", "-m", "no captions")
    hangar("branch", "list")
    hangar("remote", "add", "origin", "../bucket")
    hangar("push", "origin", "master")
    hangar("push", "origin", "dev")
    hangar("push", "origin", "dev")
    hangar("clone", "--name", "Ben", "--email", "ben@example.org", "../bucket", cwd=there)
    hangar("fetch", "origin", "dev", cwd=there)
    hangar("branch", "list", cwd=there)
    hangar("log", "origin/dev", cwd=there)
    hangar("fetch-data", "origin", "master", cwd=there)
    hangar("status", cwd=there)
    python(READ, there)
    assert "".join(transcript) == TRANSCRIPT


TRANSCRIPT = """\
$ hangar init --name Ada --email ada@example.org
Hangar Repo initialized at: ~/here/.hangar
$ hangar column create images UINT8 28 28
Column images is staged on branch master; `hangar commit` records it.
$ hangar column create captions STR
Column captions is staged on branch master; `hangar commit` records it.
$ hangar status
On branch master, without a commit yet
Staging area: DIRTY
  new column       captions (str): 300 added
  new column       images (uint8, 28 x 28): 300 added

Next: `hangar commit -m "what changed"` records it; `hangar diff` shows it, `hangar reset` gives it up.
$ hangar commit -m three hundred shades
Committed to branch master: DIGEST
$ hangar log
* DIGEST (master) : three hundred shades
$ hangar branch create dev
Branch dev is at DIGEST. `hangar checkout dev` writes to it from now on.
$ hangar checkout dev
On branch dev.
$ hangar column remove captions
The removal of column captions is staged on branch dev; `hangar commit` records it.
$ hangar commit -m no captions
Committed to branch dev: DIGEST
$ hangar branch list
* dev
  master
$ hangar remote add origin ../bucket
Remote origin is ~/bucket. `hangar push origin BRANCH` uploads a branch to it.
$ hangar push origin master
Pushed master to origin.
$ hangar push origin dev
Pushed dev to origin.
$ hangar push origin dev
Warning: branch 'dev' at ~/bucket is up to date; nothing to push
$ hangar clone --name Ben --email ben@example.org ../bucket
Hangar Repo initialized at: ~/there/.hangar
On branch master. Samples come when they are read; `hangar fetch-data origin master` brings all.
$ hangar fetch origin dev
Fetched origin/dev.
$ hangar branch list
* master
  origin/dev
  origin/master
$ hangar log origin/dev
* DIGEST (origin/dev) : no captions
* DIGEST (master) (origin/master) : three hundred shades
$ hangar fetch-data origin master
The samples of commit DIGEST are here.
$ hangar status
On branch master, at commit DIGEST
It is where origin/master was when last seen.
Staging area: CLEAN

Next: nothing is staged. `hangar log` shows what was committed, `hangar summary` what it holds.
"""


@pytest.mark.usefixtures("s3_server")
class TestOverS3:
    """Credentials and endpoint come from where every AWS program looks for them, or from --storage-option."""

    @pytest.fixture
    def found(self, s3_server):
        options = s3_server.storage_options
        return {
            "AWS_ENDPOINT_URL": s3_server.endpoint,
            "AWS_ACCESS_KEY_ID": options["key"],
            "AWS_SECRET_ACCESS_KEY": options["secret"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def test_from_the_environment(self, found, s3_url, tmp_path):
        def hangar(*arguments: str) -> str:
            return shell(*arguments, cwd=tmp_path, environment=found).stdout

        hangar("-C", s3_url, "init", "--name", "Ada", "--email", "ada@example.org")
        hangar("-C", s3_url, "column", "create", "x", "STR")
        assert "new column       x (str)" in hangar("-C", s3_url, "status")
        hangar("-C", s3_url, "commit", "-m", "over S3")
        hangar("-C", "copy", "clone", "--name", "Ben", "--email", "ben@example.org", s3_url)
        assert "over S3" in hangar("-C", "copy", "log")
        assert "origin answered in" in hangar("-C", "copy", "remote", "ping", "origin")

    def test_from_options(self, s3_server, s3_url, tmp_path):
        options = s3_server.storage_options
        settings = {"endpoint_url": s3_server.endpoint, "key": options["key"], "client_kwargs.region_name": "us-east-1"}

        def hangar(secret: str, *arguments: str, code: int = 0) -> str:
            given = [f"{name}={value}" for name, value in {**settings, "secret": secret}.items()]
            flags = [part for text in given for part in ("--storage-option", text)]
            done = shell(*flags, "-C", s3_url, *arguments, cwd=tmp_path, code=code)
            assert secret not in done.stdout + done.stderr
            return done.stdout + done.stderr

        hangar(options["secret"], "init", "--name", "Ada", "--email", "ada@example.org")
        assert "On branch master" in hangar(options["secret"], "status")
        assert "the credentials were refused" in hangar("not-the-secret", "status", code=1)

    def test_without_credentials(self, s3_server, s3_url, tmp_path):
        environment = {"AWS_ENDPOINT_URL": s3_server.endpoint, "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(tmp_path)}
        said = shell("-C", s3_url, "log", cwd=tmp_path, environment=environment, code=1).stderr
        assert said.startswith("Error: Cannot read s3://")
        assert "--storage-option key=..." in said

    def test_no_such_bucket(self, found, tmp_path):
        said = shell("-C", "s3://no-such-bucket/x", "log", cwd=tmp_path, environment=found, code=1).stderr
        assert "the bucket does not exist" in said
