from __future__ import annotations

import inspect
import pickle
import weakref

import numpy as np
import pytest

from hangar_cloud.backends import errors
from hangar_cloud.backends.errors import CorruptDataError, HangarError, redact_text, redact_url, without_frames
from hangar_cloud.backends.store.explaining import Advice, explain, quote_detail
from hangar_cloud.backends.store.retry import Fault

ALL = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, HangarError)]

BUILTINS = {
    "StoreError": OSError,
    "ObjectNotFoundError": FileNotFoundError,
    "BucketNotFoundError": FileNotFoundError,
    "AccessDeniedError": PermissionError,
    "StoreUnavailableError": ConnectionError,
    "UnsupportedStoreError": ValueError,
    "ReadOnlyStoreError": PermissionError,
    "TruncatedObjectError": EOFError,
    "InvalidPathError": ValueError,
    "DataNotLocalError": FileNotFoundError,
    "CorruptDataError": ValueError,
    "PurgedBytesError": LookupError,
    "UnsupportedFormatError": RuntimeError,
}

ADVICE = Advice(no_bucket="b", no_credentials="n", wrong_credentials="w", no_permission="p")


@pytest.mark.parametrize("kind", ALL)
def test_messages_are_plain_and_survive_pickling(kind):
    error = kind("Cannot read 's3://b/x': why. Do this.")

    assert str(error) == "Cannot read 's3://b/x': why. Do this."
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (kind, str(error))


def test_a_key_error_below_the_root_is_plain_too():
    class MissingError(HangarError, KeyError):
        pass

    assert str(MissingError("no such key")) == "no such key"


def test_each_error_is_what_a_user_would_catch():
    assert {kind.__name__ for kind in ALL} == {*BUILTINS, "HangarError"}
    for name, builtin in BUILTINS.items():
        assert issubclass(getattr(errors, name), builtin)
    assert all(name in (errors.__doc__ or "") for name in BUILTINS), "the tree at the top names them all"


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("s3://bucket/path", "s3://bucket/path"),
        ("/plain/path@x?y", "/plain/path@x?y"),
        ("https://user:pass@host/x", "https://***@host/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("https://h/x?sv=2020&sig=abc%3D", "https://h/x?sv=2020&sig=***"),
        ("https://h/x?X-Amz-Signature=abc&X-Amz-Date=1", "https://h/x?X-Amz-Signature=***&X-Amz-Date=***"),
        ("https://h/x?access_token=1&page=2", "https://h/x?access_token=***&page=2"),
        ("http://[broken/x?token=1", "http://[broken/x"),
    ],
)
def test_redaction(url, redacted):
    assert redact_url(url) == redacted
    assert redact_text(f"before {url} after") == f"before {redacted} after"


def test_details_never_quote_options():
    options = {
        "key": "AKIAEXAMPLE",
        "secret": "very-secret",
        "client_kwargs": {"aws_session_token": "deep-secret", "region_name": "eu-north-1"},
        "endpoint_url": "http://localhost:1",
    }
    detail = quote_detail(
        ValueError("AKIAEXAMPLE very-secret deep-secret at http://localhost:1 in eu-north-1 " + "x" * 1000), options
    )

    assert "EXAMPLE" not in detail
    assert "secret" not in detail
    assert "http://localhost:1 in eu-north-1" in detail
    assert len(detail) < 400


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_is_explained(fault):
    error = explain(fault, action="read", place="s3://b/x", advice=ADVICE, error=ValueError("because"), options={})

    assert isinstance(error, errors.StoreError)
    assert str(error).startswith(f"Cannot read s3://b/x: {fault.value}. ")


def test_errors_that_are_kept_do_not_keep_what_failed_in_memory():
    alive = []

    def check(data):
        try:
            raise ValueError(len(data))
        except ValueError as error:
            raise CorruptDataError("damaged") from error

    def fetch():
        data = np.zeros(1000)
        alive.append(weakref.ref(data))
        check(data)

    try:
        fetch()
    except CorruptDataError as error:
        kept = without_frames(error)
    assert alive[0]() is None
    assert str(kept) == "damaged"
    assert str(kept.__cause__) == "1000"
