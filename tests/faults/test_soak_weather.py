"""Stores that answer late, twice or never, refuse for seconds, and cut bodies: the outcome is the same."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.faults.crew import Crew, make_columns
from tests.faults.ingest import SHAPE
from tests.faults.proxy import FaultProxy, cut_bodies, delays, dropped_answers, slow_downs
from tests.repository.making import read_all, same_columns

SHORT = {
    "dropped": lambda: dropped_answers(every=10),
    "delayed": lambda: delays(longest=2.0, share=0.1),
    "refused": lambda: slow_downs(seconds=3.0, every=30.0),
    "cut": lambda: cut_bodies(every=6),
}
LONG = SHORT | {
    "delayed": lambda: delays(longest=2.0),
    "refused": lambda: slow_downs(seconds=6.0, every=15.0),
}


@pytest.fixture
def server(request):
    """The server of that name."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def url(request, server):
    """A prefix in its bucket that nobody has used."""
    return request.getfixturevalue("s3_url" if server.url.startswith("s3") else "gcs_url")


def ingest_in(weather, server, url, folder, **size):
    """Let jobs do their work through a proxy, share the outcome through it, and look at it without."""
    direct = server.storage_options
    make_columns(url, direct, folder / "owner")
    with FaultProxy(server.endpoint, weather) as proxy:
        options = server.options_for(proxy.url)
        crew = Crew(folder, url, options, **size)
        crew.work()
        share_through(url, options, folder, crew.expected())
    crew.check(direct, shared=1)
    return proxy.fates


def share_through(url, options, folder, expected):
    """Two people clone; what one commits and pushes, the other fetches and reads."""
    people = [Repository(folder / name, exists=False, storage_options=options) for name in ("one", "other")]
    for person in people:
        person.clone("Test User", "test@example.org", url)
    one, other = people
    images, labels = expected
    one.remote.fetch_data("origin", "master")
    held = {"image": dict(sorted(images.items())), "label": dict(sorted(labels.items()))}
    assert same_columns(read_all(Repository(one.path, offline=True)), held)
    writer = one.checkout(write=True)
    writer["image", "mine"] = np.full(SHAPE, 7, np.uint8)
    writer["label", "mine"] = np.array(7, np.int64)
    writer.commit("mine")
    writer.close()
    assert one.remote.push("origin", "master") == "master"
    other.remote.fetch("origin", "master")
    assert same_columns(read_all(other, branch="origin/master"), read_all(one))


@pytest.mark.parametrize(
    ("server", "name"), [*(("s3", name) for name in SHORT), ("gcs", "dropped"), ("gcs", "cut")], indirect=["server"]
)
def test_two_writers(server, url, tmp_path, name):
    fates = ingest_in(SHORT[name](), server, url, tmp_path, writers=2, batches=2, images=20)
    assert fates[name]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("server", ["s3", "gcs"], indirect=True)
def test_six_writers(server, url, tmp_path, name):
    fates = ingest_in(LONG[name](), server, url, tmp_path, writers=6, batches=6, images=60)
    print(dict(fates))
    assert fates[name]
