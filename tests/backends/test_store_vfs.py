"""Tiles of arrays in buckets: TileDB reads many of them, and whatever it cannot read, the driver does."""

from __future__ import annotations

import logging
import os
import pickle

import pytest

from hangar_cloud.backends.errors import ObjectNotFoundError, TruncatedObjectError
from hangar_cloud.backends.store import open_store
from hangar_cloud.backends.store.gcs import gcs_settings
from hangar_cloud.backends.store.remote import RemoteStore
from hangar_cloud.backends.store.vfs import LEAST_RANGES
from tests.forked import passes_forked

DATA = os.urandom(3_000_000)
# Farther apart than what is joined.
MANY = [("packs/a.pack", i * 150_000 + 7, 1000 + i) for i in range(LEAST_RANGES)]


def opened(url, options=None) -> RemoteStore:
    store = open_store(url, options)
    assert isinstance(store, RemoteStore)
    return store


@pytest.fixture(params=["s3", "gcs"])
def store(request):
    bucket = opened(*(request.getfixturevalue(f"{request.param}_{what}") for what in ("url", "options")))
    bucket.put_if_absent("packs/a.pack", DATA)
    return bucket


def expected(requests):
    return [DATA[offset : offset + length] for _, offset, length in requests]


def test_many_tiles_are_read_by_tiledb_and_few_by_the_driver(store):
    assert store.get_tiles(MANY[1:]) == expected(MANY[1:])
    assert store._vfs.read_bytes == 0
    near = ("packs/a.pack", MANY[0][1] + 10, 30)
    assert store.get_tiles([*MANY, near, MANY[3]]) == expected([*MANY, near, MANY[3]])
    assert store._vfs.read_bytes == sum(length for _, _, length in MANY)


def test_what_is_not_there_or_cut_short_is_told_as_ever(store):
    with pytest.raises(ObjectNotFoundError, match=r"packs/b\.pack"):
        store.get_tiles([("packs/b.pack", offset, length) for _, offset, length in MANY])
    with pytest.raises(TruncatedObjectError):
        store.get_tiles([*MANY[1:], ("packs/a.pack", len(DATA) - 5, 10)])
    assert store.get_tiles(MANY) == expected(MANY)
    assert store._vfs.read_bytes > 0


def test_copies_of_a_store_and_forked_processes_read_by_themselves(store):
    assert store.get_tiles(MANY) == expected(MANY)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.get_tiles(MANY) == expected(MANY)
    assert copy._vfs.read_bytes > 0
    assert passes_forked(lambda: store.get_tiles(MANY) == expected(MANY))


def test_where_tiledb_fails_the_driver_goes_on_and_no_credential_is_told(s3_url, s3_options, caplog, monkeypatch):
    from hangar_cloud.backends.store import s3

    async def elsewhere(*_):
        return {
            "vfs.s3.endpoint_override": "127.0.0.1:1",
            "vfs.s3.scheme": "http",
            "vfs.s3.aws_secret_access_key": "SECRET",
        }

    monkeypatch.setattr(s3, "s3_settings", elsewhere)
    caplog.set_level(logging.DEBUG, "hangar_cloud")
    store = opened(s3_url, s3_options)
    store.put_if_absent("packs/a.pack", DATA)
    for _ in range(2):
        assert store.get_tiles(MANY) == expected(MANY)
    assert store._vfs.read_bytes == 0
    assert [record.message for record in caplog.records if "TileDB" in record.message] == [
        "TileDB cannot read from the bucket: TileDBError"
    ]
    assert "SECRET" not in caplog.text


def test_options_without_a_counterpart_are_left_to_the_driver(s3_url, s3_options):
    options = {**s3_options, "config_kwargs": {"s3": {"addressing_style": "path"}}}
    store = opened(s3_url, options)
    store.put_if_absent("packs/a.pack", DATA)
    assert store.get_tiles(MANY) == expected(MANY)
    assert store._vfs.read_bytes == 0


def test_credentials_of_the_environment_are_used(s3_url, s3_options, monkeypatch):
    open_store(s3_url, s3_options).put_if_absent("packs/a.pack", DATA)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_options["secret"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_options["endpoint_url"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = opened(s3_url)
    assert store.get_tiles(MANY) == expected(MANY)
    assert store._vfs.read_bytes > 0


@pytest.mark.parametrize(
    ("endpoint", "token", "anonymous", "settings"),
    [
        ("http://127.0.0.1:4443", "anon", True, {"vfs.gcs.endpoint": "http://127.0.0.1:4443"}),
        ("http://proxy.example.org", None, False, None),
        ("https://storage.googleapis.com", None, False, {}),
        ("https://storage.googleapis.com", None, True, None),
        ("https://storage.googleapis.com", "anon", True, None),
        ("https://storage.googleapis.com", "/key.json", False, None),
        (
            "https://storage.googleapis.com",
            {"type": "service_account"},
            False,
            {"vfs.gcs.service_account_key": '{"type": "service_account"}'},
        ),
    ],
)
def test_what_tiledb_is_told_of_google_storage(endpoint, token, anonymous, settings):
    assert gcs_settings(endpoint, token, anonymous) == settings
