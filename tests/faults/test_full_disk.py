"""A disk that is full at any moment of any operation: a clear error, and afterwards all is as it was or is done."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.faults.small_disk import small_disk
from tests.repository.making import add_commit, make_repository, noise, read_all

VALUES = {number: noise(number, 50_000) for number in range(40)}
SPACE = [0, 20_000, 100_000, 400_000, 1_000_000]

BEGIN = """
    import json
    import numpy as np
    from hangar_cloud import Repository
    from hangar_cloud.errors import HangarError
    place, options = sys.argv[1], json.loads(sys.argv[2])
    def noise(number):
        return np.random.default_rng(number).integers(0, 256, 50_000, np.uint8)
    def attempt(use):
        try:
            use()
            return "done"
        except HangarError as error:
            assert isinstance(error, (OSError, RuntimeError)), repr(error)
            return f"{type(error).__name__}: {error}"
"""


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def origin(tmp_path):
    """A repository on another disk."""
    repository = make_repository(tmp_path / "origin")
    add_commit(repository, VALUES)
    return repository


def is_clear(told):
    """Whether a message says that the disk is at fault."""
    return told == "done" or any(word in told.lower() for word in ("space", "disk", "too large"))


READ = """
    repository = Repository(place)
    column = repository.checkout()["array"]
    for key in column:
        assert np.array_equal(column[key], noise(key)), key
    assert np.array_equal(column.get_batch([1, 2]), np.stack([noise(1), noise(2)]))
    print("done")
"""


@pytest.mark.parametrize("left", SPACE)
def test_reading_into_a_cache_needs_no_space(disk, origin, left):
    folder = disk.folder / "clone"
    Repository(folder, exists=False).clone("a", "b", f"{origin.path}/.hangar/store")
    assert disk.run(BEGIN + READ, str(folder), "{}", left=left) == "done\n"
    assert len(read_all(Repository(folder))["array"]) == len(VALUES)
    assert Repository(folder).verify_repo_integrity()


CLONE = """
    print(attempt(lambda: Repository(place, exists=False).clone("a", "b", options["origin"])))
"""


@pytest.mark.parametrize("left", [0, 4096, 12_000, 30_000])
def test_cloning(disk, origin, left):
    folder = disk.folder / "clone"
    address = f"{origin.path}/.hangar/store"
    told = disk.run(BEGIN + CLONE, str(folder), json.dumps({"origin": address}), left=left)
    assert is_clear(told.splitlines()[-1]), told
    if not told.endswith("done\n"):
        Repository(folder, exists=False).clone("a", "b", address)
    assert len(read_all(Repository(folder))["array"]) == len(VALUES)


FETCH = """
    import warnings
    warnings.simplefilter("ignore")
    repository = Repository(place)
    print(attempt(lambda: repository.remote.fetch("origin", "master")))
    print(attempt(lambda: repository.remote.fetch_data("origin", "master")))
    print(attempt(lambda: repository.remote.fetch_data_sample("origin", "array", [1, 2, 3], branch="master")))
"""


@pytest.mark.parametrize("left", SPACE)
def test_fetching(disk, origin, left):
    folder = disk.folder / "clone"
    Repository(folder, exists=False).clone("a", "b", f"{origin.path}/.hangar/store")
    add_commit(origin, {100: noise(100, 50_000)})
    told = disk.run(BEGIN + FETCH, str(folder), "{}", left=left)
    assert all(map(is_clear, told.splitlines())), told
    clone = Repository(folder)
    if not told.startswith("done"):
        clone.remote.fetch("origin", "master")
    clone.merge("take", "master", "origin/master")
    clone.remote.fetch_data("origin", "master")
    offline = read_all(Repository(folder, offline=True))["array"]
    assert all(np.array_equal(offline[key], value) for key, value in VALUES.items())
    assert Repository(folder).verify_repo_integrity()


WRITE = """
    repository = Repository(place)
    def stage():
        writer = repository.checkout(write=True)
        try:
            for key in range(100, 120):
                writer["array"][key] = noise(key)
                print("staged", key)
            writer.commit("committed")
            print("committed")
        finally:
            writer.close()
    print(attempt(stage))
"""


@pytest.mark.parametrize("left", [*SPACE, 1_100_000, 1_200_000, 1_400_000, 2_200_000])
def test_staging_and_committing(disk, left):
    repository = make_repository(disk.folder / "repository")
    add_commit(repository, VALUES)
    told = disk.run(BEGIN + WRITE, str(repository.path), "{}", left=left).splitlines()
    assert is_clear(told[-1]), told
    staged = [int(line.split()[1]) for line in told if line.startswith("staged")]
    assert repository.verify_repo_integrity()
    writer = repository.checkout(write=True)
    found = writer["array"]
    for key in staged:
        assert np.array_equal(found[key], noise(key, 50_000)), "what was reported as staged is there"
    found[200] = noise(200, 50_000)
    writer.commit("with space again")
    writer.close()
    again = read_all(Repository(repository.path))["array"]
    assert set(again) >= {*VALUES, *staged, 200}
    assert all(np.array_equal(value, noise(key, 50_000)) for key, value in again.items())
    assert Repository(repository.path).verify_repo_integrity()


STASH = """
    repository = Repository(place)
    def put_away():
        writer = repository.checkout(write=True)
        try:
            writer.stash("away")
        finally:
            writer.close()
    print(attempt(put_away))
"""


@pytest.mark.parametrize("left", [0, 4096, 20_000])
def test_stashing(disk, left):
    repository = make_repository(disk.folder / "repository")
    add_commit(repository, VALUES)
    writer = repository.checkout(write=True)
    writer["array"][500] = noise(500, 50_000)
    writer.close()
    told = disk.run(BEGIN + STASH, str(repository.path), "{}", left=left)
    assert is_clear(told.splitlines()[-1]), told
    writer = repository.checkout(write=True)
    if [info.name for info in writer.stash.list()] == ["away"]:
        writer.stash.pop("away")
    assert np.array_equal(writer["array"][500], noise(500, 50_000)), "it is in the staging area or in the stash"
    writer.commit("with space again")
    writer.close()
    assert repository.verify_repo_integrity()
