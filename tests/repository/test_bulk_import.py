"""Bulk import: many processes store what a function yields, as one process would have stored it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import threading
from collections import Counter

import cloudpickle
import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.bulk import importing
from hangar_cloud.bulk.item_reader import ItemReader
from hangar_cloud.bulk.messages import Item
from hangar_cloud.bulk_importer import UDF_Return, run_bulk_import
from hangar_cloud.errors import (
    BulkImportError,
    ColumnNotFoundError,
    DirtyStagingError,
    InvalidArgumentError,
    InvalidNameError,
    InvalidSampleError,
    NotInitializedError,
    RefNotFoundError,
    UdfError,
    WriterLockError,
)
from tests.repository import bulk_functions as functions
from tests.repository.making import files_of, make_repository, read_all, same_columns

COLUMNS = ["picture", "label", "varied", "text", "blob", "scans", "notes"]
KEYS = [{"key": "a"}, {"key": "b"}, {"key": "c"}]


def add_columns(repository: Repository) -> Repository:
    checkout = repository.checkout(write=True)
    checkout.add_ndarray_column("picture", shape=(60, 60), dtype=np.uint8)
    checkout.add_ndarray_column("label", shape=(), dtype=np.int64)
    checkout.add_ndarray_column("varied", shape=(5, 3), dtype=np.float32, variable_shape=True)
    checkout.add_str_column("text")
    checkout.add_bytes_column("blob")
    checkout.add_ndarray_column("scans", shape=(30, 30), dtype=np.uint8, contains_subsamples=True)
    checkout.add_str_column("notes", contains_subsamples=True)
    checkout.add_ndarray_column("big", shape=(2**20,), dtype=np.int64)
    checkout.commit("columns")
    checkout.close()
    return repository


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return add_columns(make_repository(tmp_path_factory.mktemp("template") / "repository"))


@pytest.fixture
def repository(template, tmp_path):
    """A repository with columns of all kinds, and nothing in them."""
    shutil.copytree(template.path, tmp_path / "repository")
    return Repository(tmp_path / "repository")


def trees(repository: Repository, digest: str):
    """Digests of the record trees of a commit: equal where all contents are."""
    return {name: entry.root and entry.root.digest for name, entry in repository._storage.commit(digest).trees.items()}


def every_sample(repository: Repository):
    """By column, and by key or pair of keys."""
    checkout = repository.checkout()
    found = {}
    for name, column in checkout.items():
        nested = name in ("scans", "notes")
        pairs = ((k, s) for k, s in column.items())
        found[name] = {(k, sub): v for k, s in pairs for sub, v in s.data.items()} if nested else dict(pairs)
    checkout.close()
    return found


def pack_bytes(repository: Repository) -> int:
    return sum(len(data) for name, data in files_of(repository.path).items() if name.endswith(".pack"))


def lasting(repository: Repository) -> dict[str, bytes]:
    """All files, but for the database (which says nothing by its bytes), the note about it, the lock and the index."""
    passing = ("staging.duckdb", "clean.json", ".lock", ".places", ".covered")
    return {name: data for name, data in files_of(repository.path).items() if not name.endswith(passing)}


def living(process: str) -> bool:
    command = ["ps", "-o", "stat=", "-p", process]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def refuses(repository, error, words, udf, kwargs, **options):
    """The import fails like that, and nothing has changed."""
    before = lasting(repository)
    with pytest.raises(error) as caught:
        run_bulk_import(repository, "master", ["text"], udf, kwargs, **options)
    for word in words:
        assert word in str(caught.value)
    assert lasting(repository) == before
    checkout = repository.checkout(write=True)
    assert checkout.diff.status() == "CLEAN"
    checkout.close()
    return caught.value


def test_it_stores_what_a_loop_stores(repository, tmp_path):
    digest = run_bulk_import(
        repository, "master", COLUMNS, functions.everything, [{"number": n} for n in range(150)], ncpus=2
    )
    other = add_columns(make_repository(tmp_path / "by hand"))
    checkout = other.checkout(write=True)
    with checkout:
        for number in range(150):
            for column, key, data in functions.everything(number):
                checkout[(column, *key) if isinstance(key, tuple) else (column, key)] = data
    by_hand = checkout.commit("by hand")
    checkout.close()
    assert trees(repository, digest) == trees(other, by_hand)
    assert same_columns(every_sample(repository), every_sample(other))
    assert repository.verify_repo_integrity()
    contents = repository.log(return_contents=True)
    assert contents["head"] == digest
    assert contents["specs"][digest]["commit_message"] == (
        "Bulk import of 1,095 samples into blob, label, notes, picture, scans and more"
    )


def test_equal_samples_are_stored_once_whoever_finds_them(repository):
    items = [{"numbers": list(range(30)), "prefix": prefix} for prefix in "abcdefgh"]
    run_bulk_import(repository, "master", ["picture"], functions.pictures, items, ncpus=2)
    once = pack_bytes(repository)
    assert once < 30 * (3600 + 200)
    run_bulk_import(repository, "master", ["picture"], functions.pictures, [{"numbers": [5, 9], "prefix": "later"}])
    assert pack_bytes(repository) == once
    checkout = repository.checkout()
    assert len(checkout["picture"]) == 30 * 8 + 2
    assert np.array_equal(checkout["picture", "h29"], functions.picture(29))
    assert np.array_equal(checkout["picture", "later9"], functions.picture(9))
    checkout.close()


def test_what_exists_is_replaced_and_what_is_equal_makes_no_commit(repository):
    run_bulk_import(repository, "master", ["text"], functions.text, [{"key": "a"}, {"key": 0}, {"key": "0"}])
    second = run_bulk_import(repository, "master", ["text"], functions.text, [{"key": 0, "value": "new"}])
    assert read_all(repository)["text"] == {0: "new", "0": "some text", "a": "some text"}
    with pytest.warns(UserWarning, match="'master': it has all of the 1 samples already"):
        assert run_bulk_import(repository, "master", ["text"], functions.text, [{"key": "a"}]) is None
    with pytest.warns(UserWarning, match="nothing was imported"):
        assert run_bulk_import(repository, "master", ["text"], functions.text, []) is None
    assert repository.log(return_contents=True)["head"] == second


def test_without_autocommit_it_is_staged_on_top_of_what_is(repository):
    checkout = repository.checkout(write=True)
    checkout["picture", "mine"] = functions.picture(1)
    checkout["text", "b"] = "replaced by the import"
    checkout.close()
    head = repository.log(return_contents=True)["head"]
    for kwargs in ([{"key": "a"}, {"key": "b"}], [{"key": "c"}]):
        assert run_bulk_import(repository, "master", ["text"], functions.text, kwargs, autocommit=False) is None
    items = [{"numbers": [1, 2], "prefix": "p"}]
    run_bulk_import(repository, "master", ["picture"], functions.pictures, items, autocommit=False)
    assert repository.log(return_contents=True)["head"] == head
    with pytest.raises(DirtyStagingError, match="autocommit would commit them too"):
        run_bulk_import(repository, "master", ["text"], functions.text, [{"key": "d"}])
    with pytest.raises(BulkImportError):
        run_bulk_import(repository, "master", ["text"], functions.raises, KEYS, autocommit=False)
    checkout = repository.checkout(write=True)
    assert np.array_equal(checkout["picture", "p2"], functions.picture(2))
    checkout["picture", "after"] = functions.picture(3)
    checkout.commit("all of it")
    checkout.close()
    found = read_all(repository)
    assert found["text"] == dict.fromkeys("abc", "some text")
    assert list(found["picture"]) == ["after", "mine", "p1", "p2"]
    assert repository.verify_repo_integrity()


def test_another_branch_is_imported_into_and_after_a_failure_the_old_one_is_current(repository):
    head = repository.log(return_contents=True)["head"]
    repository.create_branch("side")
    repository.checkout(write=True, branch="master").close()
    with pytest.raises(BulkImportError):
        run_bulk_import(repository, "side", ["text"], functions.raises, KEYS)
    assert repository.log(return_contents=True)["head"] == head
    assert repository.checkout(write=True)._branch == "master"


@pytest.mark.parametrize(
    ("error", "words", "udf", "kwargs"),
    [
        (UdfError, ["udf must be a generator function", "list"], [], KEYS),
        (UdfError, ["asynchronous"], functions.asynchronous, KEYS),
        (UdfError, ["udf_kwargs[1]", "text(key, value='some text')"], functions.text, [{"key": 1}, {"x": 2}]),
        (UdfError, ["udf_kwargs[0]", "missing a required argument: 'key'"], functions.text, [{}]),
        (UdfError, ["udf_kwargs[1]", "dict of keyword arguments"], functions.text, [{"key": 1}, ("key", 2)]),
        (UdfError, ["list of dicts"], functions.text, {"key": 1}),
        (UdfError, ["cannot be sent to another process", "lock"], functions.text, [{"key": threading.Lock()}]),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_a_type_error(repository, error, words, udf, kwargs):
    assert isinstance(refuses(repository, error, words, udf, kwargs), TypeError)


def test_arguments_that_cannot_be_meant(repository, tmp_path):
    marker = {"key": "a", "folder": str(tmp_path)}

    def run(repo=repository, branch="master", columns=("text",), **options):
        return run_bulk_import(repo, branch, columns, functions.counted, [marker], **options)

    for error, words, wrong in (
        (RefNotFoundError, "no branch 'nowhere'", {"branch": "nowhere"}),
        (ColumnNotFoundError, "no column 'nothing' on branch 'master'; there is: big, blob", {"columns": ["nothing"]}),
        (InvalidArgumentError, "column_names", {"columns": "text"}),
        (InvalidArgumentError, "column_names", {"columns": []}),
        (InvalidArgumentError, "column_names", {"columns": [3]}),
        (InvalidArgumentError, "branch_name", {"branch": ""}),
        (InvalidArgumentError, "repo must be", {"repo": str(tmp_path)}),
        (InvalidArgumentError, "ncpus", {"ncpus": 1.5}),
        (InvalidArgumentError, "autocommit", {"autocommit": "yes"}),
        (InvalidArgumentError, "recheck", {"recheck": 2}),
        (InvalidArgumentError, "memory", {"repo": make_repository("memory://bulk", cache_dir=tmp_path / "cache")}),
    ):
        with pytest.raises(error, match=words):
            run(**wrong)
    writer = repository.checkout(write=True)
    with pytest.raises(WriterLockError):
        run()
    writer["text", "mine"] = "staged"
    writer.close()
    repository.create_branch("side")
    for branch in ("master", "side"):
        with pytest.raises(DirtyStagingError):
            run(branch=branch)
    with pytest.raises(NotInitializedError):
        run(repo=Repository(tmp_path / "empty", exists=False))
    assert list(tmp_path.glob("a-*")) == []


@pytest.mark.parametrize(
    ("error", "words", "udf"),
    [
        (UdfError, ["must be a generator function", "UDF_Return"], functions.returns_one),
        (UdfError, ["must be a generator function", "NoneType"], functions.returns_none),
        (UdfError, ["must yield UDF_Return", "not tuple"], functions.yields_a_tuple),
        (UdfError, ["yields different results", "must be deterministic"], functions.undetermined),
        (InvalidSampleError, ["column 'label'", "column_names: text"], functions.other_column),
        (InvalidNameError, ["column 'text'", "'a key!' is not suitable"], functions.bad_key),
        (InvalidNameError, ["'text'", "is not suitable"], functions.pair_in_flat),
        (InvalidSampleError, ["column 'text'", "takes str, not bytes"], functions.wrong_value),
        (BulkImportError, ["raised SystemExit: 3"], functions.exits),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_function_does_wrong_is_told_with_its_item(repository, error, words, udf):
    checkout = repository.checkout()
    reader = ItemReader({"text": checkout["text"]._entry}, cloudpickle.dumps(udf))
    with pytest.raises(error) as caught:
        list(reader.read(Item(7, cloudpickle.dumps({"key": "k"}), udf is functions.undetermined)))
    for word in ("item 7 of udf_kwargs (key='k')", *words):
        assert word in str(caught.value)
    checkout.close()


@pytest.mark.parametrize(
    ("error", "words", "udf"),
    [
        (UdfError, ["yields different results"], functions.undetermined),
        (InvalidSampleError, ["item 0", "takes str, not bytes"], functions.wrong_value),
        (InvalidSampleError, ["column 'text'", "yields it twice", "different data"], functions.twice_unlike),
        (BulkImportError, ["raised FileNotFoundError: photo.jpg is not there"], functions.raises),
        (BulkImportError, ["killed by signal 9 (SIGKILL), at item 0", "smaller ncpus"], functions.killed),
        (BulkImportError, ["killed by signal 11 (SIGSEGV), at item 0"], functions.crashes),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_one_item_that_fails_ends_all(repository, error, words, udf):
    caught = refuses(repository, error, words, udf, [{"key": "k"}])
    if isinstance(caught, BulkImportError):
        assert caught.item == 0
    if udf is functions.raises:
        assert "bulk_functions.py" in caught.trace
        assert caught.trace in str(caught.__cause__)


def test_a_process_that_dies_is_noticed_though_a_child_of_it_lives(repository):
    refuses(repository, BulkImportError, ["SIGKILL"], functions.forks_and_is_killed, [{"key": "k"}])


def test_whatever_a_function_raises_is_told_with_its_item(repository):
    checkout = repository.checkout()
    reader = ItemReader({"text": checkout["text"]._entry}, cloudpickle.dumps(functions.raises_something_odd))
    for key, words in (("key", "KeyboardInterrupt"), ("end", "GeneratorExit"), ("mute", "Mute"), ("x", "ValueError: ")):
        with pytest.raises(BulkImportError, match=f"item 3 of udf_kwargs .* raised {words}") as caught:
            list(reader.read(Item(3, cloudpickle.dumps({"key": key}), False)))
        assert len((str(caught.value) + caught.value.trace).encode()) < 1_000_000
    checkout.close()


def test_a_fork_in_the_function_does_not_write_for_its_parent(repository):
    assert run_bulk_import(repository, "master", ["text"], functions.forks_and_goes_on, [{"key": "a"}], recheck=0)
    assert every_sample(repository)["text"] == {"a": "the parent's"}
    assert repository.verify_repo_integrity()


def test_programs_that_the_function_started_end_with_it(repository, tmp_path):
    items = [{"key": "dies", "folder": str(tmp_path)}]
    refuses(repository, BulkImportError, ["SIGKILL"], functions.starts_a_program_and_waits, items, recheck=0)
    program = (tmp_path / "program").read_text()
    functions.wait_for(lambda: not living(program), 20)


def test_two_values_of_one_key_are_named_with_their_items(repository):
    words = ["column 'text', sample 'shared': items 0 and 1 of udf_kwargs"]
    refuses(repository, InvalidSampleError, words, functions.all_the_same_key, KEYS[:2], ncpus=1)
    refuses(repository, InvalidSampleError, words, functions.all_the_same_key, KEYS[:2], ncpus=2)
    run_bulk_import(repository, "master", ["text"], functions.twice_alike, KEYS + KEYS, ncpus=2)
    assert list(read_all(repository)["text"]) == ["a", "b", "c"]


def test_functions_that_are_not_deterministic(repository, tmp_path):
    words = ["result 1: nothing, then column 'text', key 'a-more'"]
    refuses(repository, UdfError, words, functions.sometimes_more, [{"key": "a", "folder": str(tmp_path)}])
    items = [{"key": f"k{n}"} for n in range(100)]
    refuses(repository, UdfError, ["item 99"], functions.undetermined_in_the_end, items, recheck=1)
    assert run_bulk_import(repository, "master", ["text"], functions.undetermined_in_the_end, items, recheck=0)


def test_how_many_items_are_run_twice(repository, tmp_path):
    def runs(recheck):
        folder = tmp_path / f"{recheck}"
        folder.mkdir()
        items = [{"key": f"k{n}", "folder": str(folder)} for n in range(50)]
        run_bulk_import(repository, "master", ["text"], functions.counted, items, recheck=recheck, autocommit=False)
        return Counter(path.name.partition("-")[0] for path in folder.iterdir())

    assert set(runs(0).values()) == {1}
    assert {key for key, count in runs(0.02).items() if count == 2} == {"k0", "k10", "k20", "k30", "k40"}
    assert runs(0.2).total() == 60


def test_a_function_may_use_up_its_arguments(repository):
    items = [{"keys": ["a", "b"]}, {"keys": ["c"]}]
    run_bulk_import(repository, "master", ["text"], functions.changes_its_arguments, items, recheck=1)
    assert read_all(repository)["text"] == {"a": "of a", "b": "of b", "c": "of c"}
    assert items == [{"keys": ["a", "b"]}, {"keys": ["c"]}]


def test_as_many_processes_as_asked_for_are_at_work_at_once(repository, tmp_path):
    names = ["one", "two", "three"]
    items = [{"key": name, "folder": str(tmp_path), "others": names} for name in names]
    run_bulk_import(repository, "master", ["text"], functions.meeting, items, ncpus=3)
    assert len(read_all(repository)["text"]) == 3
    assert importing._processes(0) == importing._processes(-1) == max(1, len(os.sched_getaffinity(0)) // 2)
    assert importing._processes(7) == 7


def test_closures_can_be_imported_with(repository):
    suffix = "of the closure"
    prefixes = {"a": lambda text: f"{text} {suffix}"}

    def local(key):
        yield UDF_Return("text", key, prefixes[key]("text"))

    run_bulk_import(repository, "master", ["text"], local, [{"key": "a"}])
    run_bulk_import(repository, "master", ["text"], lambda key: iter([UDF_Return("text", key, suffix)]), [{"key": "b"}])
    assert read_all(repository)["text"] == {"a": "text of the closure", "b": "of the closure"}


def test_memory_stays_small(repository, tmp_path):
    """48 samples of 8 MiB pass through a process that never holds more than a few of them, and not through this one."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    items = [{"number": n, "folder": str(tmp_path)} for n in range(48)]
    run_bulk_import(repository, "master", ["big"], functions.big, items, ncpus=1, recheck=0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024
    sizes = [int((tmp_path / f"{n}.resident").read_text()) for n in range(48)]
    assert max(sizes) - sizes[0] < 100 * 1024 * 1024
    checkout = repository.checkout()
    assert np.array_equal(checkout["big", 47], np.arange(2**20) + 47)
    checkout.close()


def test_columns_that_workers_cannot_write_are_written_in_the_end(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "WORKER_BACKENDS", ("i0",))
    items = [{"number": n} for n in range(40)]
    digest = run_bulk_import(repository, "master", COLUMNS, functions.everything, items, ncpus=2)
    monkeypatch.undo()
    other = add_columns(make_repository(tmp_path / "other"))
    assert trees(repository, digest) == trees(
        other, run_bulk_import(other, "master", COLUMNS, functions.everything, items, ncpus=1)
    )
    assert repository.verify_repo_integrity()
    refuses(repository, BulkImportError, [], functions.raises, KEYS)


def test_purged_samples_are_refused(repository):
    run_bulk_import(repository, "master", ["picture"], functions.pictures, [{"numbers": [1, 2], "prefix": "p"}])
    repository.purge(column="picture", key="p1", reason="consent withdrawn")
    with pytest.raises(InvalidSampleError, match=r"column 'picture', sample 'again1': .*consent withdrawn"):
        run_bulk_import(repository, "master", ["picture"], functions.pictures, [{"numbers": [1], "prefix": "again"}])
