"""Fixtures of real servers, each started once per test process, on free ports."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from infra.local import DelayingProxy, FakeGcsServer, SeaweedS3Server, ServerPackageMissingError

if TYPE_CHECKING:
    from collections.abc import Callable

_Server = TypeVar("_Server", SeaweedS3Server, FakeGcsServer)


def _serve(make: Callable[[], _Server]) -> Iterator[_Server]:
    server = make()
    try:
        server.start()
    except ServerPackageMissingError as error:
        server.stop()
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[SeaweedS3Server]:
    """A SeaweedFS server: ``.url``, ``.bucket``, ``.endpoint``, ``.storage_options``, ``.reader_options``."""
    yield from _serve(SeaweedS3Server)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[FakeGcsServer]:
    """A fake-gcs-server: ``.url``, ``.bucket``, ``.endpoint``, ``.storage_options``."""
    yield from _serve(FakeGcsServer)


@pytest.fixture
def s3_url(s3_server: SeaweedS3Server) -> str:
    """A prefix in the S3 bucket that nobody has used; open it with ``s3_options``."""
    return f"{s3_server.url}/{uuid.uuid4().hex}"


@pytest.fixture
def s3_options(s3_server: SeaweedS3Server) -> dict[str, Any]:
    """storage_options for ``s3_url``."""
    return s3_server.storage_options


@pytest.fixture
def gcs_url(gcs_server: FakeGcsServer) -> str:
    """A prefix in the GCS bucket that nobody has used; open it with ``gcs_options``."""
    return f"{gcs_server.url}/{uuid.uuid4().hex}"


@pytest.fixture
def gcs_options(gcs_server: FakeGcsServer) -> dict[str, Any]:
    """storage_options for ``gcs_url``."""
    return gcs_server.storage_options


@pytest.fixture
def s3_proxy(s3_server: SeaweedS3Server) -> Iterator[DelayingProxy]:
    """A proxy before the S3 server; open stores with ``s3_server.options_for(s3_proxy.url)``."""
    with DelayingProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def gcs_proxy(gcs_server: FakeGcsServer) -> Iterator[DelayingProxy]:
    """A proxy before the GCS server; open stores with ``gcs_server.options_for(gcs_proxy.url)``."""
    with DelayingProxy(gcs_server.endpoint) as proxy:
        yield proxy
