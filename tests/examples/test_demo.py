"""`hangar demo`: the story is told, its numbers are true, and nothing is left behind."""

from __future__ import annotations

import gzip
import re
import sys

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import open_store
from hangar_cloud.cli import main
from hangar_cloud.demo_data import mnist, read_idx
from hangar_cloud.demo_picture import picture_lines
from hangar_cloud.errors import InvalidArgumentError
from tests.cli.running import invoke, shell
from tests.examples.test_examples import make_mnist

STEPS = ["Ingest", "Commit", "Change", "Push", "Somewhere else: clone", "Read a single image", "What was committed"]


def check_story(said: str) -> None:
    titles = re.findall(r"^(\d)\. (.*)$", said, re.M)
    assert [int(number) for number, _ in titles] == list(range(1, len(STEPS) + 1))
    assert all(title.startswith(step) for (_, title), step in zip(titles, STEPS, strict=True))
    assert re.search(r"^\* [0-9a-f]{64} \(tidy\) \(origin/tidy\) \(Ada\) : ", said, re.M)


def test_with_bundled_digits(tmp_path):
    done = shell("demo", cwd=tmp_path, environment={"TMPDIR": str(tmp_path)})
    check_story(done.stdout)
    assert done.stderr == ""
    share = re.search(r"requests brought [\d.]+ kB, ([\d.]+)% of 14.09 MB", done.stdout)
    assert share is not None
    assert float(share[1]) < 5
    assert done.stdout.count("@") > 20  # the picture
    assert "\x1b" not in done.stdout
    assert [path.name for path in tmp_path.iterdir() if path.name != ".cache"] == []


def test_kept(tmp_path):
    make_mnist(tmp_path / "data")
    keep = tmp_path / "kept"
    check_story(invoke(main, "demo", "--data", tmp_path / "data", "--keep", keep).stdout)
    assert Repository(keep / "digits").list_branches() == ["master", "tidy", "origin/master", "origin/tidy"]
    clone = Repository(keep / "clone")
    co = clone.checkout()
    assert co["labels", 7] == "7"
    assert len(co["images"]) == 700
    co.close()
    assert "is not empty" in invoke(main, "demo", "--data", tmp_path / "data", "--keep", keep, code=1).stderr


def test_into_a_bucket(tmp_path, s3_server, s3_url):
    """Its own new folder in the bucket is removed afterwards; what else is there is not."""
    make_mnist(tmp_path / "data")
    store = open_store(s3_url, s3_server.storage_options)
    store.put_if_absent("somebody/else", b"data")
    found = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.storage_options["key"],
        "AWS_SECRET_ACCESS_KEY": s3_server.storage_options["secret"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    done = shell("demo", "--data", tmp_path / "data", "--bucket", s3_url, cwd=tmp_path, environment=found)
    check_story(done.stdout)
    assert f"{s3_url}/hangar-demo-" in done.stdout
    assert [info.path for info in store.list()] == ["somebody/else"]
    store.close()


def test_a_bucket_that_cannot_be_used_is_told_at_once(tmp_path):
    make_mnist(tmp_path / "data")
    result = invoke(main, "demo", "--data", tmp_path / "data", "--bucket", tmp_path / "not there", code=1)
    assert result.stdout == ""
    assert "not there" in result.stderr


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    said = invoke(main, "demo", code=1).stderr
    assert "pip install 'hangar-cloud[demo]'" in said
    assert "--data DIR" in said


def test_files_that_are_missing_or_damaged(tmp_path):
    make_mnist(tmp_path / "data")
    labels = tmp_path / "data" / "train-labels-idx1-ubyte.gz"
    whole = labels.read_bytes()
    cut, other = gzip.compress(gzip.decompress(whole)[:-1]), gzip.compress(b"\0\0\x09\x01abcd")
    for damaged in (whole[:20], b"not gzip", b"", cut, other):
        labels.write_bytes(damaged)
        with pytest.raises(InvalidArgumentError, match=r"train-labels-idx1-ubyte\.gz is not .*; fetch it anew"):
            read_idx(labels, 1)
    labels.write_bytes((tmp_path / "data" / "t10k-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(InvalidArgumentError, match="600 train images have 100 labels"):
        mnist(tmp_path / "data")
    labels.unlink()
    with pytest.raises(InvalidArgumentError, match="MNIST is four files"):
        mnist(tmp_path / "data")


def test_pictures():
    image = np.zeros((5, 4), np.uint8)
    image[:2, 1] = 255
    image[4, 3] = 255
    assert list(picture_lines(image, blocks=False)) == [" @", "", "   ="]
    blocks = list(picture_lines(image, blocks=True))
    assert len(blocks) == 3
    assert blocks[0].count("\u2580") == 4
    assert "38;5;255;48;5;255m" in blocks[0]
    assert blocks[2].endswith("\x1b[38;5;255;48;5;232m\u2580\x1b[0m")
