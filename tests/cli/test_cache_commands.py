"""`hangar cache` and `hangar prefetch`: what is on this machine of what lies elsewhere."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import cli, main
from hangar_cloud.http_server import RepositoryServer
from tests.cli.running import invoke


@pytest.fixture
def large(repo, bucket):
    """Pushed to a bucket: ten samples of 40 kB that do not compress, a nested column, and a tag on the first five."""
    random = np.random.default_rng(5)
    with closing(repo.checkout(write=True)) as writer:
        noise = writer.add_ndarray_column("noise", shape=(40_000,), dtype=np.uint8)
        noise.update({key: random.integers(0, 255, 40_000, np.uint8) for key in range(5)})
        writer.commit("five")
        repo.create_tag("five")
        noise.update({key: random.integers(0, 255, 40_000, np.uint8) for key in range(5, 10)})
        other = writer.add_bytes_column("other", contains_subsamples=True)
        other["a"] = {0: random.bytes(5000), "0": random.bytes(5000)}
        writer.commit("ten")
    repo.remote.add("origin", bucket)
    repo.remote.push("origin", "master")
    repo.remote.push_tag("origin", "five")
    return repo


@pytest.fixture
def copy(large, bucket, tmp_path):
    made = Repository(tmp_path / "copy", exists=False)
    made.clone("Ben", "ben@example.org", bucket)
    return made


@pytest.fixture
def url(large, tmp_path, monkeypatch):
    """The repository on the web; its cache lies in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = RepositoryServer(large._storage.store, lambda: "", port=0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server.url
    server.stop()
    thread.join()


def local(repo: Repository, column: str = "noise", **where) -> list:
    with closing(repo.checkout(**where)) as reader:
        return list(reader[column].keys(local=True))


def shown(*where: str, obj=None) -> dict:
    return json.loads(invoke(main, *where, "cache", "show", "--json", obj=obj).stdout)


def test_prefetch_brings_the_branch_that_is_written_to(copy):
    assert local(copy) == []
    assert "all samples are here" in invoke(cli.prefetch, obj=copy).stdout
    assert local(copy) == list(range(10))


def test_prefetch_of_a_column_a_tag_or_a_size(copy):
    invoke(cli.prefetch, "five", "-d", "noise", "-n", "100kB", obj=copy)
    assert 1 <= len(local(copy)) < 5
    assert "the samples of noise are here" in invoke(cli.prefetch, "five", "-d", "noise", obj=copy).stdout
    assert local(copy) == list(range(5))
    invoke(cli.prefetch, "--all-history", obj=copy)
    assert local(copy) == list(range(10))


def test_prefetch_of_samples(copy):
    invoke(cli.prefetch, "-k", "noise:3", "-k", "noise:8", "-k", "other:a:'0'", obj=copy)
    assert local(copy) == [3, 8]
    with closing(copy.checkout()) as reader:
        assert "0" in reader["other", "a"].keys(local=True)


MISTAKES = [
    (["-k", "noise"], 2, "'noise' names no sample"),
    (["-k", "noise:99"], 1, "has no sample 99"),
    (["-k", "nose:1"], 1, "Did you mean 'noise'?"),
    (["-d", "nose"], 1, "Did you mean 'noise'?"),
    (["-k", "noise:1", "-n", "1MB"], 2, "give it without --column, --nbytes"),
    (["mastr"], 1, "Did you mean 'master'?"),
    (["--remote", "orign"], 1, "Did you mean 'origin'?"),
]


def test_mistakes(copy):
    for arguments, code, said in MISTAKES:
        assert said in invoke(cli.prefetch, *arguments, obj=copy, code=code).stderr, arguments
    assert local(copy) == []


def test_prefetch_without_a_remote(filled):
    assert "everything is here already" in invoke(cli.prefetch, obj=filled, code=1).stderr


def test_which_of_several_remotes(copy):
    copy.remote.remove("origin")
    copy.remote.add("one", "memory://one")
    copy.remote.add("two", "memory://two")
    assert "--remote one, --remote two" in invoke(cli.prefetch, obj=copy, code=2).stderr


def test_a_bucket_is_prefetched_into_the_cache(url):
    assert shown("-C", url)["nbytes"] < 100_000
    invoke(main, "-C", url, "prefetch", "-k", "noise:1")
    assert 40_000 < shown("-C", url)["nbytes"] < 200_000
    invoke(main, "-C", url, "prefetch")
    assert shown("-C", url)["nbytes"] > 400_000
    assert "cannot fetch anything" in invoke(main, "--offline", "-C", url, "prefetch", code=1).stderr
    assert local(Repository(url, offline=True)) == list(range(10))


def test_the_cache_is_shown_limited_and_cleared(url):
    invoke(main, "-C", url, "prefetch")
    assert "Limit:  none" in invoke(main, "-C", url, "cache", "show").stdout
    assert "limited to 200.00 kB" in invoke(main, "-C", url, "cache", "limit", "200kB").stdout
    after = shown("-C", url)
    assert (after["limit"], after["nbytes"] <= 200_000) == (200_000, True)
    invoke(main, "-C", url, "prefetch", "-k", "noise:1")
    with closing(Repository(url).checkout()) as reader:
        for key in range(10):
            reader["noise", key]
    assert shown("-C", url)["nbytes"] <= 200_000
    assert "no limit" in invoke(main, "-C", url, "cache", "limit", "none").stdout
    # What a closed checkout had asked for ahead may still come.
    for thread in threading.enumerate():
        if thread.name == "hangar-background":
            thread.join(60)
    assert invoke(main, "-C", url, "cache", "clear").stdout.startswith("Freed ")
    assert shown("-C", url)["nbytes"] == 0
    with closing(Repository(url).checkout()) as reader:
        assert reader["noise", 3].shape == (40_000,)


def test_a_clear_takes_nothing_that_is_only_here(copy):
    invoke(cli.prefetch, "-k", "noise:3", obj=copy)
    with closing(copy.checkout(write=True)) as writer:
        writer["noise", 77] = np.arange(40_000, dtype=np.uint16).astype(np.uint8)
        writer.commit("mine")
        writer["noise", 78] = np.zeros(40_000, np.uint8)
    invoke(cli.cache_clear, obj=copy)
    assert shown(obj=copy)["nbytes"] == 0
    copy.remote.remove("origin")
    assert local(copy) == [77]
    with closing(copy.checkout(write=True)) as writer:
        assert not writer["noise", 78].any()


def test_a_repository_without_a_cache(filled):
    assert shown(obj=filled)["nbytes"] == 0
    assert invoke(cli.cache_clear, obj=filled).stdout == "Freed 0 B.\n"


@pytest.mark.parametrize(("size", "said"), [("0", "a cache of no bytes"), ("much", "'much' is not a size")])
def test_a_limit_that_cannot_be(filled, size, said):
    assert said in invoke(cli.cache_limit, size, obj=filled, code=2).stderr
    assert shown(obj=filled)["limit"] is None


def test_settings_keep_the_limit_beside_remotes(copy):
    invoke(cli.cache_limit, "5 GB", obj=copy)
    copy.remote.add("more", "memory://more")
    assert shown(obj=copy)["limit"] == 5_000_000_000
    assert [known.name for known in copy.remote.list_all()] == ["more", "origin"]


def test_a_limit_that_somebody_wrote_wrong(filled):
    """It is told where settings are asked for, and readers go on without."""
    file = filled._storage.root / "config.toml"
    for text in ("-5", "0", "'much'", "1.5"):
        file.write_text(f"[cache]\nlimit = {text}\n")
        assert "config.toml is not readable" in invoke(main, "cache", "show", code=1).stderr, text
        assert "ten samples" in invoke(main, "log").stdout, text
