from __future__ import annotations

import multiprocessing
import os
import time

import boto3
import pytest

from hangar_cloud.backends.errors import AccessDeniedError, BucketNotFoundError, StoreUnavailableError
from hangar_cloud.backends.store import RetryPolicy, open_store
from hangar_cloud.backends.store.s3 import S3Store
from tests.backends.store_contract import ObjectStoreContract
from tests.forked import passes_forked

QUICK = RetryPolicy(attempts=3, base=0.01, cap=0.05)


def is_put_of(name):
    return lambda method, target: method == "PUT" and target.endswith(name)


@pytest.fixture(scope="module")
def client(s3_server):
    options = s3_server.storage_options
    made = boto3.client(
        "s3",
        endpoint_url=options["endpoint_url"],
        aws_access_key_id=options["key"],
        aws_secret_access_key=options["secret"],
        region_name="us-east-1",
    )
    yield made
    made.close()


class TestS3Store(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3_url, s3_options):
        with open_store(s3_url, s3_options) as opened:
            yield opened

    @pytest.fixture
    def plant(self, store, client):
        bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
        return lambda path, data: client.put_object(Bucket=bucket, Key=f"{prefix}/{path}", Body=data)


@pytest.fixture
def through_proxy(s3_server, s3_proxy, s3_url):
    """A store behind the proxy, its probe done."""
    with S3Store(s3_url, s3_server.options_for(s3_proxy.url), retry=QUICK) as store:
        store.ensure_writable()
        s3_proxy.reset()
        yield store


def test_a_create_whose_answer_is_lost_is_ours(through_proxy, s3_proxy):
    s3_proxy.drop_answers(is_put_of("1.json"))

    assert through_proxy.put_if_absent("refs/1.json", b"ours") is True
    assert s3_proxy.requests["PUT"] == 2, "the retry saw that it exists"
    assert through_proxy.put_if_absent("refs/1.json", b"theirs") is False
    assert through_proxy.get("refs/1.json") == b"ours"


def test_a_create_whose_every_answer_is_lost_is_read_back(through_proxy, s3_proxy):
    s3_proxy.drop_answers(is_put_of("1.json"), times=100)

    assert through_proxy.put_if_absent("refs/1.json", b"ours") is True
    assert s3_proxy.requests["PUT"] == QUICK.attempts
    assert through_proxy.put_if_absent("refs/1.json", b"theirs") is False


def test_a_lost_answer_and_then_no_permission_is_still_ours(through_proxy, s3_proxy):
    s3_proxy.drop_answers(is_put_of("1.json"))
    s3_proxy.answer_with(403, is_put_of("1.json"))

    assert through_proxy.put_if_absent("refs/1.json", b"ours") is True


def test_a_create_that_never_arrives_is_unknown_and_repeatable(through_proxy, s3_proxy):
    s3_proxy.answer_with(500, is_put_of("1.json"), times=QUICK.attempts)

    with pytest.raises(StoreUnavailableError, match=r"unknown whether.*Repeating it is safe"):
        through_proxy.put_if_absent("refs/1.json", b"ours")
    assert s3_proxy.requests["PUT"] == QUICK.attempts
    assert through_proxy.put_if_absent("refs/1.json", b"ours") is True


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 504])
def test_busy_servers_are_asked_again(through_proxy, s3_proxy, status):
    s3_proxy.answer_with(status, lambda method, _: method == "GET", times=2)
    s3_proxy.answer_with(status, lambda method, _: method == "PUT", times=2)

    assert through_proxy.put_if_absent("x", b"1") is True
    assert through_proxy.get("x") == b"1"
    assert s3_proxy.requests == {"GET": 3, "PUT": 3}


@pytest.mark.parametrize(("status", "error"), [(403, AccessDeniedError), (401, AccessDeniedError)])
def test_refusals_are_not_repeated(through_proxy, s3_proxy, status, error):
    s3_proxy.answer_with(status, lambda *_: True, times=100)

    for call in (lambda: through_proxy.get("x"), lambda: through_proxy.put_if_absent("x", b"1"), through_proxy.ping):
        s3_proxy.requests.clear()
        with pytest.raises(error):
            call()
        # After a refused create we look once whether it landed, in case the driver sent it twice.
        assert s3_proxy.requests in ({"GET": 1}, {"PUT": 1, "GET": 1})


def test_a_read_whose_answer_is_lost_is_repeated(through_proxy, s3_proxy):
    through_proxy.put_if_absent("x", bytes(1000))
    s3_proxy.drop_answers(lambda method, _: method == "GET")

    assert through_proxy.get_range("x", 10, 100) == bytes(100)


def test_a_multipart_upload_whose_completion_is_lost_is_there(through_proxy, s3_proxy, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(17_000_000))
    s3_proxy.drop_answers(lambda method, target: method == "POST" and "uploadId=" in target, times=1)

    through_proxy.upload("packs/x", source)

    assert through_proxy.get("packs/x") == source.read_bytes()


def test_near_ranges_travel_in_one_request_and_far_ones_at_once(through_proxy, s3_proxy):
    through_proxy.put_if_absent("x", bytes(4_000_000))
    s3_proxy.reset()
    s3_proxy.delay = 0.1

    near = [("x", 1000 * number, 900) for number in range(50)]
    far = [("x", 200_000 * number, 10) for number in range(1, 17)]
    assert through_proxy.get_ranges(near) == [bytes(900)] * 50
    assert s3_proxy.requests == {"GET": 1}

    through_proxy.get_ranges(far)
    assert s3_proxy.requests == {"GET": 17}
    assert s3_proxy.largest_overlap > 4


def test_the_probe_takes_one_request_where_one_was_before(s3_server, s3_proxy, s3_url):
    options = s3_server.options_for(s3_proxy.url)
    with open_store(s3_url, options) as first, open_store(s3_url, options) as second:
        first.ensure_writable()
        assert s3_proxy.requests == {"PUT": 2}
        second.put_if_absent("x", b"1")
        assert s3_proxy.requests == {"PUT": 4}


def test_a_bucket_that_is_not_there(s3_server, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"1")
    with open_store("s3://no-such-bucket/x", s3_server.storage_options) as store:
        for call in (
            store.ping,
            lambda: store.get("x"),
            lambda: store.put_if_absent("x", b""),
            lambda: store.upload("x", source),
            lambda: list(store.list()),
            lambda: store.list_children(""),
        ):
            with pytest.raises(BucketNotFoundError, match=r"s3://no-such-bucket.*bucket"):
                call()


@pytest.mark.parametrize("change", [{"secret": "wrong-secret-value"}, {"key": "wrong-key-value"}])
def test_wrong_credentials_are_refused_at_once_and_kept_secret(s3_server, change):
    with open_store(s3_server.url, {**s3_server.storage_options, **change}) as store:
        started = time.perf_counter()
        with pytest.raises(AccessDeniedError, match="credentials were refused") as caught:
            store.ping()
        assert time.perf_counter() - started < 5
    assert not any(secret in str(caught.value) for secret in ("wrong-secret-value", "wrong-key-value", "local-secret"))


def test_credentials_that_may_only_read(s3_server, s3_url, s3_options):
    with open_store(s3_url, s3_options) as writer, open_store(s3_url, s3_server.reader_options) as reader:
        writer.put_if_absent("x", b"1")
        assert reader.get("x") == b"1"
        for call in (
            lambda: reader.put("y", b""),
            lambda: reader.put_if_absent("y", b""),
            lambda: reader.delete(["x"]),
        ):
            with pytest.raises(AccessDeniedError, match="do not allow"):
                call()


def test_no_credentials_at_all(s3_server, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with (
        open_store(s3_server.url, {"endpoint_url": s3_server.endpoint}) as store,
        pytest.raises(AccessDeniedError, match=r"no credentials were found.*AWS_ACCESS_KEY_ID"),
    ):
        store.ping()


def test_no_server_is_reported_within_seconds(s3_server):
    with S3Store("s3://bucket-name/x", s3_server.options_for("http://127.0.0.1:9")) as store:
        started = time.perf_counter()
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            store.ping()
        assert time.perf_counter() - started < 10


def _create(url: str, options: dict, number: int, start: float) -> bool:
    with open_store(url, options) as store:
        store.ensure_writable()
        time.sleep(max(0.0, start - time.time()))
        return store.put_if_absent("refs/1.json", f"writer {number}".encode())


def test_of_sixteen_racing_processes_one_wins(s3_url, s3_options):
    start = time.time() + 5.0
    with multiprocessing.get_context("fork").Pool(16) as pool:
        outcomes = pool.starmap(_create, [(s3_url, s3_options, number, start) for number in range(16)], chunksize=1)

    assert outcomes.count(True) == 1
    with open_store(s3_url, s3_options) as store:
        assert store.get("refs/1.json") == f"writer {outcomes.index(True)}".encode()


def test_a_store_used_before_a_fork_works_after_it(s3_url, s3_options):
    with open_store(s3_url, s3_options) as store:
        store.put_if_absent("x", b"1")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(store.get, ["x"] * 4) == [b"1"] * 4
        assert passes_forked(lambda: store.get("x") == b"1" and store.put_if_absent("y", b"2"))
        assert store.get("y") == b"2"
