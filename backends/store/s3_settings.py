"""What TileDB has to be told to read a bucket as the driver does."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

_UNDERSTOOD: Final = {"key", "secret", "token", "anon", "endpoint_url", "client_kwargs", "profile", "use_ssl"}
_CLIENT: Final = {"region_name", "endpoint_url", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"}


async def s3_settings(client: Any, options: Mapping[str, Any]) -> dict[str, str] | None:
    """TileDB's settings for a bucket, with the credentials, region and endpoint that the driver uses.

    Args:
        client: an `S3Client`.
        options: that it was made with.

    Returns:
        None if an option has no counterpart there, or there are no credentials.
    """
    client_options = options.get("client_kwargs") or {}
    if set(options) - _UNDERSTOOD or set(client_options) - _CLIENT:
        return None
    meta = client.boto.meta
    endpoint = urlsplit(meta.endpoint_url)
    amazon = (endpoint.hostname or "").endswith(("amazonaws.com", "amazonaws.com.cn"))
    settings = {"vfs.s3.region": meta.region_name or "us-east-1", "vfs.s3.scheme": endpoint.scheme}
    if not amazon:
        settings["vfs.s3.endpoint_override"] = endpoint.netloc + endpoint.path.rstrip("/")
        settings["vfs.s3.use_virtual_addressing"] = "false"
    authorities = ssl.get_default_verify_paths().cafile
    if authorities:
        settings["vfs.s3.ca_file"] = authorities
    keys = client.keys()
    if keys is None:
        return {**settings, "vfs.s3.no_sign_request": "true"}
    settings["vfs.s3.aws_access_key_id"] = keys.access
    settings["vfs.s3.aws_secret_access_key"] = keys.secret
    return {**settings, "vfs.s3.aws_session_token": keys.token} if keys.token else settings
