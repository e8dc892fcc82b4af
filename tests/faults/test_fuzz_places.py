"""Files that are none, and names that lead out of a repository: whoever unpacks an archive may find such a one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import open_store
from hangar_cloud.config import Config
from tests.faults.victims import Reader, copied, files_to_damage, make_one_of_everything

USES = ("read", "look back", "verify", "clone", "write")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A repository with one of everything."""
    return make_one_of_everything(tmp_path_factory.mktemp("places") / "original")


@pytest.fixture(scope="module")
def reader(original):
    process = Reader(original)
    yield process
    process.stop()


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def circle(path):
    path.symlink_to(path)


def nowhere(path):
    path.symlink_to("/nowhere/at/all")


def folder(path):
    (path / "inner").mkdir(parents=True)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(300 * 1024**3)


@pytest.mark.parametrize("put", [pipe, endless, circle, nowhere, folder, sparse])
def test_in_the_place_of_any_file(original, reader, put):
    kinds = {}
    for path in files_to_damage(original):
        relative = path.relative_to(original)
        if "staging" not in relative.parts and "index" not in relative.parts:
            kinds.setdefault((*relative.parts[1:3], path.suffix), relative)
    if put is sparse:  # such a pack is a file like any other, of zeros
        kinds = {kind: path for kind, path in kinds.items() if path.suffix in (".json", ".toml", "")}
    assert len(kinds) >= 6
    faults = []
    for relative in kinds.values():
        with copied(original, original.with_name("copy")) as copy:
            (copy / relative).unlink()
            put(copy / relative)
            faults += reader.faults(copy, f"{put.__name__} for {relative}", ("read", "verify"), honest=10**7)
    assert faults == []


def test_folders_that_are_links_in_circles(original, reader):
    with copied(original, original.with_name("copy")) as copy:
        store = copy / ".hangar" / "store"
        for name in ("one", "two"):
            (store / name).symlink_to(store)
            (store / "packs" / name).symlink_to(store / "packs")
            (store / "refs" / "heads" / name).symlink_to(store / "refs")
        assert reader.faults(copy, "circles", USES) == []
        assert len(list(open_store(str(store)).list())) < 200


def test_a_link_in_the_way_of_a_new_file_is_not_followed(tmp_path):
    """Else unpacking a repository, and adding a remote to it, would overwrite a file of the archive's choice."""
    victim = tmp_path / "victim"
    victim.write_text("not to be touched")
    repository = Repository(tmp_path / "r", exists=False)
    repository.init("a", "b")
    hangar = Path(repository.path) / ".hangar"
    for name in ("config.incoming", "config.toml", "HEAD", "generation.incoming"):
        (hangar / name).unlink(missing_ok=True)
        (hangar / name).symlink_to(victim)
    Config(hangar / "config.toml", "c", "d").save()
    repository.remote.add("origin", "s3://bucket/x")
    repository.checkout(write=True).close()
    with pytest.warns(ResourceWarning, match="released by force"):
        repository.force_release_writer_lock()
    assert victim.read_text() == "not to be touched"
    assert Config.load(hangar / "config.toml").remotes == {"origin": "s3://bucket/x"}
