"""Tags: names for commits that stay, usable wherever a commit is, and shared with clones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import CorruptDataError, HangarError, RefExistsError, RefNotFoundError
from tests.repository.making import add_commit, files_of, make_repository

SAMPLE = np.arange(3, dtype=np.float32)


@pytest.fixture
def two(tmp_path):
    """A repository with two commits on master, and their digests."""
    repository = make_repository(tmp_path / "two")
    return repository, [add_commit(repository, {n: SAMPLE + n}) for n in range(2)]


def test_a_tag_stays_where_it_is(two):
    repository, (first, second) = two
    tag = repository.create_tag("v1.0", message="as published")
    assert (tag.name, tag.digest, tag.message) == ("v1.0", second, "as published")
    assert "Test User" in tag.author
    add_commit(repository, {9: SAMPLE})
    assert repository.create_tag("first", first[:8]).digest == first
    assert [(each.name, each.digest) for each in Repository(repository.path).list_tags()] == [
        ("first", first),
        ("v1.0", second),
    ]


def test_a_tag_can_be_given_wherever_a_commit_can(two):
    repository, (first, second) = two
    repository.create_tag("start", first)
    repository.create_tag("again", "start")
    assert repository.checkout(commit="start").commit_hash == first
    assert repository.create_branch("old", "again").digest == first
    assert repository.diff("start", "master").diff.added.samples == repository.diff(first, second).diff.added.samples
    assert repository.log(commit="start", return_contents=True)["order"] == [first]
    assert repository.reset_branch("master", "start").digest == first
    assert repository.merge("forward", "master", second[:10]) == second
    writer = repository.checkout(write=True, branch="old")
    repository_tag = repository.create_tag("newest", "master")
    assert writer.merge("to the tag", "newest") == repository_tag.digest == second
    writer.close()


def test_a_summary_of_a_tag(two, capsys):
    repository, (first, _) = two
    repository.create_tag("start", first)
    capsys.readouterr()
    repository.summary(commit="start")
    assert first in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "..", None, 7, "abcd", "0123456789", "f" * 64], ids=repr)
def test_names_that_may_not_be_a_tag(two, name):
    repository, _ = two
    before = files_of(repository.path)
    with pytest.raises(ValueError, match=r"tag name .* is not suitable") as caught:
        repository.create_tag(name)
    assert isinstance(caught.value, HangarError)
    assert files_of(repository.path) == before


def test_a_tag_does_not_move(two):
    repository, (first, second) = two
    repository.create_tag("v1", first)
    with pytest.raises(RefExistsError, match=f"there is a tag 'v1' already, at {first[:12]}"):
        repository.create_tag("v1", second)
    assert repository.list_tags()[0].digest == first


def test_a_deleted_tag_is_gone_and_its_name_free(two):
    repository, (first, second) = two
    repository.create_tag("v1", first)
    assert repository.delete_tag("v1").digest == first
    assert repository.list_tags() == []
    with pytest.raises(RefNotFoundError, match="'v1' is no tag and not a commit digest"):
        repository.checkout(commit="v1")
    with pytest.raises(RefNotFoundError, match="there is no tag 'v1' in .*; there is: none"):
        repository.delete_tag("v1")
    assert repository.create_tag("v1", second).digest == second


def test_what_is_refused(two, tmp_path):
    repository, _ = two
    with pytest.raises(RefNotFoundError, match="there is no branch 'nowhere'"):
        repository.create_tag("v1", "nowhere")
    with pytest.raises(ValueError, match="the message must be text"):
        repository.create_tag("v1", message=b"no")
    with pytest.raises(RefNotFoundError, match="nothing is committed on branch 'master' yet"):
        make_repository(tmp_path / "new").create_tag("v1")
    with pytest.raises(RuntimeError, match="there is no Hangar repository"):
        Repository(tmp_path / "none", exists=False).list_tags()
    assert repository.list_tags() == []


def test_a_tags_pointer_is_no_branchs(two):
    repository, _ = two
    repository.create_tag("v1")
    tag = next(path for path in files_of(repository.path) if "/tags/" in path)
    place = Path(repository.path) / tag.replace("/tags/", "/heads/")
    place.parent.mkdir()
    place.write_bytes((Path(repository.path) / tag).read_bytes())
    with pytest.raises(CorruptDataError, match="pointer 0 of branch 'v1' is damaged: it does not belong to a branch"):
        Repository(repository.path).checkout(branch="v1")


def test_tags_go_to_a_bucket_and_come_with_a_clone(two, tmp_path, s3_url, s3_options):
    repository, (first, second) = two
    repository.remote.add("origin", s3_url, storage_options=s3_options)
    side = repository.create_branch("side", first).digest
    assert side == first
    only_tagged = add_commit(repository, {50: SAMPLE}, branch="side")
    repository.create_tag("release", only_tagged, "on a branch that is never pushed")
    repository.remote.push("origin", "master")
    bucket = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    assert bucket.list_tags() == []
    assert repository.remote.push_tag("origin", "release") == "release"
    assert repository.remote.push_tag("origin", "release") == "release"
    assert [tag.digest for tag in bucket.list_tags()] == [only_tagged]
    assert bucket.list_tags()[0].message == "on a branch that is never pushed"
    assert np.array_equal(bucket.checkout(commit="release")["array", 50], SAMPLE)

    clone = Repository(tmp_path / "clone", exists=False, storage_options=s3_options)
    clone.clone("a", "a@b.c", s3_url)
    assert [tag.name for tag in clone.list_tags()] == ["release"]
    assert np.array_equal(clone.checkout(commit="release")["array", 50], SAMPLE)

    bucket.create_tag("later", second)
    assert clone.remote.fetch("origin", "master") == "origin/master"
    assert [tag.name for tag in clone.list_tags()] == ["later", "release"]
    with pytest.warns(UserWarning, match="up to date; nothing to fetch"):
        clone.remote.fetch("origin", "master")
    clone.create_tag("mine", first)
    bucket.create_tag("mine", second)
    with pytest.raises(RefExistsError, match=f"has a tag 'mine' at {second[:12]}, and here it is at {first[:12]}"):
        clone.remote.push_tag("origin", "mine")
    with pytest.raises(RefNotFoundError, match="there is no tag 'none'"):
        clone.remote.push_tag("origin", "none")


def test_tags_of_an_offline_bucket_are_not_known(two, tmp_path, s3_url, s3_options):
    repository, (_, second) = two
    repository.remote.add("origin", s3_url, storage_options=s3_options)
    repository.remote.push("origin", "master")
    options = {"storage_options": s3_options, "cache_dir": tmp_path / "cache"}
    Repository(s3_url, **options).checkout().close()
    offline = Repository(s3_url, offline=True, **options)
    with pytest.warns(UserWarning, match="not all data"):
        assert offline.checkout(commit=second).commit_hash == second
    with pytest.raises(FileNotFoundError, match="tags of .* are not kept on this machine"):
        offline.list_tags()
