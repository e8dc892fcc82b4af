"""A repository read over HTTP: from the server that comes along, and from a plain one without listings."""

from __future__ import annotations

import contextlib
import functools
import http.client
import http.server
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.errors import StoreUnavailableError
from hangar_cloud.backends.store.counting import CountingStore
from hangar_cloud.backends.store.local import LocalStore
from hangar_cloud.errors import InvalidArgumentError, ReadOnlyStoreError, UnsupportedStoreError
from hangar_cloud.http_index import index_page
from hangar_cloud.http_objects import Part, Unsatisfiable, is_served, wanted_part
from hangar_cloud.http_server import RepositoryServer

IMAGES = {key: np.arange(4096, dtype=np.uint8).reshape(64, 64) ^ key for key in range(20)}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Repository:
    """Two branches, a tag, a flat and a nested column; nobody changes it."""
    repo = Repository(tmp_path_factory.mktemp("original"), exists=False)
    repo.init("Ada", "ada@example.org")
    with closing(repo.checkout(write=True)) as writer:
        images = writer.add_ndarray_column("images", shape=(64, 64), dtype=np.uint8)
        images.update(IMAGES)
        writer.add_str_column("notes", contains_subsamples=True)["a"] = {0: "number", "0": "text <b>&"}
        writer.commit("first <script>")
    repo.create_branch("dev")
    repo.create_tag("v1", message="a release")
    with closing(repo.checkout(write=True, branch="dev")) as writer:
        writer["images", 0] = IMAGES[1]
        writer.commit("on dev")
    return repo


@contextmanager
def running(repo: Repository, host: str = "localhost") -> Iterator[RepositoryServer]:
    server = RepositoryServer(repo._storage.store, lambda: index_page(repo, server.url), host, 0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


@pytest.fixture(scope="module")
def served(original) -> Iterator[RepositoryServer]:
    with running(original) as server:
        yield server


class Plain(http.server.SimpleHTTPRequestHandler):
    """What public hosting does: no listings, no ranges, and nothing on the screen."""

    def list_directory(self, path):
        self.send_error(403)

    def log_message(self, format, *arguments):  # noqa: A002
        pass


class Guarded(Plain):
    """A public bucket of S3's or GCS's that may not be listed: what is not there is forbidden."""

    def send_error(self, code, message=None, explain=None):
        super().send_error(403 if code == 404 else code, message, explain)


@contextmanager
def hosted(folder: Path, kind: type[Plain] = Plain) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def public(original, tmp_path_factory) -> Iterator[str]:
    """A copy of the store on a plain web server."""
    folder = tmp_path_factory.mktemp("public") / "digits"
    shutil.copytree(original._storage.root / "store", folder)
    with hosted(folder) as url:
        yield url


@pytest.fixture(scope="module")
def guarded(original, tmp_path_factory) -> Iterator[str]:
    """Likewise, from one that does not tell what is absent from what is forbidden."""
    folder = tmp_path_factory.mktemp("guarded") / "digits"
    shutil.copytree(original._storage.root / "store", folder)
    with hosted(folder, Guarded) as url:
        yield url


@pytest.fixture(params=["served", "public", "guarded"])
def url(request) -> str:
    found = request.getfixturevalue(request.param)
    return found if isinstance(found, str) else found.url


def ask(server: RepositoryServer, method: str, path: str, **headers: str):
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection("localhost", server.port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_everything_can_be_read_by_url(url, original, tmp_path):
    repo = Repository(url, cache_dir=tmp_path / "cache")
    assert repo.list_branches() == ["dev", "master"]
    assert repo.list_tags() == original.list_tags()
    contents = original.log("dev", return_contents=True)
    assert repo.log("dev", return_contents=True) == contents
    with closing(repo.checkout(branch="dev")) as reader:
        assert np.array_equal(reader["images", 0], IMAGES[1])
        assert dict(reader["notes", "a"].items()) == {0: "number", "0": "text <b>&"}
    with closing(repo.checkout(commit="v1")) as reader:
        assert all(np.array_equal(reader["images", key], image) for key, image in IMAGES.items())
    assert repo.checkout(commit=contents["head"][:8]).commit_hash == contents["head"]
    assert repo.diff("master", "dev") == original.diff("master", "dev")
    assert [entry.commit for entry in repo.reflog("dev")] == [entry.commit for entry in original.reflog("dev")]
    assert repo.fsck() == []


def test_a_clone_of_a_url(url, original, tmp_path):
    copy = Repository(tmp_path / "copy", exists=False)
    assert copy.clone("Ben", "ben@example.org", url) == "master"
    assert copy.remote.fetch("origin", "dev") == "origin/dev"
    copy.remote.fetch_data("origin", branch="origin/dev")
    with closing(Repository(tmp_path / "copy", offline=True).checkout(branch="origin/dev")) as reader:
        assert np.array_equal(reader["images", 0], IMAGES[1])
    with closing(copy.checkout(write=True)) as writer:
        writer["images", 99] = IMAGES[0]
        writer.commit("mine")
    with pytest.raises(ReadOnlyStoreError):
        copy.remote.push("origin", "master")


WRITES = [
    ("init", lambda repo: repo.init("Ben", "ben@example.org", remove_old=True)),
    ("checkout", lambda repo: repo.checkout(write=True)),
    ("merge", lambda repo: repo.merge("m", "master", "dev")),
    ("create_branch", lambda repo: repo.create_branch("new")),
    ("remove_branch", lambda repo: repo.remove_branch("dev", force_delete=True)),
    ("reset_branch", lambda repo: repo.reset_branch("dev", "master")),
    ("create_tag", lambda repo: repo.create_tag("new")),
    ("delete_tag", lambda repo: repo.delete_tag("v1")),
    ("gc", lambda repo: repo.gc()),
    ("repack", lambda repo: repo.repack()),
    ("purge", lambda repo: repo.purge(column="images", key=0, reason="asked to")),
]


@pytest.mark.parametrize("write", [pytest.param(write, id=name) for name, write in WRITES])
def test_writes_are_refused_before_anything_is_made(url, write, tmp_path):
    repo = Repository(url, cache_dir=tmp_path / "cache")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ReadOnlyStoreError, match="read-only") as caught:
        write(repo)
    assert isinstance(caught.value, PermissionError)
    made = [path.name for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert not any(name.startswith(("staging", "writer-", "config")) for name in made), made


def test_a_repository_cannot_be_made_at_a_url_where_there_is_none(public, tmp_path):
    with pytest.raises(ReadOnlyStoreError, match="cannot make a repository"):
        Repository(f"{public}/none", exists=False, cache_dir=tmp_path / "cache").init("Ben", "ben@example.org")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_gives_nothing_is_forbidden_and_not_empty(tmp_path):
    with hosted(tmp_path, Guarded) as url, pytest.raises(PermissionError, match="owner"):
        Repository(url, cache_dir=tmp_path / "cache")


def test_a_guarded_bucket_without_its_hint(original, tmp_path):
    """The first thing that is asked for may be absent."""
    folder = tmp_path / "copy"
    shutil.copytree(original._storage.root / "store", folder)
    (folder / "refs" / "hint.json").unlink()
    with hosted(folder, Guarded) as url:
        with closing(Repository(url, cache_dir=tmp_path / "cache").checkout(branch="dev")) as reader:
            assert np.array_equal(reader["images", 0], IMAGES[1])
        copy = Repository(tmp_path / "clone", exists=False)
        copy.clone("Ben", "ben@example.org", url)
        with closing(Repository(tmp_path / "clone").checkout()) as reader:
            assert np.array_equal(reader["images", 5], IMAGES[5])


def test_what_needs_a_listing_says_so(public, tmp_path, capsys):
    repo = Repository(public, cache_dir=tmp_path)
    with pytest.raises(UnsupportedStoreError, match="no listings"):
        repo.size_nbytes  # noqa: B018
    repo.summary()
    assert "Disk Usage: not known: the store has no listings" in capsys.readouterr().out


def test_without_the_hint_only_master_is_known_and_others_open_by_name(original, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(original._storage.root / "store", folder)
    (folder / "refs" / "hint.json").unlink()
    with hosted(folder) as url:
        repo = Repository(url, cache_dir=tmp_path / "cache")
        with pytest.warns(UserWarning, match=r"hint\.json is missing, so only branch 'master'"):
            assert repo.list_branches() == ["master"]
        with closing(repo.checkout(branch="dev")) as reader:
            assert np.array_equal(reader["images", 0], IMAGES[1])
        with pytest.raises(ValueError, match="there is no branch 'def'"):
            repo.checkout(branch="def")
        copy = Repository(tmp_path / "clone", exists=False)
        assert copy.clone("Ben", "ben@example.org", url) == "master"


def test_the_server_names_branches_that_the_hint_lacks(original, tmp_path):
    """A writer may die before it writes the hint, and whoever reads over HTTP cannot look for himself."""
    shutil.copytree(original.path, tmp_path / "copy")
    repo = Repository(tmp_path / "copy")
    (repo._storage.root / "store" / "refs" / "hint.json").unlink()
    with running(repo) as server:
        reader = Repository(server.url, cache_dir=tmp_path / "cache")
        assert reader.list_branches() == ["dev", "master"]
        assert [tag.name for tag in reader.list_tags()] == ["v1"]


def test_a_reader_sees_what_is_committed_meanwhile(tmp_path):
    repo = Repository(tmp_path / "repo", exists=False)
    repo.init("Ada", "ada@example.org")
    with closing(repo.checkout(write=True)) as writer:
        labels = writer.add_str_column("labels")
        for number in range(3):
            labels[number] = "x" * 100
            writer.commit(f"commit {number}")
            if number == 0:
                server = RepositoryServer(repo._storage.store, lambda: "", port=0)
                thread = threading.Thread(target=server.serve)
                thread.start()
            with closing(Repository(server.url, cache_dir=tmp_path / "cache").checkout()) as reader:
                assert list(reader["labels"]) == list(range(number + 1))
        server.stop()
        thread.join()


@pytest.mark.parametrize(
    ("header", "status", "start", "end"),
    [
        (None, 200, 0, None),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=10-", 206, 10, None),
        ("bytes=-7", 206, -7, None),
        ("bytes=-99999999", 206, 0, None),
        ("bytes=10-99999999", 206, 10, None),
        ("bytes=5-4", 200, 0, None),
        ("bytes=0-1,4-5", 200, 0, None),
        ("lines=0-1", 200, 0, None),
        ("bytes=-", 200, 0, None),
        ("bytes=99999999-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
    ],
)
def test_ranges(served, original, header, status, start, end):
    (pack,) = (original._storage.root / "store" / "packs").glob("*/*.pack")
    data = pack.read_bytes()
    path = f"/packs/{pack.parent.name}/{pack.name}"
    found, headers, body = ask(served, "GET", path, **({"Range": header} if header else {}))
    assert found == status
    assert headers["Accept-Ranges" if status != 416 else "Content-Range"] == (
        "bytes" if status != 416 else f"bytes */{len(data)}"
    )
    if status != 416:
        assert body == data[start:end]
    if status == 206:
        first = start if start >= 0 else len(data) + start
        assert headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(data)}"


def test_head_and_conditions(served):
    _, headers, body = ask(served, "GET", "/hangar.json")
    tag, modified = headers["ETag"], headers["Last-Modified"]
    status, of_head, nothing = ask(served, "HEAD", "/hangar.json")
    assert (status, of_head["Content-Length"], nothing) == (200, str(len(body)), b"")
    assert ask(served, "GET", "/hangar.json", If_None_Match=tag)[::2] == (304, b"")
    assert ask(served, "GET", "/hangar.json", If_None_Match='"other", W/' + tag)[0] == 304
    assert ask(served, "GET", "/hangar.json", If_None_Match='"other"', If_Modified_Since=modified)[0] == 200
    assert ask(served, "GET", "/hangar.json", If_Modified_Since=modified)[0] == 304
    assert ask(served, "GET", "/hangar.json", If_Modified_Since="no date at all")[0] == 200
    assert ask(served, "GET", "/hangar.json", If_Match='"other"')[0] == 412
    assert ask(served, "GET", "/hangar.json", If_Unmodified_Since="Mon, 01 Jan 2001 00:00:00 GMT")[0] == 412
    assert ask(served, "GET", "/hangar.json", Range="bytes=0-3", If_Range=tag)[0] == 206
    assert ask(served, "GET", "/hangar.json", Range="bytes=0-3", If_Range='"other"')[0] == 200
    assert ask(served, "GET", "/hangar.json", Range="bytes=0-3", If_Range=modified)[0] == 206


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_other_methods_are_refused(served, method):
    status, headers, _ = ask(served, method, "/hangar.json")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        *("/../config.toml", "/%2e%2e/config.toml", "/..%2fconfig.toml", "//etc/passwd", "/packs/../../config.toml"),
        *("/refs/heads/../../../config.toml", "/refs/heads/%2e%2e/0000000000.json", "/hangar.json/", "/hangar.json%00"),
        *("/refs/", "/packs", "/gc/0.condemned.json", "/staging/0/staging.duckdb", "/arrays/../hangar.json", "/%ff"),
        *("/arrays/" + "0" * 32 + "/../../hangar.json", "/arrays/" + "0" * 32 + "/.hangar-tmp-1", "/commits/x.json"),
    ],
)
def test_nothing_else_is_given_out(served, original, path):
    store = original._storage.root / "store"
    (store / "gc").mkdir(exist_ok=True)
    (store / "gc" / "0.condemned.json").write_text("{}")
    assert ask(served, "GET", path)[0] == 404


def test_links_lead_nowhere(original, tmp_path):
    shutil.copytree(original.path, tmp_path / "copy")
    (tmp_path / "secret").write_text("secret")
    store = tmp_path / "copy" / ".hangar" / "store"
    (store / "commits" / f"{'a' * 64}.json").symlink_to(tmp_path / "secret")
    (store / "packs" / "ff").symlink_to(tmp_path)
    (tmp_path / f"{'b' * 32}.pack").write_text("secret")
    with running(Repository(tmp_path / "copy")) as server:
        assert ask(server, "GET", f"/commits/{'a' * 64}.json")[0] == 404
        assert ask(server, "GET", f"/packs/ff/{'b' * 32}.pack")[0] == 404


def test_names_of_objects():
    digest, identity = "0" * 64, "0" * 32
    for name in (
        *("hangar.json", "refs/hint.json", "refs/heads/a.b-c_d/0000000000.json", "refs/tags/v1/0000000012.json"),
        *(
            f"commits/{digest}.json",
            f"records/{identity}.parquet",
            f"packs/00/{identity}.pack",
            f"purged/{digest}.json",
        ),
        *("moves/0000000000.parquet", f"arrays/{identity}/__schema/__1_1_ab"),
    ):
        assert is_served(name), name
    for name in ("", "refs/heads/./0000000000.json", "refs/heads/../0000000000.json", "hangar.json\n", "config.toml"):
        assert not is_served(name), name


def test_a_range_never_leaves_the_object():
    for size in range(4):
        for header in (f"bytes={a}-{b}" for a in ("", 0, 1, 3) for b in ("", 0, 1, 3)):
            try:
                part = wanted_part(header, size) or Part(0, size)
            except Unsatisfiable:
                continue
            assert 0 <= part.start <= part.start + part.length <= size


def test_one_connection_serves_many_requests(served, original):
    connection = http.client.HTTPConnection("localhost", served.port, timeout=30)
    with closing(connection):
        for path in ("/hangar.json", "/none", "/refs/hint.json", "/", "/hangar.json"):
            connection.request("GET", path)
            connection.getresponse().read()
            assert connection.sock is not None, path
        connection.request("PUT", "/hangar.json", body=b"GET /hangar.json HTTP/1.1\r\n\r\n")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (405, "close")


def test_many_clients_at_once(served, original):
    (pack,) = (original._storage.root / "store" / "packs").glob("*/*.pack")
    data, path = pack.read_bytes(), f"/packs/{pack.parent.name}/{pack.name}"
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: ask(served, "GET", path)[2], range(96)))
    assert all(answer == data for answer in answers)


class Failing(CountingStore):
    """Gives the first megabyte of everything."""

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        if offset:
            raise StoreUnavailableError("gone")
        return super().get_range(path, offset, length)


def test_an_object_that_cannot_be_read_to_its_end_is_cut_short(original, tmp_path):
    """Its length was promised by then, so the client notices; before that it is told."""
    name = f"packs/00/{'0' * 32}.pack"
    (tmp_path / "packs" / "00").mkdir(parents=True)
    (tmp_path / name).write_bytes(bytes(3 * 1024 * 1024))
    server = RepositoryServer(Failing(LocalStore(tmp_path)), lambda: "", port=0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with pytest.raises(http.client.IncompleteRead):
            ask(server, "GET", f"/{name}")
        assert ask(server, "GET", f"/{name}", Range="bytes=10-")[0] == 500
        assert ask(server, "GET", f"/{name}", Range="bytes=0-9")[::2] == (206, bytes(10))
    finally:
        server.stop()
        thread.join()


def test_more_connections_than_it_serves(original):
    with running(original) as server, contextlib.ExitStack() as stack:
        for _ in range(256):
            stack.enter_context(socket.create_connection(("localhost", server.port), timeout=30))
        with pytest.raises((http.client.HTTPException, ConnectionError, AssertionError)):
            assert ask(server, "GET", "/hangar.json")[0] == 200
        stack.close()
        for _ in range(100):
            with contextlib.suppress(http.client.HTTPException, ConnectionError):
                if ask(server, "GET", "/hangar.json")[0] == 200:
                    return
            time.sleep(0.05)
    pytest.fail("it never served again")


def test_the_page_for_browsers(served, original):
    status, headers, body = ask(served, "GET", "/")
    page = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert all(text in page for text in ("dev", "master", "v1", "a release", "uint8, 64 x 64", served.url))
    assert "first &lt;script&gt;" in page
    assert "<script" not in page
    head = original.log("dev", return_contents=True)["head"]
    assert f'href="/commits/{head}.json"' in page
    assert ask(served, "GET", f"/commits/{head}.json")[0] == 200


def test_what_a_clone_lacks_is_not_found(original, tmp_path):
    copy = Repository(tmp_path / "copy", exists=False)
    copy.clone("Ben", "ben@example.org", str(original._storage.root / "store"))
    with running(copy) as server:
        reader = Repository(server.url, cache_dir=tmp_path / "cache").checkout()
        with closing(reader), pytest.raises(FileNotFoundError):
            reader["images", 0]


@pytest.mark.parametrize(("host", "private"), [("127.0.0.1", True), ("0.0.0.0", False), ("::1", True)])
def test_other_addresses(original, tmp_path, host, private):
    if ":" in host and not socket.has_ipv6:  # nothing to find out on such a machine
        return
    with running(original, host) as server:
        assert server.is_private is private
        url = server.url if private else f"http://localhost:{server.port}"
        assert Repository(url, cache_dir=tmp_path).list_branches() == ["dev", "master"]


def test_an_address_that_cannot_be_had(served):
    with pytest.raises(InvalidArgumentError, match="cannot listen at localhost port"):
        RepositoryServer(None, lambda: "", port=served.port)
    for host in ("no.such.host.invalid", "192.0.2.1"):
        with pytest.raises(InvalidArgumentError, match="cannot listen at"):
            RepositoryServer(None, lambda: "", host, 0)


def test_it_ends_by_itself(original):
    server = RepositoryServer(original._storage.store, lambda: "", port=0)
    server.serve(timeout=0.05)
    with pytest.raises(ConnectionRefusedError):
        ask(server, "GET", "/")
