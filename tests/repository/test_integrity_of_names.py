"""Integrity of names: the repository's file, branches, commits, the hint."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
from blake3 import blake3

from hangar_cloud import Repository
from hangar_cloud.catalog.commits import commit_path
from hangar_cloud.catalog.hint import HINT_PATH
from hangar_cloud.catalog.pointers import Pointer, pointer_path
from hangar_cloud.catalog.sealed_json import _checksum, _halves, canonical, seal, unseal
from hangar_cloud.errors import NotInitializedError, UnsupportedFormatError
from tests.repository.forging import damage, extents_of, flip, kinds, store_files


def reseal(repository, path, **changes):
    """Change members of sealed JSON, with the right checksum."""
    store = repository._storage.store
    data = unseal(store.get(path), path)
    store.put(path, seal({**data, **changes}))


def test_a_missing_parent_names_its_child(healthy):
    second, first = healthy.log(return_contents=True)["order"]
    os.unlink(healthy._storage.store.local_path(commit_path(first)))
    (finding,) = damage(healthy)
    assert (finding.kind, finding.commit) == ("missing", first)
    assert second[:12] in finding.message


def test_a_commit_whose_contents_were_changed_with_the_checksum(healthy):
    head = healthy.log(return_contents=True)["head"]
    commit = healthy._storage.commit(head)
    healthy._storage.store.put(commit_path(head), dataclasses.replace(commit, message="another").encode())
    assert [(f.kind, f.commit) for f in damage(healthy)] == [("damaged", head)]


def test_a_commit_of_a_later_format_is_not_called_damaged(healthy):
    head = healthy.log(return_contents=True)["head"]
    data = json.loads(healthy._storage.store.get(commit_path(head)))
    del data["checksum"]
    data["format"] = 2
    text = canonical({**data, "checksum": _checksum(_halves(data))}) + b"\n"
    healthy._storage.store.put(commit_path(head), text)
    assert kinds(healthy) == {"unsupported"}


def test_a_root_that_lies_elsewhere_than_its_commit_says(healthy):
    """Places are not hashed, so only reading what is there can tell."""
    head = healthy.log(return_contents=True)["head"]
    path = commit_path(head)
    places = unseal(healthy._storage.store.get(path), path)["places"]
    for change in ({"offset": 1}, {"length": 2**50}, {"object": "00" * 16}, {"checksum": "0" * 16}, {"first": "0100"}):
        wrong = {**places, "labels": {**places["labels"], **change}}
        reseal(healthy, path, places=wrong)
        findings = damage(healthy)
        assert {finding.column for finding in findings} == {"labels"}, change
        reseal(healthy, path, places=places)
    assert healthy.fsck() == []


def test_a_gap_in_a_log(healthy):
    store = healthy._storage.store
    os.unlink(store.local_path(pointer_path("master", 1)))
    (finding,) = damage(healthy)
    assert (finding.kind, finding.object) == ("pointer", pointer_path("master", 1))
    assert "gap" in finding.message


def test_a_damaged_head_does_not_hide_what_is_behind_it(healthy, packs):
    flip(store_files(healthy, "refs/heads/master/0000000002.json")[0], 30)
    flip(next(pack for pack in packs if len(extents_of(pack)) == 1), 50)
    assert {finding.object.partition("/")[0] for finding in damage(healthy)} == {"refs", "packs"}


@pytest.mark.parametrize(
    "entry",
    [
        Pointer("master", 3, None, "commit", "", "", ""),
        Pointer("master", 3, "00" * 32, "explode", "", "", ""),
        Pointer("master", 3, "0", "commit", "", "", ""),
        Pointer("master", 3, "00" * 32, "delete", "", "", ""),
    ],
)
def test_a_pointer_that_says_what_none_may_say(healthy, entry):
    healthy._storage.store.put(pointer_path("master", 3), entry.encode())
    assert kinds(healthy) == {"pointer"}


def test_a_pointer_to_a_commit_that_is_not_there(healthy):
    healthy._storage.store.put(pointer_path("x", 0), Pointer("x", 0, "ab" * 32, "create", "", "", "").encode())
    (finding,) = damage(healthy)
    assert (finding.kind, finding.object) == ("missing", commit_path("ab" * 32))


@pytest.mark.parametrize(
    "hint",
    [b"", b"{", b"\xff", seal({"branches": 3}), seal({"branches": {"gone": 1}}), seal({"branches": {"master": 99}})],
)
def test_a_bad_hint_is_a_note(healthy, hint, capsys):
    healthy._storage.store.put(HINT_PATH, hint)
    (finding,) = healthy.fsck()
    assert finding.kind == "hint"
    assert not finding.is_damage
    assert healthy.verify_repo_integrity() is True
    assert capsys.readouterr().out.startswith("note: ")


def test_a_damaged_repository_file(healthy):
    flip(store_files(healthy, "hangar.json")[0], 20)
    assert [(f.kind, f.object) for f in damage(healthy)] == [("damaged", "hangar.json")]


def test_a_damaged_remote_tracking_branch(healthy, tmp_path):
    healthy.remote.add("origin", (tmp_path / "bucket").as_uri())
    healthy.remote.push("origin", "master")
    assert healthy.fsck() == []
    tracking = tmp_path / "repository/.hangar/remotes/origin/master.json"
    flip(tracking, 20)
    (finding,) = damage(healthy)
    assert finding.object == str(tracking)


def test_a_repository_file_that_is_gone(healthy):
    store_files(healthy, "hangar.json")[0].unlink()
    assert [(f.kind, f.object) for f in damage(healthy)] == [("missing", "hangar.json")]
    with pytest.raises(NotInitializedError, match=r"hangar\.json is gone.*copy it from a clone"):
        Repository(healthy.path, exists=False).fsck()


def newer(text):
    """Sealed JSON of a later format."""
    data = json.loads(text)
    del data["checksum"]
    data["format"] = 2
    return canonical({**data, "checksum": _checksum(_halves(data))}) + b"\n"


def test_a_repository_of_a_later_format_is_not_called_damaged(healthy):
    (path,) = store_files(healthy, "hangar.json")
    path.write_bytes(newer(path.read_bytes()))
    assert [(f.kind, f.object) for f in damage(healthy)] == [("unsupported", "hangar.json")]
    with pytest.raises(UnsupportedFormatError, match="format version 2.*Upgrade"):
        Repository(healthy.path)


def test_a_pointer_of_a_later_format_is_not_called_damaged(healthy):
    store = healthy._storage.store
    store.put(pointer_path("master", 2), newer(store.get(pointer_path("master", 2))))
    assert [(f.kind, f.object) for f in damage(healthy)] == [("unsupported", pointer_path("master", 2))]


@pytest.mark.parametrize(("branch", "seq"), [("other", 3), ("master", 2)])
def test_an_entry_of_another_place_in_another_log(healthy, branch, seq):
    head = healthy.log(return_contents=True)["head"]
    entry = Pointer(branch, seq, head, "commit", "2020-01-01T00:00:00.000000+00:00", "A", "0" * 32)
    healthy._storage.store.put(pointer_path("master", 3), entry.encode())
    assert [(f.kind, f.object) for f in damage(healthy)] == [("damaged", pointer_path("master", 3))]


def forge_commit(repository, change):
    """Put the head's commit, changed and with every digest and checksum right, on the branch."""
    store, pointers = repository._storage.store, repository._storage.pointers()
    data = unseal(store.get(commit_path(repository.log(return_contents=True)["head"])), "commit")
    change(data["commit"])
    digest = blake3(canonical(data["commit"])).hexdigest()
    store.put(commit_path(digest), seal({"commit": data["commit"], "places": data["places"]}))
    pointers.move("master", pointers.head("master"), digest, "commit")
    return digest


@pytest.mark.parametrize("parent", ["", "0", "../../x", "A" * 64])
def test_a_parent_that_is_no_digest(healthy, parent):
    digest = forge_commit(healthy, lambda commit: commit.update(parents=[parent], metadata=None))
    (finding,) = damage(healthy)
    assert (finding.kind, finding.commit, finding.object) == ("damaged", digest, commit_path(digest))
    assert repr(parent) in finding.message


def test_a_parent_that_is_another_kind_of_object(healthy):
    """The digest of a node instead of a commit's."""
    root = healthy._storage.commit(healthy.log(return_contents=True)["head"]).columns["labels"].root
    forge_commit(healthy, lambda commit: commit.update(parents=[root.digest.hex()], metadata=None))
    assert [(f.kind, f.object) for f in damage(healthy)] == [("missing", commit_path(root.digest.hex()))]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"dtype": "<f3"}, "unsupported"),
        ({"dtype": "|O"}, "unsupported"),
        ({"column_type": "video"}, "unsupported"),
        ({"column_layout": "heap"}, "unsupported"),
        ({"schema_type": "odd_shape"}, "damaged"),
        ({"shape": [0]}, "damaged"),
        ({"shape": [-3]}, "damaged"),
        ({"shape": [2**70]}, "damaged"),
        ({"shape": None}, "damaged"),
    ],
)
def test_a_schema_that_none_may_be(healthy, change, kind):
    def spoil(commit):
        commit["columns"]["shared"]["schema"].update(change)
        commit["metadata"] = None

    digest = forge_commit(healthy, spoil)
    assert [(finding.kind, finding.commit) for finding in damage(healthy)] == [(kind, digest)]


@pytest.mark.parametrize(
    ("change", "kind"), [({"count": 7}, "tree"), ({"level": 1}, "damaged"), ({"root": "ab" * 32}, "digest")]
)
def test_a_column_entry_that_does_not_match_its_tree(healthy, change, kind):
    def spoil(commit):
        commit["columns"]["labels"].update(change)
        commit["metadata"] = None

    digest = forge_commit(healthy, spoil)
    (finding,) = damage(healthy)
    assert (finding.kind, finding.column, finding.commit) == (kind, "labels", digest)


def test_a_schema_of_another_type_than_its_rows(healthy):
    def spoil(commit):
        commit["columns"]["shared"]["schema"]["dtype"] = "|i1"
        commit["metadata"] = None

    forge_commit(healthy, spoil)
    found = damage(healthy)
    assert {(f.kind, f.column) for f in found} == {("digest", "shared")}
    assert {f.key for f in found} == set(range(30)), "the type is a part of what a sample's digest is made of"
