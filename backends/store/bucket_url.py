"""The two halves of a bucket's URL."""

from __future__ import annotations

from hangar_cloud.backends.errors import UnsupportedStoreError, redact_url


def split_bucket_url(url: str) -> tuple[str, str]:
    """Return the bucket and the prefix of its objects (empty, or ending in ``/``) of ``scheme://bucket/prefix``.

    Raises UnsupportedStoreError if there is no bucket, or if the URL carries credentials or a query.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.strip("/").partition("/")
    example = f"Use {scheme}://bucket/path"
    if not bucket or rest.startswith("/"):
        raise UnsupportedStoreError(f"{redact_url(url)!r} names no bucket. {example}.")
    if "@" in bucket or ":" in bucket:
        raise UnsupportedStoreError(
            f"{redact_url(url)!r} carries credentials or a host. {example} and give key, secret and "
            "endpoint_url as storage_options."
        )
    if "?" in rest or "#" in rest:
        raise UnsupportedStoreError(f"{redact_url(url)!r} carries a query or fragment. {example} alone.")
    prefix = prefix.strip("/")
    if any(component in ("", ".", "..") for component in prefix.split("/")) and prefix:
        raise UnsupportedStoreError(f"{redact_url(url)!r} has an empty, '.' or '..' component. {example}.")
    return bucket, f"{prefix}/" if prefix else ""
