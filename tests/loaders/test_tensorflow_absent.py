"""TensorFlow is not installed with the tests: what is said then. With it: `make frameworks`."""

from __future__ import annotations

import pytest

from hangar_cloud import make_tf_dataset


def test_without_tensorflow_the_line_that_installs_it_is_told(co, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"make_tf_dataset needs .*pip install 'hangar-cloud\[tensorflow\]'"):
        make_tf_dataset(co["image"])
