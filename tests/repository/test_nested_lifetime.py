"""How long nested columns and samples, and everything else that a checkout gives, may be used and where."""

from __future__ import annotations

import pickle
import shutil
from types import SimpleNamespace

import pytest

from hangar_cloud import Repository
from hangar_cloud.columns import Columns
from hangar_cloud.errors import ClosedError
from hangar_cloud.nested_reader import FlatSubsampleReader
from tests.repository.making import make_repository, same
from tests.repository.nesting import fill_every_kind, value_of


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The folder of a repository with columns of every kind, in one commit."""
    folder = tmp_path_factory.mktemp("original") / "repository"
    checkout = make_repository(folder).checkout(write=True)
    fill_every_kind(checkout)
    checkout.commit("filled")
    checkout.close()
    return folder


@pytest.fixture
def repository(original, tmp_path):
    """A copy of it."""
    return Repository(shutil.copytree(original, tmp_path / "repository"))


@pytest.fixture
def filled(repository):
    """A writer of it."""
    checkout = repository.checkout(write=True)
    yield checkout
    if checkout._alive.open:
        checkout.close()


def test_readers_pickle_and_everything_of_a_writer_refuses(filled, repository):
    reader = repository.checkout()
    co, columns, column, sample = pickle.loads(
        pickle.dumps([reader, reader.columns, reader["text"], reader["text"]["a"]])
    )
    assert co.commit_hash == reader.commit_hash
    assert isinstance(columns, Columns)
    assert columns.keys() == list(reader.keys())
    assert columns["text"]["a", 0] == column["a", 0] == sample[0] == value_of("text", 1)
    assert type(sample) is FlatSubsampleReader
    for one in (filled, filled.columns, filled["text"], filled["text"]["a"], filled["flat-text"]):
        with pytest.raises(PermissionError, match="cannot be pickled; pickle") as caught:
            pickle.dumps(one)
        assert type(caught.value) is ClosedError
    reader.close()
    assert sample[0] == value_of("text", 1), "what was unpickled is not closed with what was pickled"
    for one in (reader, filled["text"]["a"]):
        with pytest.raises(PermissionError):
            pickle.dumps(one)


def uses_of_nested(column, sample):
    """What can be asked of a nested column and of a sample, of a reader or a writer."""
    names = ["column", "column_type", "column_layout", "schema_type", "dtype", "shape", "backend", "backend_options"]
    names += ["contains_subsamples", "iswriteable", "num_subsamples", "remote_reference_keys"]
    names += ["contains_remote_references"]
    uses = [lambda name=name: getattr(column, name) for name in names]
    names = ["column", "sample", "iswriteable", "data", "remote_reference_keys", "contains_remote_references"]
    uses += [lambda name=name: getattr(sample, name) for name in names]
    for one, key in ((column, "a"), (sample, 0)):
        uses += [
            *[lambda one=one, key=key: one[key], lambda one=one, key=key: one.get(key), one.__len__, one.__iter__],
            *[lambda one=one, key=key: key in one, one.keys, one.values, one.items],
            *[lambda one=one: one.keys(local=True), lambda one=one: one.values(local=True)],
            *[lambda one=one: one.items(local=True), one.__enter__, lambda one=one: pickle.dumps(one)],
            *[
                one.__repr__,
                one.__str__,
                one._repr_html_,
                lambda one=one: one._repr_pretty_(SimpleNamespace(text=len), False),
            ],
        ]
    uses.append(sample._ipython_key_completions_)
    return [*uses, lambda: column["a", 0], lambda: column.get_batch([("a", 0)]), lambda: sample[...], lambda: sample[:]]


def writes_of_nested(column, sample):
    return [
        *[lambda: column.__setitem__("a", {}), lambda: column.__setitem__(("a", 0), "x"), lambda: column.update({})],
        *[lambda: column.pop("a"), lambda: column.pop("a", 5), lambda: column.__delitem__("a")],
        *[lambda: column.change_backend("p0"), lambda: sample.__setitem__(0, "x"), lambda: sample.update({})],
        *[lambda: sample.append("x"), lambda: sample.pop(0), lambda: sample.pop(0, 5), lambda: sample.__delitem__(0)],
    ]


@pytest.mark.parametrize("writing", [False, True])
def test_every_use_of_a_nested_column_is_refused_after_close(filled, repository, writing):
    co = filled if writing else repository.checkout()
    column, sample = co["text"], co["text"]["a"]
    uses = uses_of_nested(column, sample) + (writes_of_nested(column, sample) if writing else [])
    walks = [iter(one) for one in (column, column.items(), column.values(), sample, sample.items(), sample.values())]
    for walk in walks[1::2]:
        next(walk)
    co.close()
    for use in [*uses, *[lambda walk=walk: list(walk) for walk in walks]]:
        with pytest.raises(PermissionError, match="was closed|cannot be pickled") as caught:
            use()
        assert type(caught.value) is ClosedError


def test_every_use_of_a_removed_nested_column_is_refused(filled):
    column, sample = filled["text"], filled["text"]["a"]
    filled.columns.delete("text")
    for use in uses_of_nested(column, sample) + writes_of_nested(column, sample):
        with pytest.raises(PermissionError) as caught:
            use()
        assert type(caught.value) is ClosedError


def test_a_clone_says_what_is_missing_by_column_sample_and_subsample(filled, repository, tmp_path):
    filled.close()
    repository.remote.add("origin", f"file://{tmp_path}/remote")
    repository.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Other", "other@example.org", f"file://{tmp_path}/remote")
    co = clone.checkout()
    assert co.columns.contains_remote_references == dict.fromkeys(co.keys(), True), "no record is here yet"
    for name in co:
        list(co[name])
    inline = {"fixed", "flat-fixed"}
    said = co.columns.contains_remote_references
    assert not any(said[name] for name in inline)
    assert said["big"]
    assert said["flat-big"]
    keys = co.columns.remote_sample_keys
    assert (keys["big"], keys["flat-big"], keys["fixed"]) == ((3, "a"), (0, "0", "k"), ())
    assert co["big"]["a"].remote_reference_keys == (0, 7, "0")
    for name in ("big", "flat-big"):
        assert (list(co[name].keys(local=True)), list(co[name].items(local=True))) == ([], [])
        assert list(co[name].values(local=True)) == []
    assert (list(co["fixed"].keys(local=True)), list(co["flat-fixed"].keys(local=True))) == ([3, "a"], [0, "0", "k"])
    assert same(co["big", "a", 0], value_of("big", 1))
    assert 0 in list(co["big"]["a"].keys(local=True))
    assert same(dict(co["big"]["a"].items(local=True))[0], value_of("big", 1))
    writer = clone.checkout(write=True)
    writer["big", "staged", 0] = value_of("big", 9)
    assert "staged" in list(writer["big"].keys(local=True))
    assert "staged" not in writer["big"].remote_reference_keys
    writer.close()
