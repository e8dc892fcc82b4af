"""docs/usage-import-export.md does what it says: its blocks are run, one after the other."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
from PIL import Image

from hangar_cloud import external
from hangar_cloud.cli import main
from tests.cli.running import invoke
from tests.external.conftest import picture
from tests.project.source_rules import ROOT
from tests.project.test_docs import blocks


def test_the_document_runs(tmp_path, monkeypatch, photos, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "document"}
    for block in blocks(ROOT / "docs" / "usage-import-export.md"):
        if block.language == "python":
            exec(compile(block.body, block.place, "exec"), names)
        elif block.language == "sh":
            for line in block.body.splitlines():
                invoke(main, *shlex.split(line)[1:])
    printed = capsys.readouterr().out
    assert "24 samples imported into images, labels" in printed
    assert np.array_equal(np.asarray(Image.open(tmp_path / "pictures" / "owl" / "002.png")), picture(2))
    assert (tmp_path / "words" / "cat" / "000.txt").read_text() == "cat"
    assert len(list((tmp_path / "thumbs").rglob("*.jpg"))) == 12
    assert (tmp_path / "tree" / "dog" / "001.png").is_file()
    (tmp_path / "a.points").write_text("1\n2\n")
    assert names["PointsPlugin"]().load(tmp_path / "a.points", scale=2)[0].tolist() == [2, 4]
    assert "image" in external.list_plugins()
