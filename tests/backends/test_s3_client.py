"""The S3 client: whose credentials it uses, how it signs, where it asks, and what it leaves to s3fs."""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from hangar_cloud.backends.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    StoreUnavailableError,
    UnsupportedStoreError,
)
from hangar_cloud.backends.store import RetryPolicy, open_store
from hangar_cloud.backends.store.in_flight import REQUESTS
from hangar_cloud.backends.store.s3 import S3Store
from hangar_cloud.backends.store.s3_fsspec import S3FsspecStore
from hangar_cloud.backends.store.sigv4 import EMPTY_SHA256, Keys, Signer
from tests.forked import passes_forked

QUICK = RetryPolicy(attempts=2, base=0.01, cap=0.02)
KEYS = {"key": "a-key", "secret": "a-secret", "client_kwargs": {"region_name": "us-east-1"}}


class Fake:
    """A server that answers each request with what `answer` says: status, headers, body; and notes what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.answer: Any = lambda method, path, headers: (200, {}, b"hello")
        self.hang_up = False
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                fake.seen.append((self.command, self.path, headers))
                status, more, body = fake.answer(self.command, self.path, headers)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                self.close_connection = fake.hang_up

            do_GET = do_HEAD = do_PUT = do_POST = _serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # Clients that hang up are what some tests are about.
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()
    yield made
    made.server.shutdown()
    made.server.server_close()


def opened(fake: Fake, **options: Any) -> S3Store:
    return S3Store("s3://bucket/prefix", {**KEYS, "endpoint_url": fake.url, **options}, retry=QUICK)


@pytest.mark.parametrize(
    ("method", "key", "query", "headers", "token"),
    [
        ("GET", "a/b.pack", "", {"range": "bytes=5-10"}, None),
        ("HEAD", "a%20b/%C3%BC%23%3F%25~x.txt", "", {}, "a-token"),
        ("PUT", "x", "partNumber=12&uploadId=ab%2Bc%3D", {}, None),
        ("PUT", "refs/1.json", "", {"if-none-match": "*"}, "a-token"),
    ],
)
def test_signatures_are_those_of_botocore(monkeypatch, method, key, query, headers, token):
    moment = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    for place in ("botocore.auth.get_current_datetime", "botocore.compat.get_current_datetime"):
        monkeypatch.setattr(place, lambda remove_tzinfo=True: moment.replace(tzinfo=None), raising=False)
    url = f"http://host.example:9000/bucket/{key}"
    request = AWSRequest(method, f"{url}?{query}" if query else url, headers=headers)
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials("a-key", "a-secret", token), "s3", "eu-west-1").add_auth(request)

    signed = Signer("eu-west-1").signed(
        method,
        f"/bucket/{key}",
        query,
        {"host": "host.example:9000", **headers},
        EMPTY_SHA256,
        Keys("a-key", "a-secret", token),
        moment.timestamp(),
    )

    assert signed["x-amz-date"] == request.headers["X-Amz-Date"]
    assert signed["authorization"] == request.headers["Authorization"]


def test_a_signer_follows_new_keys_and_a_new_day():
    signer = Signer("us-east-1")

    def signature(secret: str, now: float) -> str:
        return signer.signed("GET", "/x", "", {"host": "h"}, EMPTY_SHA256, Keys("k", secret), now)["authorization"]

    first = signature("one", 0.0)
    assert signature("two", 0.0) != first
    assert signature("one", 86_400.0) != first
    assert signature("one", 0.0) == first
    assert Signer("us-east-1").signed("GET", "/x", "", {"host": "h"}, EMPTY_SHA256, Keys("k", "one"), 0.0)[
        "authorization"
    ] == (first)


def process_that_gives_keys(tmp_path, options, minutes: float):
    """A program as in ``credential_process``: keys that expire; and a file that grows by a byte with each call."""
    calls = tmp_path / "calls"
    expires = (datetime.now(timezone.utc) + timedelta(minutes=minutes)).isoformat()
    given = {
        "Version": 1,
        "AccessKeyId": options["key"],
        "SecretAccessKey": options["secret"],
        "Expiration": expires,
    }
    program = tmp_path / "keys.py"
    program.write_text(f"open({str(calls)!r}, 'a').write('x')\nprint({json.dumps(given)!r})\n")
    return program, calls


def test_keys_of_a_profiles_process_are_asked_for_and_renewed(s3_url, s3_options, tmp_path, monkeypatch):
    # Keys that last for less than ten minutes are too old for botocore: it asks for new ones each time.
    for profile, minutes, least, most in (("lasting", 120, 1, 2), ("passing", 5, 4, 99)):
        folder = tmp_path / profile
        folder.mkdir()
        program, calls = process_that_gives_keys(folder, s3_options, minutes)
        config = folder / "config"
        config.write_text(
            f"[profile {profile}]\nregion = us-east-1\nendpoint_url = {s3_options['endpoint_url']}\n"
            f"credential_process = {sys.executable} {program}\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
        with open_store(s3_url, {"profile": profile}) as store:
            assert isinstance(store, S3Store)
            assert store.put_if_absent(f"x-{profile}", b"1")
            for _ in range(3):
                assert store.get(f"x-{profile}") == b"1"
        assert least <= calls.stat().st_size <= most, profile


def test_the_environments_profile_is_used_and_one_that_is_not_there_is_told(s3_url, s3_options, tmp_path, monkeypatch):
    file = tmp_path / "credentials"
    file.write_text(
        f"[mine]\naws_access_key_id = {s3_options['key']}\naws_secret_access_key = {s3_options['secret']}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    options = {"client_kwargs": {"endpoint_url": s3_options["endpoint_url"], "region_name": "us-east-1"}}
    with open_store(s3_url, options) as store:
        assert store.put_if_absent("x", b"1")
    with (
        open_store(s3_url, {**options, "profile": "no-such"}) as store,
        pytest.raises(AccessDeniedError, match="ProfileNotFound"),
    ):
        store.get("x")


def test_nothing_is_signed_for_an_anonymous_reader(fake):
    with opened(fake, anon=True) as store:
        assert store.get("x") == b"hello"
    (_, path, headers), *_ = fake.seen
    assert path == "/bucket/prefix/x"
    assert "authorization" not in headers
    assert "x-amz-security-token" not in headers


def test_a_bucket_in_another_region_is_found_once(fake):
    def answer(method, path, headers):
        if "/eu-west-3/s3/" in headers["authorization"]:
            return 200, {}, b"hello"
        told = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>"
        return 400, {"x-amz-bucket-region": "eu-west-3"}, b"" if method == "HEAD" else told

    fake.answer = answer
    with opened(fake) as store:
        assert store.get("x") == store.get("y") == b"hello"
    assert [path for method, path, _ in fake.seen if method == "GET"] == [
        "/bucket/prefix/x",
        "/bucket/prefix/x",
        "/bucket/prefix/y",
    ]


def test_a_server_that_sends_everybody_elsewhere_is_not_followed_for_ever(fake):
    fake.answer = lambda method, path, headers: (301, {"x-amz-bucket-region": "us-east-1"}, b"")
    with opened(fake) as store, pytest.raises(OSError, match="x"):
        store.get("x")
    assert len(fake.seen) < 8


@pytest.mark.parametrize("work", [lambda store: store.get("x"), lambda store: list(store.list())])
def test_a_server_that_sends_to_another_address_is_named_with_what_to_check(fake, work):
    fake.answer = lambda method, path, headers: (301, {"Location": "https://other.example/x"}, b"")
    with opened(fake) as store, pytest.raises(OSError, match="sends.*[Cc]heck the endpoint_url option"):
        work(store)


@pytest.mark.parametrize(
    "options",
    [{"endpoint_url": "127.0.0.1:9000"}, {"endpoint_url": 5}, {"config_kwargs": {"read_timeout": -1}}],
)
def test_options_that_cannot_be_are_not_said_to_be_refused_by_a_server(fake, options):
    with opened(fake, **options) as store, pytest.raises(OSError, match="does not take the storage_options.*details"):
        store.get("x")
    assert not fake.seen


@pytest.mark.parametrize("options", [{"token": "the-token\n"}, {"key": "a-key\n"}])
def test_a_token_with_a_line_break_is_refused_and_not_told(fake, options):
    with opened(fake, **options) as store, pytest.raises(AccessDeniedError, match="line break") as raised:
        store.get("x")
    assert "the-token" not in f"{raised.value} {raised.value.__cause__!r}"
    assert not fake.seen


def test_another_range_than_was_asked_for_is_not_taken(fake):
    starts = iter((90, 5))

    def answer(method: str, path: str, headers: dict[str, str]) -> Any:
        start = next(starts)
        return 206, {"Content-Range": f"bytes {start}-{start + 3}/100"}, b"0123"

    fake.answer = answer
    with opened(fake) as store:
        assert store.get_range("x", 5, 4) == b"0123"
    assert len(fake.seen) == 2


def test_more_than_was_asked_for_is_not_taken(fake):
    fake.answer = lambda method, path, headers: (206, {}, bytes(100_000))
    with opened(fake) as store, pytest.raises(StoreUnavailableError, match="100000 bytes came where 10"):
        store.get_range("x", 5, 10)


def test_long_parts_are_received_whole_or_not_at_all(fake):
    body = bytes(range(251)) * 8_000
    told = {"Content-Range": f"bytes 5-{5 + len(body) - 1}/3000000"}
    with opened(fake) as store:

        def read() -> bytes:
            return bytes(store.get_views([("x", 5, len(body))])[0])

        fake.answer = lambda *_: (206, told, body)
        assert read() == body
        fake.answer = lambda *_: (200, {}, bytes(5) + body)
        assert read() == body
        fake.hang_up = True
        fake.answer = lambda *_: (206, {**told, "Content-Length": str(len(body))}, body[:-1])
        with pytest.raises(StoreUnavailableError):
            read()


def test_parts_that_are_wanted_together_are_received_into_memory_of_their_own(fake):
    body = bytes(range(251)) * 12_000
    cut = 1_500_001
    told = {"Content-Range": f"bytes 5-{5 + len(body) - 1}/4000000"}
    spans = [("x", 5, cut - 5), ("x", cut, len(body) + 5 - cut)]
    with opened(fake) as store:
        fake.answer = lambda *_: (206, told, body)
        first, second = store.get_views(spans, together=True)
        assert bytes(first) + bytes(second) == body
        assert memoryview(first).obj is not memoryview(second).obj
        assert len(fake.seen) == 1
        fake.answer = lambda *_: (200, {}, bytes(5) + body)
        first, second = store.get_views(spans, together=True)
        assert bytes(first) + bytes(second) == body
        fake.hang_up = True
        fake.answer = lambda *_: (206, {**told, "Content-Length": str(len(body))}, body[:cut])
        with pytest.raises(StoreUnavailableError):
            store.get_views(spans, together=True)


def test_a_server_that_ignores_ranges_is_read_nevertheless(fake):
    fake.answer = lambda method, path, headers: (200, {}, b"0123456789")
    with opened(fake) as store:
        assert store.get_range("x", 3, 4) == b"3456"


def test_a_kept_connection_that_the_server_closed_costs_no_second_sending(fake):
    fake.hang_up = True
    fake.answer = lambda method, path, headers: (412 if "if-none-match" in headers else 200, {}, b"")
    with opened(fake) as store:
        for number in range(3):
            store.put(f"x{number}", b"1")
            time.sleep(0.05)
    puts = [path for method, path, _ in fake.seen if method == "PUT" and "/x" in path]
    assert puts == ["/bucket/prefix/x0", "/bucket/prefix/x1", "/bucket/prefix/x2"]


def test_a_refusal_before_the_whole_body_came_is_heard(fake):
    fake.answer = lambda method, path, headers: (403, {}, b"<Error><Code>AccessDenied</Code></Error>")
    with opened(fake) as store, pytest.raises(AccessDeniedError, match="do not allow"):
        store.put("x", bytes(5_000_000))


def test_the_first_failure_ends_the_waits_for_the_others(fake):
    slow = threading.Event()

    def answer(method, path, headers):
        if path.endswith("absent"):
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        slow.wait(20)
        return 206, {}, b"x"

    fake.answer = answer
    started = time.monotonic()
    with opened(fake) as store, pytest.raises(ObjectNotFoundError, match="absent"):
        store.get_ranges([*((f"slow{number}", 0, 1) for number in range(6)), ("absent", 0, 1)])
    slow.set()
    assert time.monotonic() - started < 10


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [1, 6])
def test_an_interrupt_ends_requests_that_nobody_answers(fake, number):
    silent, arrived = threading.Event(), threading.Semaphore(0)

    def answer(method, path, headers):
        arrived.release()
        silent.wait(20)
        return 206, {}, b"x"

    def interrupt():
        # Sooner it may hit the building of the client, in one of whose callbacks Python drops it.
        for _ in range(number):
            arrived.acquire(timeout=10)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    fake.answer = answer
    alarm = threading.Thread(target=interrupt)
    started = time.monotonic()
    with opened(fake) as store:
        alarm.start()
        with pytest.raises(KeyboardInterrupt):
            store.get_ranges([(f"x{each}", 0, 1) for each in range(number)])
    silent.set()
    alarm.join()
    assert time.monotonic() - started < 10


def test_requests_of_all_stores_and_threads_keep_one_bound(s3_server, s3_proxy, s3_url):
    before = REQUESTS.limit
    s3_proxy.delay = 0.02
    options = s3_server.options_for(s3_proxy.url)
    with S3Store(s3_url, options) as first, S3Store(s3_url, options) as second:
        first.put("x", bytes(2_000_000))
        REQUESTS.set_limit(3)
        try:
            s3_proxy.reset()
            wanted = [("x", 150_000 * number, 10) for number in range(12)]
            threads = [threading.Thread(target=store.get_ranges, args=(wanted,)) for store in (first, second)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            REQUESTS.set_limit(before)
    assert s3_proxy.requests["GET"] == 24
    # The proxy takes a request for one under way until a moment after its answer was read.
    assert 3 <= s3_proxy.largest_overlap <= 6


def test_a_process_that_is_forked_amid_requests_is_not_held_up(s3_server, s3_proxy, s3_url):
    s3_proxy.delay = 0.1
    with S3Store(s3_url, s3_server.options_for(s3_proxy.url)) as store:
        store.put("x", bytes(2_000_000))
        wanted = [("x", 150_000 * number, 10) for number in range(12)]
        before = REQUESTS.limit
        REQUESTS.set_limit(4)
        busy = threading.Thread(target=lambda: [store.get_ranges(wanted) for _ in range(3)])
        try:
            busy.start()
            time.sleep(0.05)
            assert passes_forked(lambda: store.get_ranges(wanted) == [bytes(10)] * 12)
        finally:
            busy.join()
            REQUESTS.set_limit(before)


@pytest.mark.parametrize(
    "more",
    [
        {"requester_pays": True},
        {"s3_additional_kwargs": {"ServerSideEncryption": "AES256"}},
        {"config_kwargs": {"signature_version": "s3v4"}},
        {"client_kwargs": {"region_name": "us-east-1", "api_version": None}},
    ],
)
def test_what_only_s3fs_can_do_is_left_to_it(more):
    assert isinstance(open_store("s3://bucket/x", {**KEYS, **more}), S3FsspecStore)


def test_behind_a_proxy_s3fs_asks(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert isinstance(open_store("s3://bucket/x", KEYS), S3FsspecStore)
    inside = {**KEYS, "endpoint_url": "https://inside.example:9000"}
    assert isinstance(open_store("s3://bucket/x", inside), S3Store)
    assert isinstance(open_store("s3://bucket/x", {**KEYS, "endpoint_url": "http://other.example"}), S3Store)


def test_over_s3fs_a_repositorys_requests_go_as_well(s3_url, s3_options, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(9_000_000))
    with open_store(s3_url, {**s3_options, "default_block_size": 5 << 20}) as store:
        assert isinstance(store, S3FsspecStore)
        assert store.put_if_absent("x", b"1") is True
        assert store.put_if_absent("x", b"2") is False
        store.upload("packs/x", source)
        assert store.get_ranges([("packs/x", 5, 10)]) == [source.read_bytes()[5:15]]
        assert sorted(info.path for info in store.list()) == ["packs/x", "x"]
        store.delete(["x", "packs/x"])
        with pytest.raises(ObjectNotFoundError):
            store.stat("x")


def test_what_fsspec_is_configured_to_add_counts(s3_url, s3_options, monkeypatch):
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {name: s3_options[name] for name in ("key", "secret", "endpoint_url")})
    with open_store(s3_url, {"client_kwargs": {"region_name": "us-east-1"}}) as store:
        assert store.put_if_absent("x", b"1") is True
    monkeypatch.setitem(conf, "s3", {**s3_options, "requester_pays": True})
    with open_store(s3_url) as store, pytest.raises(ValueError, match=r"Give them as storage_options.*requester_pays"):
        store.get("x")


@pytest.mark.parametrize("most", [0, -3, "many", 2.5])
def test_a_concurrency_that_is_none_is_refused(most):
    with pytest.raises(UnsupportedStoreError, match="max_concurrency"):
        open_store("s3://bucket/x", {**KEYS, "max_concurrency": most})
    assert S3Store("s3://bucket/x", {**KEYS, "max_concurrency": "8"}).concurrency == 8


def test_addressing_styles_are_botocores(fake):
    def place(**options: Any) -> str:
        store = S3Store("s3://bucket/x", {**KEYS, **options})
        return str(store._filesystem().place.url)

    assert place() == "https://bucket.s3.amazonaws.com"
    assert place(config_kwargs={"s3": {"addressing_style": "path"}}) == "https://s3.amazonaws.com/bucket"
    assert place(endpoint_url=fake.url) == f"{fake.url}/bucket"
    assert place(client_kwargs={"region_name": "eu-west-1"}) == "https://bucket.s3.eu-west-1.amazonaws.com"
