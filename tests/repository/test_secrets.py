"""No credential is written to disk or shown in a message, a repr or a log."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import pickle
import threading
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import open_store
from hangar_cloud.backends.store.remote import RemoteStore
from hangar_cloud.backends.store.retry import RetryPolicy
from hangar_cloud.config import Config
from hangar_cloud.errors import HangarError
from hangar_cloud.storage import Storage
from tests.repository.making import add_commit, files_of, finish, make_repository, read_all, start_process

SECRET = "sEnTiNeL-sEcReT"


def shown(error):
    """Everything that a person may see of an error and of what caused it."""
    texts = ["".join(traceback.format_exception(error))]
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
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
    """It is kept in memory, and in what workers of `multiprocessing` are sent, but not in pickles or on disk."""
    address = f"http://127.0.0.1:9/x?sig={SECRET}"
    committed.remote.add("origin", address)
    assert committed._storage.remote_store("origin").url.startswith("http://127.0.0.1:9/x")
    pickled = pickle.dumps(committed)
    assert SECRET.encode() not in pickled
    again = pickle.loads(pickled)
    assert again._storage._remote_addresses == {"origin": address}
    assert_nowhere(tmp_path)


SECRET_OPTIONS = {
    "key": f"key-{SECRET}",
    "secret": SECRET,
    "token": SECRET,
    "endpoint_url": f"http://user:{SECRET}@127.0.0.1:9",
    "client_kwargs": {"region_name": "eu-west-1", "aws_session_token": SECRET},
    "config_kwargs": {"proxies": {"http": f"http://user:{SECRET}@proxy"}},
}


def test_pickles_hold_no_secret(tmp_path):
    local = make_repository(tmp_path / "local", storage_options=SECRET_OPTIONS)
    writer = local.checkout(write=True)
    writer.add_ndarray_column("flat", shape=(3,), dtype=np.float32)[0] = np.ones(3, np.float32)
    writer.add_str_column("nested", contains_subsamples=True)["a"] = {1: "x"}
    writer.commit("both")
    writer.close()
    local.remote.add("origin", f"http://user:{SECRET}@127.0.0.1:9/x?sig={SECRET}", storage_options=SECRET_OPTIONS)
    checkout = local.checkout()
    pickled = [local, checkout, checkout["flat"], checkout["nested"], checkout["nested"]["a"]]
    pickled += [
        open_store(url, SECRET_OPTIONS) for url in ("s3://bucket/x", "gs://bucket/x", f"http://h/x?sig={SECRET}")
    ]
    pickled.append(Storage(f"http://user:{SECRET}@127.0.0.1:9/x?sig={SECRET}", SECRET_OPTIONS))
    for what in pickled:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert SECRET.encode() not in pickle.dumps(what, protocol), what
        copied = pickle.loads(pickle.dumps(what))
        assert SECRET not in repr(what) + repr(copied)
    again = pickle.loads(pickle.dumps(local))
    assert again._storage.storage_options == SECRET_OPTIONS, "known in the process that made the pickle"
    assert again._storage._remote_options == {"origin": SECRET_OPTIONS}
    assert copy.deepcopy(local)._storage.storage_options == SECRET_OPTIONS
    checkout.close()


@pytest.fixture
def in_bucket(s3_url, s3_options, tmp_path):
    """A column of a repository in S3, opened with credentials that only its storage options have."""
    repository = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    add_commit(repository, {number: np.full(300, number, np.int32) for number in range(4)})
    return Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "other").checkout()["array"]


def sum_of(column, key):
    """For pools: the sum of one sample."""
    return int(column[key].sum())


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_of_multiprocessing_are_given_the_credentials(in_bucket, method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(sum_of, [(in_bucket, key) for key in range(4)]) == [0, 300, 600, 900]


ELSEWHERE = """
    import pickle, sys
    with open(sys.argv[1], "rb") as file:
        column = pickle.load(file)
    try:
        print(int(column[3].sum()))
    except PermissionError as error:
        print("refused", "credentials" in str(error))
"""


def test_elsewhere_credentials_come_from_the_environment(in_bucket, s3_options, tmp_path, monkeypatch):
    file = tmp_path / "column.pickle"
    file.write_bytes(pickle.dumps(in_bucket))
    assert s3_options["secret"].encode() not in file.read_bytes()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert finish(start_process(ELSEWHERE, str(file))) == "refused True\n"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_options["secret"])
    assert finish(start_process(ELSEWHERE, str(file))) == "900\n"


@contextmanager
def refusing_server(code):
    """An HTTP server that answers everything with one status."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the name that its base class looks for

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("code", [400, 403, 404, 500])
def test_tracebacks_and_debug_logs_tell_no_secret(code, caplog):
    caplog.set_level(logging.DEBUG)
    with refusing_server(code) as server:
        store = open_store(f"{server}/x?sig={SECRET}", {"headers": {"Authorization": f"Bearer {SECRET}"}})
        assert isinstance(store, RemoteStore)
        store.retry = RetryPolicy(attempts=2, base=0.01)
        with pytest.raises(HangarError) as caught:
            store.get("a")
        store.close()
    told = "".join(traceback.format_exception(caught.value))
    assert "Cannot read" in told
    assert SECRET not in told + shown(caught.value)
    assert not [record for record in caplog.records if SECRET in record.getMessage() + str(record.exc_text)]


def test_the_command_line_tells_no_secret_even_with_debug(monkeypatch):
    from click.testing import CliRunner

    from hangar_cloud.cli.cli import main

    with refusing_server(404) as server:
        place = f"{server}/x?sig={SECRET}"
        for options in ((), ("--debug",)):
            told = CliRunner().invoke(
                main, [*options, "-C", place, "--storage-option", f"headers.X-Auth={SECRET}", "log"]
            )
            assert told.exit_code
            assert SECRET not in told.output

    def fail(*_, **__):
        raise RuntimeError(f"a driver says {SECRET} and http://user:{SECRET}@host/")

    monkeypatch.setattr("hangar_cloud.repository.Repository.__init__", fail)
    arguments = ["--debug", "--storage-option", f"secret={SECRET}", "log"]
    told = CliRunner().invoke(main, arguments)
    assert "Traceback" in told.output
    assert SECRET not in told.output


def test_stashes_reflogs_and_locks_hold_no_secret(s3_url, s3_options, tmp_path):
    options = {**s3_options, "client_kwargs": {"region_name": "us-east-1"}}
    repository = make_repository(s3_url, storage_options=options, cache_dir=tmp_path)
    add_commit(repository, {0: np.zeros(300)})
    writer = repository.checkout(write=True)
    writer["array"][1] = np.ones(300)
    writer.stash("away")
    writer["array"][2] = np.ones(300)
    writer.close()
    repository.create_tag("release", message="a tag")
    for text in (repr(repository.reflog("master")), repr(repository.list_tags()), repr(repository)):
        assert s3_options["secret"] not in text
    for path, data in files_of(tmp_path).items():
        assert s3_options["secret"].encode() not in data, path
