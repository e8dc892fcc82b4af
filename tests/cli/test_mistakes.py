"""What people get wrong ends in one line that says what to do, and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import cli, main
from tests.cli.running import invoke

WHO = ("--name", "Ben", "--email", "ben@example.org")


def complaint(command, *arguments, obj=None, code=1):
    result = invoke(command, *arguments, obj=obj, code=code)
    assert result.stdout == ""
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    return error


ON_A_REPOSITORY = [
    ["checkout", "master"],
    ["branch", "list"],
    ["branch", "create", "x"],
    ["branch", "delete", "x"],
    ["column", "create", "x", "STR"],
    ["column", "remove", "x"],
    ["commit", "-m", "x"],
    ["status"],
    ["log"],
    ["summary"],
    ["remote", "list"],
    ["remote", "add", "origin", "x"],
    ["remote", "remove", "origin"],
    ["remote", "ping", "origin"],
    ["push", "origin", "master"],
    ["fetch", "origin", "master"],
    ["fetch-data", "origin", "master"],
    ["writer-lock"],
]


@pytest.mark.parametrize("arguments", ON_A_REPOSITORY, ids=" ".join)
def test_no_repository(place, arguments):
    said = complaint(main, *arguments)
    assert f"no Hangar repository at {place}" in said
    assert "`hangar init`" in said
    assert list(place.iterdir()) == []


def test_no_repository_in_a_bucket(place):
    assert "no Hangar repository at memory://empty" in complaint(main, "-C", "memory://empty", "log")


def test_a_folder_below_the_repository(repo, place, monkeypatch):
    (place / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(place / "deep" / "er")
    assert f"There is one in {place}: go there, or use `hangar -C {place}`" in complaint(main, "log")


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (cli.checkout, ["nope"], "there is no branch 'nope'; there is: dev, master"),
        (cli.log, ["nope"], "there is no branch 'nope'; there is: dev, master"),
        (cli.log, ["abcdef12"], "there is no commit 'abcdef12'"),
        (cli.summary, ["nope"], "there is no branch 'nope'"),
        (cli.branch_create, ["new", "nope"], "there is no branch 'nope'"),
        (cli.branch_create, ["dev"], "there is a branch 'dev' already"),
        (cli.branch_create, ["no good"], "'no good' is not suitable"),
        (cli.branch_remove, ["nope"], "there is no branch 'nope'"),
        (cli.branch_remove, ["master"], "`hangar checkout` another branch first"),
        (cli.create_column, ["a b", "STR"], "is not suitable"),
        (cli.create_column, ["images", "STR"], "there is a column 'images' already"),
        (cli.create_column, ["flat", "UINT8", "0", "3"], "not at least 1"),
        (cli.remove_column, ["nope"], "Cannot remove: nope"),
        (cli.push, ["nope", "master"], "there is no remote 'nope'; there is: none (`hangar remote add` adds one)"),
        (cli.fetch_records, ["nope", "master"], "there is no remote 'nope'"),
        (cli.fetch_data, ["nope", "master"], "there is no remote 'nope'"),
        (cli.remove_remote, ["nope"], "there is no remote 'nope'"),
        (cli.ping_remote, ["nope"], "there is no remote 'nope'"),
        (cli.add_remote, ["no good", "x"], "is not suitable"),
    ],
)
def test_wrong_names(filled, command, arguments, said):
    filled.create_branch("dev")
    assert said in complaint(command, *arguments, obj=filled)
    assert not filled.writer_lock_held


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (cli.create_column, ["x", "FLOAT99", "3"], "'FLOAT99' is not one of"),
        (cli.create_column, ["x", "UINT8", "three"], "'three' is not a valid integer"),
        (cli.create_column, ["x", "STR", "3"], "a STR column has no shape"),
        (cli.create_column, ["x", "BYTES", "--variable-shape"], "a BYTES column has no shape"),
        (cli.create_column, ["x"], "Missing argument"),
        (cli.fetch_data, ["origin", "master", "-n", "many"], "'many' is not a size"),
        (main, ["frobnicate"], "No such command 'frobnicate'"),
        (main, ["branch", "frobnicate"], "No such command 'frobnicate'"),
        (main, ["log", "--frobnicate"], "No such option"),
    ],
)
def test_wrong_use_is_code_2(filled, command, arguments, said):
    assert said in complaint(command, *arguments, obj=filled, code=2)


def test_wrong_addresses(place):
    assert "no Hangar repository at" in complaint(cli.clone, *WHO, "../nothing")
    assert "no kind of store called s4://" in complaint(cli.clone, *WHO, "s4://bucket")
    assert list(place.iterdir()) == []


def test_fetching_what_is_not_there(shared):
    assert "has no branch 'nope'" in complaint(cli.fetch_records, "origin", "nope", obj=shared)
    assert "there is no branch 'nope'" in complaint(cli.fetch_data, "origin", "nope", obj=shared)
    assert "no column 'nope'" in complaint(cli.fetch_data, "origin", "master", "-d", "nope", obj=shared)


def test_pushing_before_the_first_commit(repo, bucket):
    repo.remote.add("origin", bucket)
    assert "nothing is committed on branch 'master' yet" in complaint(cli.push, "origin", "master", obj=repo)


def test_a_branch_before_the_first_commit(repo):
    assert "nothing is committed yet" in complaint(cli.branch_create, "dev", obj=repo)


def test_the_lock_is_held(filled):
    filled.create_branch("dev")
    co = filled.checkout(write=True)
    for command, arguments in (
        (cli.checkout, ["dev"]),
        (cli.commit, ["-m", "x"]),
        (cli.create_column, ["x", "STR"]),
        (cli.remove_column, ["images"]),
    ):
        assert "run `hangar writer-lock --force-release`" in complaint(command, *arguments, obj=filled)
    assert "while a writer checkout is open" in complaint(cli.branch_remove, "dev", obj=filled)
    co["labels"]["still"] = "alive"
    co.close()


def test_changes_in_the_way(filled):
    filled.create_branch("dev")
    invoke(cli.create_column, "x", "STR", obj=filled)
    assert "uncommitted changes on branch 'master'; `hangar commit` or `hangar reset` them, before" in complaint(
        cli.checkout, "dev", obj=filled
    )


@pytest.mark.parametrize("command", [["init"], ["clone", "x"]])
def test_nobody_to_ask(place, command):
    result = invoke(main, *command, code=2)
    assert "Error: give --name" in result.stderr


def test_a_bucket_has_no_remotes_and_no_checked_out_branch(shared, bucket):
    assert "cannot have remotes" in complaint(main, "-C", bucket, "remote", "list")
    assert "Clone it into a folder" in complaint(main, "-C", bucket, "checkout", "master", code=2)


@pytest.mark.parametrize("text", ["s3cr3t-value", "=s3cr3t-value", "a..b=s3cr3t-value", "key.deeper=s3cr3t-value"])
def test_storage_options_are_never_repeated(repo, text):
    result = invoke(main, "--storage-option", "key=s3cr3t-value", "--storage-option", text, "log", code=2)
    assert "s3cr3t" not in result.output


def test_storage_options_arrive(monkeypatch, place):
    seen: dict[str, object] = {}

    class Opened:
        initialized = False
        _storage = type("Storage", (), {"location": "s3://b"})

        def __init__(self, location: str, **options: object) -> None:
            seen.update(options, location=location)

    monkeypatch.setattr("hangar_cloud.repository.Repository", Opened)
    options = ("anon=true", "key=a=b", "client_kwargs.region_name=eu", "client_kwargs.verify=False")
    invoke(main, "-C", "s3://b", *(part for text in options for part in ("--storage-option", text)), "log", code=1)
    assert seen["location"] == "s3://b"
    assert seen["storage_options"] == {
        "anon": True,
        "key": "a=b",
        "client_kwargs": {"region_name": "eu", "verify": False},
    }


def test_damage_is_told_in_words(filled, place):
    (place / ".hangar" / "store" / "hangar.json").write_bytes(b"{]")
    assert "hangar.json" in complaint(main, "log")


def test_a_file_in_the_way(place):
    (place / "file").write_text("x")
    assert "is a file; a repository needs a folder" in complaint(main, "-C", "file", "log")


def test_values_that_do_not_fit_stay_out(filled):
    """Nothing of the above has harmed the data."""
    again = Repository(filled.path)
    co = again.checkout()
    assert np.array_equal(co["images", 9], np.full((28, 28), 9, np.uint8))
    co.close()
