from __future__ import annotations

import os
import pickle
import urllib.parse
import urllib.request

import pytest

from hangar_cloud.backends.errors import AccessDeniedError, BucketNotFoundError, StoreUnavailableError
from hangar_cloud.backends.store import RetryPolicy, open_store
from hangar_cloud.backends.store.gcs import GcsStore
from tests.backends.store_contract import ObjectStoreContract
from tests.forked import passes_forked

QUICK = RetryPolicy(attempts=3, base=0.01, cap=0.05)


def is_post(method, _target):
    return method == "POST"


class TestGcsStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, gcs_url, gcs_options):
        with open_store(gcs_url, gcs_options) as opened:
            yield opened

    @pytest.fixture
    def plant(self, store, gcs_server):
        bucket, _, prefix = store.url.removeprefix("gs://").partition("/")

        def plant(path: str, data: bytes) -> None:
            name = urllib.parse.quote(f"{prefix}/{path}", safe="")
            url = f"{gcs_server.endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
            headers = {"Content-Type": "application/octet-stream"}
            urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers)).close()

        return plant


@pytest.fixture
def through_proxy(gcs_server, gcs_proxy, gcs_url):
    """A store behind the proxy, its probe done."""
    with GcsStore(gcs_url, gcs_server.options_for(gcs_proxy.url), retry=QUICK) as store:
        store.ensure_writable()
        gcs_proxy.reset()
        yield store


def test_a_create_whose_answer_is_lost_is_ours(through_proxy, gcs_proxy):
    gcs_proxy.drop_answers(is_post)

    assert through_proxy.put_if_absent("refs/1.json", b"ours") is True
    assert gcs_proxy.requests["POST"] == 2
    assert through_proxy.put_if_absent("refs/1.json", b"theirs") is False


def test_a_create_that_never_arrives_is_unknown(through_proxy, gcs_proxy):
    gcs_proxy.answer_with(500, is_post, times=QUICK.attempts)

    with pytest.raises(StoreUnavailableError, match="unknown whether"):
        through_proxy.put_if_absent("refs/1.json", b"ours")
    assert through_proxy.put_if_absent("refs/1.json", b"ours") is True


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_busy_servers_are_asked_again(through_proxy, gcs_proxy, status):
    gcs_proxy.answer_with(status, lambda *_: True, times=2)

    assert through_proxy.put_if_absent("x", b"1") is True
    assert gcs_proxy.requests.total() == 3


@pytest.mark.parametrize("status", [401, 403])
def test_anonymous_refusals_ask_for_credentials(through_proxy, gcs_proxy, status):
    gcs_proxy.answer_with(status, lambda *_: True)

    with pytest.raises(AccessDeniedError, match=r"no credentials.*gcloud auth"):
        through_proxy.get("x")
    assert gcs_proxy.requests.total() == 1


def test_a_big_upload_survives_a_busy_server(through_proxy, gcs_proxy, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(9_000_000))
    gcs_proxy.answer_with(503, is_post)

    through_proxy.upload("packs/x", source)

    assert through_proxy.get("packs/x") == source.read_bytes()


def test_a_bucket_that_is_not_there(gcs_server):
    with open_store("gs://no-such-bucket/x", gcs_server.storage_options) as store:
        for call in (store.ping, lambda: store.put_if_absent("x", b""), lambda: list(store.list())):
            with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
                call()


def test_a_store_used_before_a_fork_works_after_it(gcs_url, gcs_options):
    with open_store(gcs_url, gcs_options) as store:
        store.put_if_absent("x", b"1")
        assert passes_forked(lambda: store.get("x") == b"1")


def test_unpickling_connects_lazily(gcs_url):
    store = pickle.loads(pickle.dumps(open_store(gcs_url, {"endpoint_url": "http://127.0.0.1:9"})))

    assert repr(store) == f"GcsStore('{gcs_url}')"
