"""Repository: making, opening, checking out, the writer lock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hangar_cloud
from hangar_cloud import Repository
from hangar_cloud.errors import (
    HangarError,
    InvalidArgumentError,
    NotInitializedError,
    RefNotFoundError,
    RepositoryExistsError,
    UnsupportedStoreError,
)
from tests.repository.making import (
    add_commit,
    files_of,
    read_all,
)


def test_a_path_without_a_repository_warns(tmp_path):
    with pytest.warns(UserWarning, match=r"No repository exists at .*init"):
        repository = Repository(tmp_path)
    assert repository.initialized is False
    assert not list(tmp_path.iterdir()), "looking writes nothing"


def test_a_path_without_a_repository_is_silent_if_asked(tmp_path):
    assert Repository(tmp_path, exists=False).initialized is False


@pytest.mark.parametrize(
    "use",
    [
        lambda r: r.checkout(),
        lambda r: r.checkout(write=True),
        lambda r: r.create_branch("b"),
        lambda r: r.remove_branch("b"),
        lambda r: r.list_branches(),
        lambda r: r.log(),
        lambda r: r.summary(),
        lambda r: r.force_release_writer_lock(),
        lambda r: r.remote,
        lambda r: r.path,
        lambda r: r.version,
        lambda r: r.size_nbytes,
        lambda r: r.size_human,
        lambda r: r.writer_lock_held,
        repr,
    ],
)
def test_before_init_everything_is_refused(tmp_path, use):
    repository = Repository(tmp_path, exists=False)
    with pytest.raises(RuntimeError, match=rf"no Hangar repository at {tmp_path}.*init") as caught:
        use(repository)
    assert type(caught.value) is NotInitializedError
    assert not list(tmp_path.iterdir())


def test_after_init(tmp_path, capsys):
    repository = Repository(tmp_path, exists=False)
    where = repository.init("Jane Doe", "jane@example.org")
    assert where == str(tmp_path / ".hangar")
    assert where in capsys.readouterr().out
    assert repository.initialized is True
    assert repository.list_branches() == ["master"]
    assert repository.path == str(tmp_path)
    assert repository.version == hangar_cloud.__version__
    assert repository.log(return_contents=True) is None
    repository.summary()
    assert "No commits have been made" in capsys.readouterr().out
    assert repository.writer_lock_held is False
    assert Repository(tmp_path).list_branches() == ["master"]


def test_size_is_that_of_the_files(committed):
    expected = sum(len(data) for data in files_of(committed.path).values())
    assert committed.size_nbytes == pytest.approx(expected, rel=0.05)
    assert committed.size_human.endswith(("B", "kB", "MB"))


def test_init_again_is_refused_and_changes_nothing(committed):
    before = files_of(committed.path)
    with pytest.raises(FileExistsError, match=r"already.*remove_old=True") as caught:
        committed.init("Other", "other@example.org")
    assert type(caught.value) is RepositoryExistsError
    assert files_of(committed.path) == before


def test_init_with_remove_old_starts_anew(committed):
    committed.init("Other", "other@example.org", remove_old=True)
    assert committed.list_branches() == ["master"]
    with pytest.raises(ValueError, match="nothing is committed"):
        committed.checkout()
    add_commit(committed, {0: np.full(300, 5, np.float32)})
    assert list(read_all(committed)) == ["array"]
    assert read_all(committed)["array"][0][0] == 5


def test_init_with_remove_old_is_refused_while_a_writer_is_open(committed):
    writer = committed.checkout(write=True)
    with pytest.raises(FileExistsError, match="open writer"):
        committed.init("Other", "other@example.org", remove_old=True)
    assert len(writer["array"]) == 10
    writer.close()


@pytest.mark.parametrize(("name", "email"), [("", "x"), ("x", " "), (None, "x"), ("x", 5), ("\ud800", "x")])
def test_init_wants_a_name_and_an_email(tmp_path, name, email):
    with pytest.raises(ValueError, match="must be text"):
        Repository(tmp_path, exists=False).init(name, email)
    assert not list(tmp_path.iterdir())


def test_init_keeps_any_printable_name(tmp_path):
    name, email = 'Zoë "the\\cat"\n[remotes.x]\t\x7f\x01 😀', "a=b#c"
    repository = Repository(tmp_path, exists=False)
    repository.init(name, email)
    add_commit(repository, {0: np.zeros(1)})
    (spec,) = Repository(tmp_path).log(return_contents=True)["specs"].values()
    assert (spec["commit_user"], spec["commit_email"]) == (name, email)


@pytest.mark.parametrize(
    "path", [b"bytes", 5, None, "", "a\0b", "~no-such-user-anywhere/x", "/tmp/" + "x" * 5000, "\ud800"], ids=repr
)
def test_paths_that_cannot_be_one(path):
    with pytest.raises(ValueError, match="path") as caught:
        Repository(path, exists=False)
    assert isinstance(caught.value, HangarError)


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidArgumentError, match="needs a folder"):
        Repository(tmp_path / "file", exists=False)
    with pytest.raises(HangarError):
        Repository(tmp_path / "file" / "below", exists=False).init("a", "b")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    "url", ["zz://bucket/x", "s4://bucket", "file://host/folder", "s3://", "simplecache::s3://b-b/x"]
)
def test_urls_that_cannot_be_opened(url):
    with pytest.raises(UnsupportedStoreError):
        Repository(url, exists=False)


def test_a_url_that_went_through_pathlib_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="lost a slash.*give URLs as str"):
        Repository(Path("s3://bucket/x"), exists=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"cache_size": 0}, {"cache_size": "5"}, {"storage_options": "key"}])
def test_options_that_cannot_be_meant(tmp_path, options):
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        Repository(tmp_path, exists=False, **options)


REFUSED = [
    ({"write": 1}, ValueError, "True or False"),
    ({"write": None}, ValueError, "True or False"),
    ({"write": "yes"}, ValueError, "True or False"),
    ({"branch": "nope"}, ValueError, "no branch 'nope'; there is: master"),
    ({"branch": 5}, ValueError, "no branch 5"),
    ({"branch": "origin/nope"}, ValueError, "no branch 'origin/nope'"),
    ({"commit": "abcdef"}, ValueError, "no commit 'abcdef'"),
    ({"commit": "f" * 64}, ValueError, "no commit"),
    ({"commit": "xyz"}, ValueError, "not a commit digest: give a tag, 4 to 64"),
    ({"commit": 5}, ValueError, "not a commit digest"),
    ({"write": True, "commit": "abcdef"}, ValueError, "cannot be written to"),
    ({"write": True, "branch": "nope"}, ValueError, "no branch 'nope'"),
    ({"write": True, "branch": "origin/master"}, ValueError, "no branch"),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), REFUSED)
def test_refused_checkouts_leave_the_lock_free(committed, arguments, kind, words):
    before = files_of(committed.path)
    with pytest.raises(kind, match=words) as caught:
        committed.checkout(**arguments)
    assert isinstance(caught.value, HangarError)
    assert committed.writer_lock_held is False
    after = files_of(committed.path)
    assert {path: data for path, data in after.items() if path in before} == before
    committed.checkout(write=True).close()


def test_reading_before_the_first_commit_is_refused(empty):
    with pytest.raises(ValueError, match=r"nothing is committed on branch 'master' yet.*write=True") as caught:
        empty.checkout()
    assert type(caught.value) is RefNotFoundError
    assert empty.writer_lock_held is False
