"""Objects in Azure Blob Storage: adlfs, and obstore for what is asked by the thousand."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from hangar_cloud.backends.store.explaining import Advice
from hangar_cloud.backends.store.fsspec_store import FsspecStore
from hangar_cloud.backends.store.retry import Fault

_ADVICE: Final = Advice(
    no_bucket="Check the container's name and the account, or create the container.",
    no_credentials=(
        "Give storage_options such as {'account_name': …, 'account_key': …} or {'connection_string': …}, or set "
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; for a public container {'account_name': …, 'anon': "
        "True}."
    ),
    wrong_credentials="Check account_key, sas_token or connection_string; a token may have expired.",
    no_permission="Ask the owner for the role Storage Blob Data Reader to read, or Contributor to write.",
)
_NO_CONTAINER: Final = "ContainerNotFound"
_NO_CREDENTIALS: Final = "Must provide either a connection_string"
_REFUSED: Final = "failed to authenticate"
_BY_TYPE_NAME: Final = {
    "ResourceExistsError": Fault.EXISTS,
    "ContainerNotFound": Fault.NO_BUCKET,
    "ClientAuthenticationError": Fault.WRONG_CREDENTIALS,
    "ServiceRequestError": Fault.UNREACHABLE,
    "ServiceResponseError": Fault.TRANSIENT,
}
_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 60
# Of a whole request: a slow line takes minutes for some MiB.
_MOST_SECONDS: Final = 24 * 3600
_LOADED_IN: Final[dict[str, int]] = {}


class AzureStore(FsspecStore):
    """Objects below ``az://container/prefix`` or ``abfs://``. Creates carry ``If-None-Match: *``.

    storage_options are those of ``adlfs.AzureBlobFileSystem``, which finds the account and its credentials. Reading
    goes through obstore where that is installed and the credentials are a key, a signature or none: adlfs takes 2 ms
    of CPU for a request, obstore 0.2. Whatever obstore fails with, adlfs is asked, and has the last word.
    """

    advice = _ADVICE
    package = "adlfs"
    _reader: tuple[int, Any] | None = None

    def _make_filesystem(self) -> Any:
        filesystem = super()._make_filesystem()
        # Azure's SDK waits 15 seconds before it tries again. Trying again is ours.
        policy = getattr(getattr(filesystem.service_client, "_config", None), "retry_policy", None)
        if policy is not None:
            policy.total_retries = 0
        return filesystem

    async def _read(self, path: str, offset: int | None, length: int) -> bytes:
        reader = self._blobs()
        if reader is not None:
            name = self._full(path).partition("/")[2]
            try:
                return await _content(reader, name, offset, length)
            except FileNotFoundError:
                raise
            except Exception:  # noqa: BLE001, S110 - adlfs says what is wrong
                pass
        return await super()._read(path, offset, length)

    def _classify(self, error: BaseException) -> Fault:
        if isinstance(error, FileNotFoundError) and any(_NO_CONTAINER in str(e) for e in (error, error.__cause__)):
            return Fault.NO_BUCKET
        if isinstance(error, ValueError) and _NO_CREDENTIALS in str(error):
            return Fault.NO_CREDENTIALS
        if hasattr(error, "error_code") and _REFUSED in str(error):
            return Fault.WRONG_CREDENTIALS
        return _BY_TYPE_NAME.get(type(error).__name__) or super()._classify(error)

    def _blobs(self) -> Any:
        """The container as obstore reads it, None where it is left to adlfs."""
        process = os.getpid()
        if self._reader is None or self._reader[0] != process:
            # The threads that obstore waits for are those of the process that loaded it.
            alone = _LOADED_IN.setdefault("process", process) == process
            container = self._full("").partition("/")[0]
            self._reader = process, _opened(container, self._filesystem()) if alone else None
        return self._reader[1]


def obstore_settings(filesystem: Any) -> dict[str, Any] | None:
    """What obstore has to be told to ask the account that adlfs found, with its credentials.

    Args:
        filesystem: an ``adlfs.AzureBlobFileSystem``.

    Returns:
        None where it is not a key, a signature or nothing that it asks with.
    """
    client = filesystem.service_client
    parts = urlsplit(client.url)
    settings: dict[str, Any] = {"endpoint": urlunsplit((*parts[:2], parts.path.rstrip("/"), "", ""))}
    credential = client.credential
    key, account = getattr(credential, "account_key", None), getattr(credential, "account_name", None)
    if key and account:
        return {**settings, "account_name": account, "account_key": key}
    if credential is not None:
        return None
    settings["account_name"] = parts.netloc.partition(".")[0]
    if "sig=" in parts.query:
        return {**settings, "sas_key": parts.query}
    return {**settings, "skip_signature": True} if filesystem.anon else None


def _opened(container: str, filesystem: Any) -> Any:
    try:
        from obstore.store import AzureStore as Container
    except ImportError:
        return None
    settings: Any = obstore_settings(filesystem)
    if settings is None:
        return None
    options: Any = {
        "connect_timeout": f"{_CONNECT_SECONDS}s",
        "read_timeout": f"{_READ_SECONDS}s",
        "timeout": f"{_MOST_SECONDS}s",
        "allow_http": settings["endpoint"].startswith("http://"),
    }
    return Container(container, config=settings, client_options=options, retry_config={"max_retries": 0})


async def _content(container: Any, name: str, offset: int | None, length: int) -> bytes:
    import obstore

    if offset is None:
        return bytes(await (await obstore.get_async(container, name)).bytes_async())
    return bytes(await obstore.get_range_async(container, name, start=offset, length=length))
