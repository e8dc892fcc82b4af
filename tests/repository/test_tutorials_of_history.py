"""The calls of Hangar 0.5.2's tutorials on branches, merges and remotes; see test_tutorials.py."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import DataNotLocalError, MergeConflictError
from tests.repository.following import column_facts, empty_column, printer, shown_columns, started
from tests.repository.making import same


@pytest.fixture
def printed(capsys):
    """Gives the lines that a call prints."""
    return printer(capsys)


def test_part_2_checkouts_branching_and_merging(tmp_path, capsys, printed):
    repo = started(tmp_path / "mnist", capsys, "Test User", "test@example.org")
    assert repo.log() is None
    assert repo.list_branches() == ["master"]
    co = repo.checkout(write=True)
    assert (len(co.metadata), len(co.columns)) == (0, 0)
    dummy = np.arange(10, dtype=np.uint16)
    column = co.add_ndarray_column("dummy_column", prototype=dummy)
    column["0"] = dummy
    first = co.commit("one sample")
    co.close()
    assert printed(repo.log) == [f"* {first} (master) : one sample"]

    branch = repo.create_branch(name="testbranch")
    assert repr(branch) == f"BranchHead(name='testbranch', digest='{first}')"
    assert repo.list_branches() == ["master", "testbranch"]
    assert printed(repo.log) == [f"* {first} (master) (testbranch) : one sample"]
    assert repo.create_branch(name="new", base_commit=first) == ("new", first)
    assert printed(repo.log) == [f"* {first} (master) (new) (testbranch) : one sample"]

    co = repo.checkout(write=True, branch="new")
    assert shown_columns(co.columns) == ["- dummy_column / False"]
    assert column_facts(co.columns["dummy_column"]) == empty_column("dummy_column", "uint16", (10,), 1)
    assert same(co.columns["dummy_column"]["0"], dummy)
    co["dummy_column", "1"] = dummy + np.uint16(1)
    assert len(co.columns["dummy_column"]) == 2
    added = co.commit("another sample")
    co.close()
    assert printed(repo.log) == [f"* {added} (new) : another sample", f"* {first} (master) (testbranch) : one sample"]

    co = repo.checkout(write=True, branch="master")
    assert printed(co.merge, message="not used", dev_branch="new") == ["Selected Fast-Forward Merge Strategy"]
    assert printed(repo.log) == [f"* {added} (master) (new) : another sample", f"* {first} (testbranch) : one sample"]
    assert (co.branch_name, co.commit_hash, len(co.columns["dummy_column"])) == ("master", added, 2)
    co.close()

    co = repo.checkout(write=True, branch="testbranch")
    assert len(co.columns["dummy_column"]) == 1
    co["dummy_column", "0"] = co["dummy_column", "0"] + 50
    changed = co.commit("changed sample")
    co.metadata["hello"] = "world"
    noted = co.commit("metadata")
    co.close()
    assert [line.split()[1] for line in printed(repo.log)] == [noted, changed, first]
    assert [line.split()[1] for line in printed(repo.log, "master")] == [added, first]

    co = repo.checkout(write=True, branch="master")
    assert printed(co.merge, message="merged", dev_branch="testbranch") == ["Selected 3-Way Merge Strategy"]
    merged = co.commit_hash
    assert printed(repo.log) == [
        f"* {merged} (master) : merged",
        "|\\",
        f"| * {noted} (testbranch) : metadata",
        f"| * {changed} : changed sample",
        f"* | {added} (new) : another sample",
        "|/",
        f"* {first} : one sample",
    ]
    assert shown_columns(co.columns) == ["- dummy_column / False"]
    assert len(co.columns["dummy_column"]) == 2
    found = co["dummy_column", ["0", "1"]]
    assert isinstance(found, list)
    assert same(found[0], dummy + np.uint16(50))
    assert same(found[1], dummy + np.uint16(1))
    assert repr(co.metadata).startswith("Hangar Metadata\n    Writeable: True\n    Number of Keys: 1")
    assert co.metadata["hello"] == "world"
    co.close()

    co = repo.checkout(write=True, branch="new")
    co.metadata["hello"] = "something else"
    co.commit("other metadata")
    with pytest.raises(ValueError, match="'testbranch' cannot be merged into 'new'.*metadata 'hello'") as caught:
        co.merge(message="refused", dev_branch="testbranch")
    assert type(caught.value) is MergeConflictError
    _, conflicts = co.diff.branch("testbranch")
    assert conflicts.conflict is True
    assert [record.key for record in conflicts.t1.metadata] == ["hello"]
    for changes in (conflicts.t21, conflicts.t22, conflicts.t3):
        assert (changes.schema, changes.samples, changes.metadata) == ({}, (), ())
    del co.metadata["hello"]
    co.commit("without the conflict")
    merged = co.merge(message="no conflict any more", dev_branch="testbranch")
    lines = printed(repo.log)
    assert lines[:2] == [f"* {merged} (new) : no conflict any more", "|\\"]
    assert co.metadata["hello"] == "world"
    co.close()


def fill_with_games(co, name, games):
    co.add_ndarray_column(name, prototype=games[0])
    with co.columns[name] as column:
        for game in games:
            column.append(game)


def test_part_3_working_with_remotes(tmp_path, capsys, printed):
    generator = np.random.default_rng(0)
    test_games = generator.integers(0, 256, (300, 117), np.uint8)
    train_games = generator.integers(0, 256, (900, 117), np.uint16)
    server = f"file://{tmp_path}/server"

    repo = started(tmp_path / "intro", capsys, "Rick", "rick@example.org")
    co = repo.checkout(write=True)
    fill_with_games(co, "test", test_games)
    base = co.commit("test data")
    repo.create_branch("add-train")
    co.close()
    assert printed(repo.log) == [f"* {base} (add-train) (master) : test data"]
    co = repo.checkout(write=True, branch="add-train")
    fill_with_games(co, "train", train_games)
    trained = co.commit("training data on another branch")
    co.close()
    co = repo.checkout(write=True, branch="master")
    co.metadata["earaea"] = "eara"
    head = co.commit("more changes")
    co.close()
    assert printed(repo.log) == [f"* {head} (master) : more changes", f"* {base} : test data"]

    assert repr(repo.remote.add("origin", server)) == f"RemoteInfo(name='origin', address='{server}')"
    assert repo.remote.push("origin", "master") == "master"
    assert repo.remote.push("origin", "add-train") == "add-train"

    with pytest.warns(UserWarning, match="No repository exists"):
        clone = Repository(str(tmp_path / "dota-clone"))
    assert clone.clone("Rick", "rick@example.org", server, remove_old=True) == "master"
    assert printed(clone.log) == [f"* {head} (master) (origin/master) : more changes", f"* {base} : test data"]
    assert clone.list_branches() == ["master", "origin/master"]
    assert clone.remote.fetch("origin", "add-train") == "origin/add-train"
    assert clone.list_branches() == ["master", "origin/add-train", "origin/master"]
    assert [line.split()[1] for line in printed(clone.log, branch="origin/add-train")] == [trained, base]
    assert clone.create_branch("add-train", trained) == ("add-train", trained)
    assert clone.list_branches() == ["add-train", "master", "origin/add-train", "origin/master"]
    assert printed(clone.log, branch="add-train")[0].startswith(f"* {trained} (add-train) (origin/add-train) : ")

    co = clone.checkout(branch="master")
    assert (
        repr(co) == f"Hangar ReaderCheckout\n    Writer       : False\n    Commit Hash  : {head}\n    Num Columns  : 1"
    )
    assert shown_columns(co.columns) == ["- test / True"]
    shown = column_facts(co.columns["test"])
    assert (shown["Number of Samples"], shown["Partial Remote Data Refs"]) == ("300", "True")
    test_key = next(co.columns["test"].keys())
    offline = Repository(str(tmp_path / "dota-clone"), offline=True)
    with pytest.warns(UserWarning, match=r"columns: test.*fetch_data"):
        without_network = offline.checkout(branch="master")
    with pytest.raises(FileNotFoundError, match="column 'test'.*fetch_data") as caught:
        without_network.columns["test"][test_key]
    assert type(caught.value) is DataNotLocalError
    assert clone.remote.fetch_data("origin", branch="master") == [head]
    for repository in (clone, Repository(str(tmp_path / "dota-clone"), offline=True)):
        co = repository.checkout(branch="master")
        assert shown_columns(co.columns) == ["- test / False"]
        assert column_facts(co.columns["test"])["Partial Remote Data Refs"] == "False"
        assert same(co["test", test_key], test_games[0])
        co.close()

    co = clone.checkout(branch="add-train")
    assert (len(co.columns), co.commit_hash) == (2, trained)
    assert shown_columns(co.columns) == ["- test / False", "- train / True"]
    assert same(co["test", test_key], test_games[0])
    co.close()
    assert printed(clone.merge, "merge commit here", "master", "add-train") == ["Selected 3-Way Merge Strategy"]
    lines = printed(clone.log)
    merged = lines[0].split()[1]
    assert lines == [
        f"* {merged} (master) : merge commit here",
        "|\\",
        f"* | {head} (origin/master) : more changes",
        f"| * {trained} (add-train) (origin/add-train) : training data on another branch",
        "|/",
        f"* {base} : test data",
    ]
    summary = printed(clone.summary)
    assert "|  Number of Named Columns: 2" in summary
    assert [line for line in summary if "Num Data Pieces" in line] == [
        *("|    Num Data Pieces: 300", "|    Num Data Pieces: 900")
    ]
    assert clone.remote.push("origin", "master") == "master"

    assert printed(repo.log)[0] == f"* {head} (master) (origin/master) : more changes"
    assert repo.remote.fetch("origin", "master") == "origin/master"
    assert printed(repo.log, "origin/master")[0] == f"* {merged} (origin/master) : merge commit here"
    assert printed(repo.merge, "ff-merge", "master", "origin/master") == ["Selected Fast-Forward Merge Strategy"]
    assert printed(repo.log)[0] == f"* {merged} (master) (origin/master) : merge commit here"
    assert f"|  Commit: {merged}" in printed(repo.summary)
    co = repo.checkout()
    assert same(next(co["train"].values()), train_games[0])
    assert co.metadata["earaea"] == "eara"
    co.close()
