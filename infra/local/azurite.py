"""An Azure Blob server on this machine: Azurite, which is a package of npm (``npm install -g azurite``)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

from infra.local.server_process import RunsInBlock, ServerPackageMissingError, ServerProcess, answers, free_ports

if TYPE_CHECKING:
    from typing_extensions import Self

ACCOUNT: Final = "devstoreaccount1"
KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Those that every Azurite has: https://learn.microsoft.com/azure/storage/common/storage-use-azurite."""


class AzuriteServer(RunsInBlock):
    """An Azurite with one container ready; a context manager.

    url: ``az://<container>``. endpoint: ``http://127.0.0.1:<port>/<account>``. storage_options: for adlfs.
    """

    def __init__(self, container: str = "hangar-test") -> None:
        self.container = container
        self.url = f"az://{container}"
        self.endpoint = ""
        self.process = ServerProcess("azurite")

    @property
    def storage_options(self) -> dict[str, Any]:
        return self.options_for(self.endpoint)

    def options_for(self, endpoint: str) -> dict[str, Any]:
        """storage_options for another way to this server, such as a proxy's URL."""
        account = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
        return {"connection_string": f"DefaultEndpointsProtocol=http;{account}"}

    def start(self) -> Self:
        """Start the server and return once the container is there.

        Raises ServerPackageMissingError if Azurite, or adlfs, is not installed.
        """
        program = shutil.which("azurite-blob")
        if program is None:
            raise ServerPackageMissingError("the Azure server is not installed: npm install -g azurite")
        try:
            from azure.storage.blob import BlobServiceClient
        except ImportError as error:
            raise ServerPackageMissingError("the Azure driver is not installed: pip install adlfs") from error
        (port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        where = ["--blobPort", str(port), "--location", str(self.process.folder)]
        self.process.start([program, *where, "--silent", "--skipApiVersionCheck", "--disableTelemetry"])
        self.process.wait_until(lambda: answers(self.endpoint))
        with BlobServiceClient.from_connection_string(self.storage_options["connection_string"]) as client:
            client.create_container(self.container)
        return self

    def stop(self) -> None:
        self.process.stop()
