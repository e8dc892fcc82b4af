"""The records behind a loader are read once, and a terminal is shown how far that is."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from hangar_cloud import keys_where, make_numpy_dataset
from tests.repository.making import ROOT, make_repository
from tests.terminal import all_seen, new_terminal

COUNT = 30_000


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Two columns of 30,000 samples, in several leaves each."""
    made = make_repository(tmp_path_factory.mktemp("many") / "r")
    writer = made.checkout(write=True)
    values = np.arange(COUNT * 10, dtype=np.float64).reshape(COUNT, 10)
    writer.add_ndarray_column("value", prototype=values[0]).update(enumerate(values))
    writer.add_ndarray_column("label", shape=(), dtype=np.int64).update((n, np.array(n)) for n in range(COUNT))
    writer.commit("many")
    writer.close()
    return made


def test_each_leaf_is_read_once_though_none_stays_in_memory(repository):
    checkout = repository.checkout()
    nodes = checkout["value"]._nodes
    leaves = sum(len(list(nodes.leaves(column._entry.root))) for column in checkout.values())
    nodes._limit, before = 1, nodes.loaded
    dataset = make_numpy_dataset(checkout.columns, batch_size=1000, shuffle=False)
    assert leaves > 6
    assert nodes.loaded - before == leaves
    before = nodes.loaded
    make_numpy_dataset(checkout.columns, range(1, COUNT), batch_size=1000)
    assert nodes.loaded - before == leaves
    assert dataset._source._selection.records._read == {}
    assert [int(batch["value"][0, 0]) for batch in dataset] == [*range(0, COUNT * 10, 10_000)]
    checkout.close()


def test_one_column_under_two_names_and_columns_with_other_samples(repository):
    checkout = repository.checkout()
    few = keys_where(checkout["label"], lambda label: label % 3 == 0)
    pairs = make_numpy_dataset({"a": checkout["label"], "b": checkout["label"]}, few, 2000, shuffle=False)
    assert sum(int((batch["a"] == batch["b"]).all()) for batch in pairs) == 5
    checkout.close()


@pytest.mark.parametrize("shown", ["True", "False"])
def test_a_terminal_is_shown_how_much_is_read_unless_that_is_turned_off(repository, shown):
    script = (
        "import sys; from hangar_cloud import Repository, make_numpy_dataset\n"
        "from hangar_cloud.progress import set_progress\n"
        "set_progress(sys.argv[2] == 'True')\n"
        "make_numpy_dataset(Repository(sys.argv[1]).checkout().columns)"
    )
    ours, theirs = new_terminal()
    command = [sys.executable, "-c", script, repository.path, shown]
    process = subprocess.Popen(command, cwd=ROOT, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    seen = all_seen(ours)
    assert process.wait(60) == 0, seen
    assert (b"reading the records of 'value'" in seen) if shown == "True" else seen == b""
