"""The storage options of s3fs, as far as requests of our own can be made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_UNDERSTOOD: Final = frozenset(
    {
        "anon",
        "client_kwargs",
        "config_kwargs",
        "endpoint_url",
        "key",
        "max_concurrency",
        "password",
        "profile",
        "secret",
        "token",
        "use_ssl",
        "username",
    }
)
_CLIENT: Final = frozenset(
    {
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "endpoint_url",
        "region_name",
        "use_ssl",
        "verify",
    }
)
_CONFIG: Final = frozenset({"connect_timeout", "read_timeout", "region_name", "s3"})
_ADDRESSING: Final = frozenset({"addressing_style"})
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_EXPRESS: Final = "--x-s3"
"""The end of names of directory buckets, which have signatures of their own."""


def with_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with what fsspec is configured to add to them for S3 (a file, or ``FSSPEC_S3_...``)."""
    from fsspec.config import conf

    return {**conf.get("s3", {}), **conf.get("s3a", {}), **options}


def is_understood(bucket: str, options: Mapping[str, Any]) -> bool:
    """Whether `S3Client` can do what these options ask for; if not, s3fs has to.

    Args:
        bucket: its name.
        options: with defaults.
    """
    client, config = options.get("client_kwargs") or {}, options.get("config_kwargs") or {}
    if not isinstance(client, Mapping) or not isinstance(config, Mapping):
        return False
    return (
        set(options) <= _UNDERSTOOD
        and set(client) <= _CLIENT
        and set(config) <= _CONFIG
        and set(config.get("s3") or {}) <= _ADDRESSING
        and not bucket.endswith(_EXPRESS)
        and not _is_proxied(options.get("endpoint_url") or client.get("endpoint_url"))
    )


def _is_proxied(endpoint: object) -> bool:
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    if not proxies or not isinstance(endpoint, (str, type(None))):
        return bool(proxies)
    scheme, _, rest = (endpoint or "https://s3.amazonaws.com").partition("://")
    return (scheme in proxies or "all" in proxies) and not proxy_bypass(rest.partition("/")[0])


class S3Options:
    """What the options of s3fs mean to botocore.

    Args:
        options: understood ones.
        connections: how many botocore keeps.
    """

    def __init__(self, options: Mapping[str, Any], connections: int) -> None:
        self._options = options
        self._client = dict(options.get("client_kwargs") or {})
        self._config = dict(options.get("config_kwargs") or {})
        self._connections = connections
        self.anonymous = bool(options.get("anon"))
        self.profile: str | None = options.get("profile")
        self.connect_timeout = float(self._config.get("connect_timeout", _CONNECT_SECONDS))
        self.read_timeout = float(self._config.get("read_timeout", _READ_SECONDS))

    @property
    def keys(self) -> tuple[str, str, str | None] | None:
        """Key, secret and token, if they are given."""
        found = self._given_keys()
        if not found.get("aws_access_key_id") or not found.get("aws_secret_access_key"):
            return None
        return found["aws_access_key_id"], found["aws_secret_access_key"], found.get("aws_session_token")

    def config(self) -> Any:
        """botocore's ``Config``."""
        from botocore import UNSIGNED
        from botocore.config import Config

        made = {
            "connect_timeout": self.connect_timeout,
            "read_timeout": self.read_timeout,
            "max_pool_connections": self._connections,
            # Retrying is ours: two layers would multiply their attempts and their waits.
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            # Parts are sent with their SHA-256, which any server knows; not every one knows checksums in trailers.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            **self._config,
        }
        if self.anonymous:
            made["signature_version"] = UNSIGNED
        return Config(**made)

    def client_arguments(self) -> dict[str, Any]:
        """The arguments of ``create_client``."""
        made = {"use_ssl": self._options.get("use_ssl", True), **self._client}
        if self._options.get("endpoint_url"):
            made["endpoint_url"] = self._options["endpoint_url"]
        for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
            made.pop(name, None)
        return made if self.anonymous else {**made, **self._given_keys()}

    def verify(self, session: Any) -> Any:
        """What TLS certificates are checked against: a file, True for the usual authorities, False for nothing."""
        given = self._client.get("verify")
        return given if given is not None else session.get_config_variable("ca_bundle") or True

    def _given_keys(self) -> dict[str, Any]:
        given = self._options
        found = {
            "aws_access_key_id": given.get("key") or given.get("username") or self._client.get("aws_access_key_id"),
            "aws_secret_access_key": given.get("secret")
            or given.get("password")
            or self._client.get("aws_secret_access_key"),
            "aws_session_token": given.get("token") or self._client.get("aws_session_token"),
        }
        return {name: value for name, value in found.items() if value is not None}
