"""Repository: making, opening, checking out, the writer lock."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import hangar_cloud
from hangar_cloud import Repository
from hangar_cloud.errors import (
    ClosedError,
    DirtyStagingError,
    HangarError,
    InvalidArgumentError,
    NotInitializedError,
    RefNotFoundError,
    RepositoryExistsError,
    UnsupportedStoreError,
    WriterLockError,
)
from tests.repository.making import add_commit, files_of, finish, make_repository, read_all, start_process, wait_for_line


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


@pytest.mark.parametrize("url", ["zz://bucket/x", "s4://bucket", "file://host/folder", "s3://", "simplecache::s3://b-b/x"])
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
    ({"commit": "xyz"}, ValueError, "not a commit digest: give 4 to 64"),
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


def test_a_second_writer_is_refused(committed):
    first = committed.checkout(write=True)
    for repository in (committed, Repository(committed.path)):
        with pytest.raises(PermissionError, match=r"lock.*is held.*Close the other one") as caught:
            repository.checkout(write=True)
        assert type(caught.value) is WriterLockError
        assert repository.writer_lock_held is True
    first["array", 0] = np.ones(3, np.float32)
    first.close()
    assert committed.writer_lock_held is False


def test_a_second_writer_in_another_process_is_refused(committed):
    script = """
        import sys
        from hangar_cloud import Repository
        writer = Repository(sys.argv[1]).checkout(write=True)
        print("open", flush=True)
        sys.stdin.readline()
        writer.close()
    """
    process = start_process(script, committed.path)
    assert wait_for_line(process) == "open"
    assert committed.writer_lock_held is True
    with pytest.raises(PermissionError, match="is held"):
        committed.checkout(write=True)
    finish(process, "\n")
    assert committed.writer_lock_held is False
    committed.checkout(write=True).close()


def test_force_release(committed):
    old = committed.checkout(write=True)
    old["array", "staged"] = np.ones(3, np.float32)
    with pytest.warns(ResourceWarning, match="released by force"):
        assert committed.force_release_writer_lock() is True
    assert committed.writer_lock_held is False
    uses = [
        lambda: old["array"],
        lambda: repr(old),
        lambda: old.commit("x"),
        lambda: old.__setitem__(("array", 1), np.ones(3, np.float32)),
        old.close,
    ]
    for use in uses:
        with pytest.raises(PermissionError, match="lock was released.*open a new checkout"):
            use()
    new = committed.checkout(write=True)
    assert new["array", "staged"][0] == 1, "what was staged is there for the next one"
    new["array", "more"] = np.ones(3, np.float32)
    new.commit("both")
    new.close()
    assert len(read_all(committed)["array"]) == 12


def test_force_release_while_another_process_holds_the_lock(committed):
    script = """
        import sys
        import numpy as np
        from hangar_cloud import Repository
        writer = Repository(sys.argv[1]).checkout(write=True)
        writer["array", "theirs"] = np.ones(3, np.float32)
        writer["blob", "theirs"] = bytes(1000)
        print("open", flush=True)
        sys.stdin.readline()
        for use in (lambda: writer["array"].update({1: np.ones(3, np.float32)}), lambda: writer.commit("x"), writer.close):
            try:
                use()
            except PermissionError:
                print("refused")
    """
    process = start_process(script, committed.path)
    wait_for_line(process)
    with pytest.warns(ResourceWarning):
        committed.force_release_writer_lock()
    new = committed.checkout(write=True)
    assert new["array", "theirs"][0] == 1
    new["array", "ours"] = np.zeros(3, np.float32)
    assert finish(process, "\n").split() == ["refused"] * 3
    new.commit("both")
    new.close()
    assert {"ours", "theirs"} <= set(read_all(Repository(committed.path))["array"])
    assert read_all(committed)["blob"]["theirs"] == bytes(1000)


def test_force_release_without_a_writer(committed):
    for _ in range(3):
        with pytest.warns(ResourceWarning):
            committed.force_release_writer_lock()
    add_commit(committed, {99: np.ones(3, np.float32)})


def test_staged_changes_survive_close(committed):
    writer = committed.checkout(write=True)
    writer["array", 0] = np.full(3, 99, np.float32)
    del writer["text"][1]
    writer.add_str_column("fresh")["k"] = "value"
    writer.close()
    assert read_all(committed)["array"][0][0] == 0, "readers see commits only"
    writer = Repository(committed.path).checkout(write=True)
    assert writer["array", 0][0] == 99
    assert 1 not in writer["text"]
    assert writer["fresh", "k"] == "value"
    writer.commit("later")
    writer.close()
    assert read_all(committed)["fresh"] == {"k": "value"}


def test_another_branch_is_refused_while_changes_are_staged(committed):
    committed.create_branch("other")
    writer = committed.checkout(write=True)
    writer["array", 0] = np.full(3, 99, np.float32)
    writer.close()
    with pytest.raises(ValueError, match=r"uncommitted changes on branch 'master'.*reset_staging_area.*'other'") as caught:
        committed.checkout(write=True, branch="other")
    assert type(caught.value) is DirtyStagingError
    assert committed.writer_lock_held is False
    writer = committed.checkout(write=True, branch="master")
    assert writer["array", 0][0] == 99
    writer.reset_staging_area()
    committed.checkout(write=True, branch="other").close()


def test_checkout_by_branch_commit_and_short_digest(committed):
    first = committed.checkout().commit_hash
    second = add_commit(committed, {100: np.zeros(3, np.float32)})
    committed.create_branch("old", first)
    assert committed.checkout().commit_hash == second
    assert committed.checkout(branch="old").commit_hash == first
    assert committed.checkout(commit=first).commit_hash == first
    assert committed.checkout(commit=first[:8]).commit_hash == first
    assert committed.checkout(branch="old", commit=second[:4]).commit_hash == second, "commit goes before branch"
    assert len(committed.checkout(commit=first)["array"]) == 10


def test_a_repository_pickles(committed):
    again = pickle.loads(pickle.dumps(committed))
    assert again.list_branches() == ["master"]
    assert len(again.checkout()["array"]) == 10


def test_reprs(committed):
    assert "Repository Path" in repr(committed)
    assert "Writer-Lock Free : True" in repr(committed)
    writer = committed.checkout(write=True)
    assert "Writer-Lock Free : False" in repr(committed)
    assert "Base Branch  : master" in repr(writer)
    assert "Num Columns  : 3" in repr(writer)
    assert "Writeable         : True" in repr(writer.columns)
    assert "array" in repr(writer["array"])
    assert "Column Name              : array" in str(writer["array"])
    reader = committed.checkout()
    assert reader.commit_hash in repr(reader)
    assert "array / False" in repr(reader.columns)
    assert "Number of Samples        : 10" in str(reader["array"])
    assert "none" in repr(committed.remote)
    writer.close()


def test_log_and_summary(committed, capsys):
    first = committed.checkout().commit_hash
    second = add_commit(committed, {100: np.zeros(3, np.float32)})
    contents = committed.log(return_contents=True)
    assert contents["head"] == second
    assert contents["order"] == [second, first]
    assert contents["ancestors"] == {second: [first], first: []}
    assert contents["specs"][first]["commit_message"] == "ten samples"
    assert contents["branch_heads"] == {second: ["master"]}
    assert committed.checkout().log(return_contents=True) == contents
    writer = committed.checkout(write=True)
    assert writer.log(return_contents=True) == contents
    writer.close()
    capsys.readouterr()
    committed.log(show_time=True, show_user=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"* {second} (master)")
    assert "Test User" in printed[0]
    assert printed[1].startswith(f"* {first}")
    committed.summary()
    text = capsys.readouterr().out
    assert all(part in text for part in (second, "array", "float32", "Num Data Pieces: 11"))
    for use in (committed.log, committed.summary):
        with pytest.raises(ValueError, match="no branch 'nope'"):
            use(branch="nope")


def test_a_forgotten_writer_is_closed_at_exit_with_what_it_wrote(committed):
    script = """
        import sys
        import numpy as np
        from hangar_cloud import Repository
        writer = Repository(sys.argv[1]).checkout(write=True)
        column = writer["array"].__enter__()
        column["forgotten"] = np.ones(3, np.float32)
    """
    finish(start_process(script, committed.path))
    writer = committed.checkout(write=True)
    assert writer["array", "forgotten"][0] == 1
    writer.close()


def test_a_forked_child_cannot_use_or_close_the_writer(committed):
    writer = committed.checkout(write=True)
    with writer["array"] as column:
        column["parent"] = np.ones(3, np.float32)
        child = os.fork()
        if child == 0:
            try:
                column["child"] = np.ones(3, np.float32)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert committed.writer_lock_held is True
    writer.commit("parent's")
    writer.close()
    keys = set(read_all(committed)["array"])
    assert "parent" in keys
    assert "child" not in keys


def test_two_repositories_do_not_mix(tmp_path):
    one, two = make_repository(tmp_path / "one"), make_repository(tmp_path / "two")
    add_commit(one, {0: np.zeros(3)})
    add_commit(two, {0: np.ones(3)})
    assert read_all(one)["array"][0][0] == 0
    assert read_all(two)["array"][0][0] == 1
    with pytest.raises(ClosedError):
        checkout = one.checkout()
        checkout.close()
        checkout.close()
