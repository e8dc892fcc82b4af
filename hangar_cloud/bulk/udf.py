"""The function that a bulk import runs: what it yields, and what can be told about it before it runs."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from hangar_cloud.errors import InvalidArgumentError, UdfError

_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_MOST_SHOWN: Final = 300


class UDF_Return(NamedTuple):  # noqa: N801 - the name that Hangar's users import
    """One sample, as the function of a bulk import yields it.

    Attributes:
        column: name of the column.
        key: of the sample; in a nested column a pair (sample, subsample).
        data: ndarray, str or bytes, as the column takes it.
    """

    column: str
    key: Any
    data: Any


def check_udf(udf: Any) -> None:
    """Raises UdfError if this cannot be a generator function."""
    if not callable(udf):
        raise UdfError(f"udf must be a generator function that yields UDF_Return, not {type(udf).__name__}")
    if inspect.iscoroutinefunction(udf) or inspect.isasyncgenfunction(udf):
        raise UdfError(f"udf must be an ordinary generator function; {name_of(udf)} is asynchronous")


def check_items(udf: Any, udf_kwargs: Any) -> list[Mapping[str, Any]]:
    """The items, each a mapping that the function can be called with.

    Raises:
        UdfError: one of them is none, or does not fit the function's signature; says which.
    """
    if not isinstance(udf_kwargs, Sequence) or isinstance(udf_kwargs, (str, bytes)):
        raise UdfError(f"udf_kwargs must be a list of dicts, one for each call, not {type(udf_kwargs).__name__}")
    try:
        signature = inspect.signature(udf)
    except ValueError:  # of some functions written in C it is not known
        signature = None
    for number, kwargs in enumerate(udf_kwargs):
        if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
            raise UdfError(f"udf_kwargs[{number}] must be a dict of keyword arguments, not {_REPR.repr(kwargs)}")
        if signature is None:
            continue
        try:
            signature.bind(**kwargs)
        except TypeError as error:
            raise UdfError(
                f"udf_kwargs[{number}] does not fit {name_of(udf)}{signature}: {error}; it has {sorted(kwargs)}"
            ) from None
    return list(udf_kwargs)


def check_share(recheck: Any) -> float:
    """Raises InvalidArgumentError if this is not a share of the items."""
    if isinstance(recheck, bool) or not isinstance(recheck, (int, float)) or not 0 <= recheck <= 1:
        raise InvalidArgumentError(f"recheck is a share of the items, from 0 to 1, not {recheck!r}")
    return float(recheck)


def name_of(udf: Any) -> str:
    """A function's name, for messages."""
    return str(getattr(udf, "__qualname__", None) or type(udf).__qualname__)


def describe_item(number: int, kwargs: Mapping[str, Any]) -> str:
    """An item in a few words, for messages."""
    shown = ", ".join(f"{name}={_REPR.repr(value)}" for name, value in kwargs.items())
    return f"item {number} of udf_kwargs ({shown[:_MOST_SHOWN]})"
