"""No credential is written to disk or shown in a message, a repr or a log."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.config import Config
from hangar_cloud.errors import HangarError
from tests.repository.making import add_commit, files_of, make_repository, read_all

SECRET = "sEnTiNeL-sEcReT"


def shown(error):
    """Everything that a person may see of an error and of what caused it, if it is ours."""
    texts = []
    while error is not None:
        if isinstance(error, HangarError):
            texts += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def assert_nowhere(folder):
    for path, data in files_of(folder).items():
        assert SECRET.encode() not in data, path


@pytest.mark.parametrize("change", [{"secret": SECRET}, {"key": SECRET}, {"token": SECRET}])
def test_wrong_storage_options_are_not_shown(s3_url, s3_options, tmp_path, change):
    options = {**s3_options, **change}
    with pytest.raises(HangarError) as caught:
        Repository(s3_url, storage_options=options, cache_dir=tmp_path)
    assert SECRET not in shown(caught.value)
    local = make_repository(tmp_path / "local", storage_options=options)
    add_commit(local, {0: np.zeros(3)})
    local.remote.add("origin", s3_url)
    local.remote.add("second", s3_url, storage_options=options)
    for name in ("origin", "second"):
        for use in (
            lambda n: local.remote.push(n, "master"),
            lambda n: local.remote.fetch(n, "master"),
            local.remote.ping,
        ):
            with pytest.raises(HangarError) as caught:
                use(name)
            assert SECRET not in shown(caught.value)
    assert SECRET not in repr(local) + repr(local.remote) + repr(local.remote.list_all()) + repr(local.checkout())
    assert_nowhere(tmp_path)


def test_right_storage_options_are_not_written(s3_url, s3_options, tmp_path):
    direct = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    add_commit(direct, {0: np.zeros(300)})
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("a", "b", s3_url, storage_options=s3_options)
    add_commit(clone, {1: np.zeros(300)})
    clone.remote.push("origin", "master")
    assert len(read_all(clone)["array"]) == 2
    for data in files_of(tmp_path).values():
        assert s3_options["secret"].encode() not in data
    for info in direct._storage.store.list():
        assert s3_options["secret"].encode() not in direct._storage.store.get(info.path)


ADDRESSES = [
    f"s3://key:{SECRET}@bucket/x",
    f"https://user:{SECRET}@127.0.0.1:9/x",
    f"http://127.0.0.1:9/x?sig={SECRET}&X-Amz-Signature={SECRET}&a=b",
    f"gs://user:{SECRET}@bucket/x",
    f"zz://user:{SECRET}@bucket/x",
    f"simplecache::s3://key:{SECRET}@bucket/x",
    f"http://user:{SECRET}@[broken/x?sig={SECRET}",
    f"zz:///x?token={SECRET}",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_credentials_in_addresses(tmp_path, address):
    local = make_repository(tmp_path / "local")
    add_commit(local, {0: np.zeros(3)})
    info = local.remote.add("origin", address)
    assert SECRET not in repr(info)
    uses = [
        lambda: local.remote.add("origin", address),
        lambda: local.remote.ping("origin"),
        lambda: local.remote.push("origin", "master"),
        lambda: local.remote.fetch("origin", "master"),
        lambda: Repository(tmp_path / "clone", exists=False).clone("a", "b", address),
        lambda: Repository(address, exists=False, cache_dir=tmp_path / "cache").init("a", "b"),
    ]
    for use in uses:
        with pytest.raises(HangarError) as caught:
            use()
        assert SECRET not in shown(caught.value)
    assert SECRET not in repr(local.remote) + repr(local.remote.list_all())
    config = Config.load(tmp_path / "local" / ".hangar" / "config.toml")
    assert SECRET.encode() not in pickle.dumps(config)
    assert_nowhere(tmp_path)
    assert SECRET not in repr(local.remote.remove("origin"))


def test_an_address_with_a_signature_is_used_whole(committed, tmp_path):
    """It is kept in memory, and in what workers are sent, but not on disk."""
    address = f"http://127.0.0.1:9/x?sig={SECRET}"
    committed.remote.add("origin", address)
    assert committed._storage.remote_store("origin").url.startswith("http://127.0.0.1:9/x")
    again = pickle.loads(pickle.dumps(committed))
    assert again._storage._remote_addresses == {"origin": address}
    assert_nowhere(tmp_path)
