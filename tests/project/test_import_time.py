"""`import hangar_cloud` and `hangar --help` load nothing heavy.

Not timed: what is loaded is what costs, and it can be listed exactly.
"""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

import hangar_cloud
from tests.project.source_rules import ROOT

HEAVY = {
    "aiobotocore",
    "aiohttp",
    "blake3",
    "boto3",
    "botocore",
    "duckdb",
    "fsspec",
    "gcsfs",
    "google",
    "jax",
    "numpy",
    "pandas",
    "pyarrow",
    "rich",
    "s3fs",
    "sklearn",
    "tensorflow",
    "tiledb",
    "torch",
    "xxhash",
}

IMPORT = "import hangar_cloud"
VERSION = "import hangar_cloud; hangar_cloud.__version__; dir(hangar_cloud)"
HELP = """
sys.argv = ["hangar", "--help"]
from hangar_cloud.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""


def loaded_by(statement: str) -> set[str]:
    """The top-level names that a fresh interpreter has loaded after a statement, less those it starts with."""
    program = f"import sys\n{statement}\nprint('loaded', sorted(sys.modules))"
    before, after = (
        subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        for text in ("import sys\nprint('loaded', sorted(sys.modules))", program)
    )
    assert after.returncode == 0, after.stderr
    names = [ast.literal_eval(done.stdout.rpartition("loaded ")[2]) for done in (before, after)]
    return {name.partition(".")[0] for name in set(names[1]) - set(names[0])}


@pytest.mark.parametrize(
    "statement",
    [pytest.param(IMPORT, id="import"), pytest.param(VERSION, id="version"), pytest.param(HELP, id="hangar --help")],
)
def test_nothing_heavy_is_loaded(statement):
    assert loaded_by(statement) & HEAVY == set()


def test_the_test_can_fail():
    assert "numpy" in loaded_by("import numpy")


def test_loaders_load_no_framework_but_their_own():
    names = "keys_where, make_numpy_dataset, make_tf_dataset, make_torch_dataset, make_torch_stream"
    assert loaded_by(f"from hangar_cloud import {names}") & {"torch", "tensorflow", "jax", "pandas"} == set()


@pytest.mark.parametrize("name", hangar_cloud.__all__)
def test_every_public_name_is_there(name):
    assert getattr(hangar_cloud, name) is not None
    assert name in dir(hangar_cloud)


def test_another_name_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="no attribute 'Repo'"):
        hangar_cloud.Repo  # noqa: B018
