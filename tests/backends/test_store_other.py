"""Opening by URL, plain HTTP, other fsspec filesystems, and what drivers' exceptions mean."""

from __future__ import annotations

import functools
import http.server
import inspect
import pickle
import subprocess
import sys
import threading
import time

import botocore.exceptions
import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from hangar_cloud.backends.errors import (
    HangarError,
    ObjectNotFoundError,
    ReadOnlyStoreError,
    StoreUnavailableError,
    TruncatedObjectError,
    UnsupportedStoreError,
)
from hangar_cloud.backends.store import open_store
from hangar_cloud.backends.store.fsspec_store import FsspecStore
from hangar_cloud.backends.store.gcs_faults import GcsAnswerError, classify_gcs
from hangar_cloud.backends.store.http import HttpStore
from hangar_cloud.backends.store.retry import Fault, RetryPolicy
from hangar_cloud.backends.store.s3_faults import classify_s3


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s4://bucket/x", "no kind of store called s4://"),
        ("htps://host/x", "Did you mean https://"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("gs://key:hidden@bucket/x", "storage_options"),
        ("s3://bucket/x?versionId=3", "query"),
        ("s3://bucket/a/../b", "component"),
        ("file://host/x", "three slashes"),
        ("simplecache::s3://bucket/x", "'::'"),
        ("http:///x", "names no host"),
        ("", "empty path"),
    ],
)
def test_urls_that_cannot_be_opened(url, says):
    with pytest.raises(UnsupportedStoreError, match=says) as caught:
        open_store(url)
    assert isinstance(caught.value, ValueError)
    assert "hidden" not in str(caught.value)


def test_a_missing_driver_names_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UnsupportedStoreError, match="pip install s3fs"):
        open_store("s3://bucket/x", {"requester_pays": True}).ping()
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UnsupportedStoreError, match="pip install boto3"):
        open_store("s3://bucket/x").ping()
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(UnsupportedStoreError, match="pip install adlfs"):
        open_store("abfs://container/x", {"account_name": "a"}).ping()


def test_importing_and_opening_loads_no_driver():
    code = (
        "import sys; from hangar_cloud.backends.store import open_store; open_store('s3://b/x'); open_store('gs://b/x')\n"
        "open_store('/tmp/x'); open_store('https://h/x')\n"
        "print(sorted({'s3fs', 'gcsfs', 'fsspec', 'aiobotocore', 'botocore', 'aiohttp'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def web(tmp_path):
    """A web server over ``tmp_path`` that ignores Range, as Python's does."""
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_http_reads_and_nothing_else(web, tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x#.bin").write_bytes(b"0123456789")
    with open_store(f"{web}/a b") as store:
        assert store.get("x#.bin") == b"0123456789"
        assert store.get_range("x#.bin", 3, 4) == b"3456"
        assert store.get_ranges([("x#.bin", 8, 2), ("x#.bin", 0, 1)]) == [b"89", b"0"]
        assert store.stat("x#.bin").size == 10
        assert store.get_many(["x#.bin", "no"]) == [b"0123456789", None]
        store.download("x#.bin", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"0123456789"
        assert store.ping() > 0
        assert pickle.loads(pickle.dumps(store)).url == store.url
        with pytest.raises(TruncatedObjectError):
            store.get_range("x#.bin", 12, 10)
        with pytest.raises(ObjectNotFoundError):
            store.get("no")
        for write in (lambda: store.put("y", b""), lambda: store.put_if_absent("y", b""), lambda: store.delete(["y"])):
            with pytest.raises(ReadOnlyStoreError, match="read-only"):
                write()
        for listing in (lambda: list(store.list()), lambda: store.list_children("")):
            with pytest.raises(UnsupportedStoreError, match="cannot be listed"):
                listing()
    assert (store.read_only, store.can_list) == (True, False)


def test_http_keeps_a_signature_at_the_end_and_out_of_messages():
    store = HttpStore("https://user:pw@h.invalid/c?sig=abc&sv=1", retry=RetryPolicy(attempts=1))

    assert store._object_url("a/b") == "https://user:pw@h.invalid/c/a/b?sig=abc&sv=1"
    with pytest.raises(StoreUnavailableError) as caught:
        store.get("a/b")
    assert "https://***@h.invalid/c/a/b?sig=***&sv=1" in str(caught.value)
    assert "abc" not in str(caught.value)
    assert "pw" not in repr(store)
    store.close()


def test_a_driver_that_looks_and_then_writes_is_read_only(tmp_path):
    with open_store(f"local://{tmp_path}") as store:
        assert isinstance(store, FsspecStore)
        (tmp_path / "x").write_bytes(b"123")
        assert (store.get("x"), store.get_range("x", 1, 1)) == (b"123", b"2")
        assert [info.size for info in store.list()] == [3]
        assert store.list_children("") == ["x"]
        for write in (lambda: store.put("y", b""), lambda: store.put_if_absent("y", b"")):
            with pytest.raises(ReadOnlyStoreError, match="second create"):
                write()
        store.delete(["x"])
        assert list(tmp_path.iterdir()) == []


class _Racy(LocalFileSystem):
    """Looks, waits, writes."""

    protocol = "racy"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        time.sleep(0.05)
        super().pipe_file(path, value)


class _Exact(LocalFileSystem):
    """Creates exclusively."""

    protocol = "exact"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        with open(self._strip_protocol(path), "xb" if mode == "create" else "wb") as stream:
            stream.write(value)


@pytest.fixture
def _drivers(monkeypatch):
    fsspec.register_implementation("racy", _Racy, clobber=True)
    fsspec.register_implementation("exact", _Exact, clobber=True)


@pytest.mark.usefixtures("_drivers")
def test_other_drivers_prove_themselves_in_a_race(tmp_path):
    with open_store(f"racy://{tmp_path}") as store, pytest.raises(ReadOnlyStoreError):
        store.put_if_absent("x", b"1")
    assert list(tmp_path.iterdir()) == []
    with open_store(f"exact://{tmp_path}") as store:
        assert store.put_if_absent("x", b"1") is True
        assert store.put_if_absent("x", b"2") is False
        assert store.ping() >= 0
        assert [info.path for info in store.list()] == ["x"]


def _build(kind: type[BaseException]) -> BaseException:
    error = kind.__new__(kind)
    error.args = ("made up",)
    return error


BOTO = [
    kind
    for _, kind in inspect.getmembers(botocore.exceptions, inspect.isclass)
    if issubclass(kind, botocore.exceptions.BotoCoreError)
]


@pytest.mark.parametrize("kind", BOTO)
def test_every_exception_of_botocore_has_a_meaning(kind):
    fault = classify_s3(_build(kind))

    credentials = ("Credential", "Token", "SSO", "Login", "MFA")
    if any(word in kind.__name__ for word in credentials) and "Refresh" not in kind.__name__:
        assert fault in (Fault.NO_CREDENTIALS, Fault.PERMANENT)
    if issubclass(kind, botocore.exceptions.HTTPClientError):
        assert fault.retryable
    assert fault not in (Fault.ABSENT, Fault.EXISTS)


@pytest.mark.parametrize(
    ("code", "status", "fault"),
    [
        ("NoSuchKey", 404, Fault.ABSENT),
        ("NoSuchBucket", 404, Fault.NO_BUCKET),
        ("404", 404, Fault.ABSENT),
        ("PreconditionFailed", 412, Fault.EXISTS),
        ("ConditionalRequestConflict", 409, Fault.TRANSIENT),
        ("SlowDown", 503, Fault.BUSY),
        ("RequestTimeout", 400, Fault.TRANSIENT),
        ("InvalidAccessKeyId", 403, Fault.WRONG_CREDENTIALS),
        ("AccessDenied", 403, Fault.NO_PERMISSION),
        ("SomethingNew", 500, Fault.TRANSIENT),
        ("SomethingNew", 400, Fault.PERMANENT),
    ],
)
def test_answers_of_s3_have_a_meaning(code, status, fault):
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    assert classify_s3(botocore.exceptions.ClientError(response, "PutObject")) is fault


def test_answers_of_gcs_have_a_meaning():
    missing = b'{"error": {"message": "The specified bucket does not exist."}}'
    assert classify_gcs(GcsAnswerError(404, missing)) is Fault.NO_BUCKET
    assert classify_gcs(GcsAnswerError(404, b"No such object")) is Fault.ABSENT
    assert classify_gcs(GcsAnswerError(412, b"")) is Fault.EXISTS
    assert classify_gcs(GcsAnswerError(401, b"")) is Fault.WRONG_CREDENTIALS
    assert classify_gcs(GcsAnswerError(403, b"")) is Fault.NO_PERMISSION
    assert classify_gcs(GcsAnswerError(401, b"", anonymous=True)) is Fault.NO_CREDENTIALS
    assert classify_gcs(GcsAnswerError(400, b"")) is Fault.PERMANENT


def test_all_our_errors_pass_through_unchanged():
    with open_store("memory://x") as store, pytest.raises(HangarError):
        store.get("no")
