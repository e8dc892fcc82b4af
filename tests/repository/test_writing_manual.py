"""docs/usage-writing.md does what it says: its blocks are run, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from hangar_cloud import Repository
from tests.project.source_rules import ROOT
from tests.project.test_docs import blocks


def test_the_blocks_of_the_page(empty):
    names: dict[str, Any] = {"repo": empty, "np": np, "batch": np.arange(10 * 784, dtype=np.uint8).reshape(10, 28, 28)}
    for block in blocks(ROOT / "docs" / "usage-writing.md"):
        exec(compile(block.body, block.place, "exec"), names)
    checkout = Repository(empty.path).checkout()
    assert names["keys"] == list(range(10, 20))
    assert list(checkout["images"]) == list(checkout["captions"]) == list(range(20))
    assert np.array_equal(checkout["images"][13], names["batch"][3])
    assert {key: list(sample) for key, sample in checkout["scans"].items()} == {
        "patient-7": [0, 1, 2, "late"],
        "patient-8": [0],
    }
    checkout.close()
