"""Azure: what obstore is told of an account; and with Azurite (a package of npm), the whole contract."""

from __future__ import annotations

import time
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.errors import BucketNotFoundError, HangarError, TruncatedObjectError
from hangar_cloud.backends.store import RetryPolicy, open_store
from hangar_cloud.backends.store.azure import AzureStore, obstore_settings
from infra.local import DelayingProxy, ServerPackageMissingError
from infra.local.azurite import ACCOUNT, AzuriteServer
from tests.backends.store_contract import ObjectStoreContract
from tests.forked import passes_forked
from tests.repository.making import make_repository


def filesystem(url, credential=None, anon=False):
    return SimpleNamespace(service_client=SimpleNamespace(url=url, credential=credential), anon=anon)


def test_a_key_a_signature_and_nothing_are_passed_on():
    cloud = "https://name.blob.core.windows.net"
    key = SimpleNamespace(account_name="name", account_key="a2V5")
    known = {"endpoint": cloud, "account_name": "name"}
    assert obstore_settings(filesystem(f"{cloud}/", key)) == {**known, "account_key": "a2V5"}
    assert obstore_settings(filesystem(f"{cloud}/?sv=1&sig=abc")) == {**known, "sas_key": "sv=1&sig=abc"}
    assert obstore_settings(filesystem(f"{cloud}/", anon=True)) == {**known, "skip_signature": True}
    emulator = obstore_settings(filesystem("http://127.0.0.1:10000/name/", key))
    assert emulator == {"endpoint": "http://127.0.0.1:10000/name", "account_name": "name", "account_key": "a2V5"}


def test_what_only_adlfs_can_ask_with_is_left_to_it():
    assert obstore_settings(filesystem("https://name.blob.core.windows.net/", object())) is None
    assert obstore_settings(filesystem("https://name.blob.core.windows.net/")) is None


@pytest.mark.parametrize(
    "url", ["az://container/x", "abfs://container/x", "abfss://container@name.dfs.core.windows.net"]
)
def test_urls_of_azure(url):
    assert type(open_store(url)) is AzureStore


@pytest.fixture(scope="module")
def azurite():
    """A server; not every machine has npm, so this is the one that may be missing."""
    try:
        server = AzuriteServer().start()
    except ServerPackageMissingError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


# What adlfs sends is bytes, of which aiohttp warns above a megabyte.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")


@pytest.fixture(params=["obstore", "adlfs"])
def reading(request, monkeypatch):
    """Through what is read."""
    if request.param == "adlfs":
        monkeypatch.setattr("hangar_cloud.backends.store.azure._opened", lambda *_: None)
    else:
        pytest.importorskip("obstore")
    return request.param


@pytest.fixture
def store(azurite, reading):
    with open_store(f"{azurite.url}/{uuid4().hex}", azurite.storage_options) as opened:
        yield opened


class TestAzureStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, store):
        return store

    @pytest.fixture
    def plant(self, store, azurite):
        from azure.storage.blob import BlobServiceClient

        client = BlobServiceClient.from_connection_string(azurite.storage_options["connection_string"])
        container = client.get_container_client(azurite.container)
        prefix = store.url.removeprefix(f"{azurite.url}/")

        def plant(path: str, data: bytes) -> None:
            container.upload_blob(f"{prefix}/{path}", data, overwrite=True)

        yield plant
        client.close()


def test_obstore_reads_where_it_can(store, reading):
    store.put("a", b"12345")
    assert store.get("a") == b"12345"
    assert store.get_range("a", 1, 3) == b"234"
    assert (store._blobs() is not None) == (reading == "obstore")


def test_errors_are_those_of_adlfs(store, azurite):
    store.put("a", b"12345")
    with pytest.raises(TruncatedObjectError):
        store.get_range("a", 3, 5)
    with pytest.raises(TruncatedObjectError):
        store.get_range("a", 10, 5)
    with open_store("az://no-such-container/x", azurite.storage_options) as nowhere, pytest.raises(BucketNotFoundError):
        nowhere.get("a")


@pytest.fixture
def proxied(azurite, reading):
    """A store behind a proxy, and the proxy, its probe done."""
    policy = RetryPolicy(attempts=3, base=0.01, cap=0.05)
    with DelayingProxy(azurite.endpoint) as proxy:
        options = azurite.options_for(f"{proxy.url}/{ACCOUNT}")
        with AzureStore(f"{azurite.url}/{uuid4().hex}", options, retry=policy) as opened:
            opened.ensure_writable()
            proxy.reset()
            yield opened, proxy


def is_put(method, _target):
    return method == "PUT"


def is_get(method, _target):
    return method == "GET"


def test_a_create_whose_answer_is_lost_is_ours(proxied):
    store, proxy = proxied
    proxy.drop_answers(is_put)
    assert store.put_if_absent("refs/1.json", b"ours") is True
    assert store.put_if_absent("refs/1.json", b"theirs") is False
    assert store.get("refs/1.json") == b"ours"


def test_what_fails_for_a_moment_is_read_soon(proxied):
    store, proxy = proxied
    store.put("a", b"12345")
    for fail in (lambda: proxy.answer_with(500, is_get, times=2), lambda: proxy.drop_answers(is_get)):
        fail()
        start = time.monotonic()
        assert store.get_range("a", 0, 5) == b"12345"
        assert time.monotonic() - start < 5


def test_what_a_person_gets_wrong_is_named(azurite, reading):
    wrong = {"connection_string": azurite.storage_options["connection_string"].replace("Eby8", "Abc8")}
    for options, words in (
        ({}, "no credentials were found"),
        (wrong, "the credentials were refused"),
        (azurite.options_for(f"http://127.0.0.1:9/{ACCOUNT}"), "cannot be reached"),
    ):
        quick = RetryPolicy(attempts=2, base=0.01, cap=0.05)
        start = time.monotonic()
        with AzureStore(f"{azurite.url}/x", options, retry=quick) as store, pytest.raises(HangarError, match=words):
            store.get("a")
        assert time.monotonic() - start < 10


def test_a_repository_in_azure_is_written_and_read_elsewhere(azurite, reading, tmp_path):
    url = f"{azurite.url}/{uuid4().hex}"
    writer = make_repository(url, storage_options=azurite.storage_options, cache_dir=tmp_path / "a").checkout(
        write=True
    )
    values = np.arange(500 * 600, dtype=np.int32).reshape(500, 600)
    writer.add_ndarray_column("values", prototype=values[0]).extend(values)
    writer.commit("values")
    writer.close()
    checkout = Repository(url, storage_options=azurite.storage_options, cache_dir=tmp_path / "b").checkout()
    assert np.array_equal(checkout["values"].get_batch(range(499, -1, -1)), values[::-1])
    checkout.close()


def test_a_forked_process_reads_through_adlfs(store):
    store.put("a", b"12345")
    assert store.get("a") == b"12345"
    assert passes_forked(lambda: store.get("a") == b"12345" and store._blobs() is None)
