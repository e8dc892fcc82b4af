"""From a fault of a request to the error that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hangar_cloud.backends.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    HangarError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
    TruncatedObjectError,
    redact_text,
)
from hangar_cloud.backends.store.retry import Fault

_SHOWN_OPTIONS = frozenset({"endpoint_url", "region_name"})
_MAX_DETAIL = 300
_MAX_CHAIN = 20


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do next, in the words of one kind of store."""

    no_bucket: str
    no_credentials: str
    wrong_credentials: str
    no_permission: str
    unreachable: str = "Check the network connection, the host name and the endpoint_url option, then try again."


_GENERAL_ADVICE = {
    Fault.ABSENT: "Check the name.",
    Fault.EXISTS: "Choose another name.",
    Fault.SHORT: "The object is cut short: fetch or write it again from a copy that is whole.",
    Fault.BUSY: "Try again later, with fewer processes at once.",
    Fault.TRANSIENT: "Try again later.",
    Fault.PERMANENT: "See the details for the reason.",
    Fault.NOT_ASKED: "Correct what the details name; an endpoint_url is like 'http://host:9000'.",
}

_ERRORS: dict[Fault, type[StoreError]] = {
    Fault.ABSENT: ObjectNotFoundError,
    Fault.NO_BUCKET: BucketNotFoundError,
    Fault.SHORT: TruncatedObjectError,
    Fault.NO_CREDENTIALS: AccessDeniedError,
    Fault.WRONG_CREDENTIALS: AccessDeniedError,
    Fault.NO_PERMISSION: AccessDeniedError,
    Fault.UNREACHABLE: StoreUnavailableError,
    Fault.BUSY: StoreUnavailableError,
    Fault.TRANSIENT: StoreUnavailableError,
}


def explain(
    fault: Fault, *, action: str, place: str, advice: Advice, error: BaseException, options: Mapping[str, Any]
) -> HangarError:
    """Return our error for a failed request.

    action: what was tried, such as ``read``. place: the object's URL, already redacted. error: the driver's
    exception, whose text is quoted without any value in ``options`` other than endpoint and region.
    """
    if isinstance(error, HangarError):
        return error
    kind = _ERRORS.get(fault, StoreError)
    message = f"Cannot {action} {place}: {fault.value}. {_next_step(fault, advice)}"
    if fault not in (Fault.ABSENT, Fault.NO_BUCKET):
        message += f" (details: {quote_detail(error, options)})"
    return kind(message)


class DriverError(Exception):
    """Stands in a chain of causes for a driver's exception whose words had a secret in them."""


def safe_cause(error: BaseException, options: Mapping[str, Any]) -> BaseException:
    """The cause to raise an error of ours from: the driver's exception, or a stand-in if it, or one behind it, tells
    a secret. Tracebacks and loggers print whole chains."""
    link: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if link is None:
            return error
        words = f"{link} {link!r} {getattr(link, '__notes__', '')}"
        if not isinstance(link, HangarError) and without_secrets(words, options) != words:
            return DriverError(quote_detail(error, options))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return DriverError(quote_detail(error, options))


def quote_detail(error: BaseException, options: Mapping[str, Any]) -> str:
    """Return the driver's words, shortened, without URLs' secrets and without the values in ``options``."""
    text = without_secrets(f"{type(error).__name__}: {error}".strip().removesuffix(":"), options)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_DETAIL else f"{text[:_MAX_DETAIL]}..."


def without_secrets(text: str, options: Mapping[str, Any]) -> str:
    """Return ``text`` without URLs' secrets and without the values in ``options`` other than endpoint and region."""
    text = redact_text(text)
    for secret in sorted(_hidden_values(options), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _next_step(fault: Fault, advice: Advice) -> str:
    if fault in _GENERAL_ADVICE:
        return _GENERAL_ADVICE[fault]
    step: str = getattr(advice, fault.name.lower())
    return step


def _hidden_values(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _hidden_values(value)
        elif isinstance(value, str) and len(value) > 2 and name not in _SHOWN_OPTIONS:
            yield value
