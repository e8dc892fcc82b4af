"""Every example runs, warnings being errors, and says what it should."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import clean_environment
from tests.project.source_rules import ROOT

EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: str | Path, cwd: Path, environment: dict[str, str] | None = None, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(cwd) | {"TMPDIR": str(cwd)} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def make_mnist(folder: Path, train: int = 600, test: int = 100) -> None:
    """Files like MNIST's, of other images: each is a bright square whose place tells the label."""
    folder.mkdir()
    for part, count in (("train", train), ("t10k", test)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 6, 4:24] = 200
        for name, array in ((f"{part}-images-idx3-ubyte.gz", images), (f"{part}-labels-idx1-ubyte.gz", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / name).write_bytes(gzip.compress(header + array.tobytes(), 1))


def test_each_example_is_run_here():
    needing_others = {
        "train_jax.py",
        "train_tf.py",
    }  # run by tests/loaders/test_frameworks.py, where these are installed
    run_here = {"quickstart.py", "over_s3.py", "mnist.py", "train_torch.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == run_here | needing_others


def test_quickstart(tmp_path):
    said = run("quickstart.py", cwd=tmp_path)
    assert "label 42: a face, with some good will" in said
    assert "straight from the bucket: a face, with some good will" in said
    assert "(review) (origin/review) : one label corrected, one sample removed" in said
    assert [path.name for path in tmp_path.iterdir()] == [".cache"]


def test_quickstart_in_a_folder(tmp_path):
    run("quickstart.py", tmp_path / "kept", cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["bucket", "copy", "dataset"]


def test_mnist(tmp_path):
    make_mnist(tmp_path / "data")
    said = run("mnist.py", "--data", tmp_path / "data", cwd=tmp_path)
    assert "a shuffled epoch of 600 images" in said
    assert "right for 100.0% of 100 test images" in said


def test_mnist_with_bundled_digits(tmp_path):
    assert "of 297 test images" in run("mnist.py", cwd=tmp_path)


def test_over_s3_with_keys_from_the_environment(s3_server, s3_url, tmp_path):
    options = s3_server.storage_options
    found = {"AWS_SECRET_ACCESS_KEY": options["secret"], "AWS_ACCESS_KEY_ID": options["key"]}
    said = run("over_s3.py", s3_url, "--endpoint", s3_server.endpoint, cwd=tmp_path, environment=found)
    assert "the new sample is silence: True" in said
    assert "(master) : and silence" in said


@pytest.mark.usefixtures("s3_server")  # skips where no server can be had
def test_over_s3_with_a_server_of_its_own(tmp_path):
    # The server's sockets lie in the temporary folder, and the path of a socket may not be long.
    short = {"TMPDIR": tempfile.gettempdir()}
    said = run("over_s3.py", "--local-server", cwd=tmp_path, environment=short)
    assert "the new sample is silence: True" in said


def test_over_s3_without_a_bucket(tmp_path):
    assert "--local-server" in run("over_s3.py", cwd=tmp_path, code=2)


def test_training_from_s3_goes_on_in_the_middle_of_an_epoch(s3_server, s3_url, tmp_path):
    make_mnist(tmp_path / "data", train=6000, test=500)
    options = s3_server.storage_options
    found = {"AWS_SECRET_ACCESS_KEY": options["secret"], "AWS_ACCESS_KEY_ID": options["key"], "OMP_NUM_THREADS": "1"}
    arguments = (s3_url, "--endpoint", s3_server.endpoint, "--data", tmp_path / "data", "--epochs", "2")
    said = run("train_torch.py", *arguments, cwd=tmp_path, environment=found)
    assert "stopped after 23 of 47 batches" in said
    assert "epoch 0: 24 batches" in said
    assert "epoch 1: 47 batches" in said
    assert "right for 100.00% of the test images" in said
