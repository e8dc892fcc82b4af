"""Running the function of a bulk import on one item, and checking everything that it yields."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.values import sample_identity
from hangar_cloud.bulk.messages import Item
from hangar_cloud.bulk.udf import UDF_Return, describe_item, name_of
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import InvalidNameError, InvalidSampleError
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.schema import Payload
from hangar_cloud.errors import BulkImportError, UdfError
from hangar_cloud.given_keys import checked_key

_COMPARED_SAMPLES: Final = 1_000
_MOST_TRACE: Final = 100_000
_COMPARED_BYTES: Final = 64 * 1024 * 1024


class ItemSample(NamedTuple):
    """One checked sample, and the number of the item that it came from."""

    column: str
    key: RowKey
    payload: Payload
    item: int


class ItemReader:
    """Runs the function on items.

    Args:
        columns: those that it may name.
        pickled: the function.

    Raises:
        UdfError: the function cannot be loaded in this process.
    """

    def __init__(self, columns: Mapping[str, ColumnEntry], pickled: bytes) -> None:
        self._columns = columns
        self._udf = _loaded(pickled, "udf")

    def read(self, item: Item) -> Iterator[ItemSample]:
        """The samples of one item.

        Raises:
            BulkImportError: the function raised.
            UdfError: it yields something else, or other samples when it is run again.
            InvalidNameError, InvalidSampleError: a column, key or value that does not fit.
        """
        seen: list[_Seen] = []
        size = 0
        for sample in self._samples(item):
            if item.twice and len(seen) < _COMPARED_SAMPLES and size < _COMPARED_BYTES:
                seen.append(_seen(sample))
                size += len(sample.payload.data)
            yield sample
        if item.twice:
            self._compare(item, seen, whole=len(seen) < _COMPARED_SAMPLES and size < _COMPARED_BYTES)

    def _compare(self, item: Item, first: list[_Seen], whole: bool) -> None:
        """Run the function once more, and raise UdfError if it does not yield the same."""
        again = self._samples(item)
        try:
            second = (_seen(sample) for sample in again)
            pairs = zip_longest(first, second) if whole else zip(first, second, strict=False)
            for position, (one, other) in enumerate(pairs):
                if one != other:
                    raise UdfError(
                        f"{self._what(item)}: {name_of(self._udf)} yields different results when it is called again "
                        f"with the same arguments (result {position}: {_told(one)}, then {_told(other)}). It must be "
                        "deterministic: take random numbers from a generator that is seeded from the arguments, and "
                        "sort what comes from sets and folders. Nothing was imported"
                    )
        finally:
            again.close()

    def _samples(self, item: Item) -> Generator[ItemSample, None, None]:
        for result in self._results(item):
            yield self._checked(result, item)

    def _results(self, item: Item) -> Iterator[Any]:
        """What the function yields, as it is."""
        kwargs = _loaded(item.kwargs, f"udf_kwargs[{item.number}]")
        results = self._guarded(item, lambda: self._udf(**kwargs))
        if isinstance(results, (UDF_Return, str, bytes, Mapping)) or not hasattr(results, "__iter__"):
            raise UdfError(
                f"{self._what(item)}: {name_of(self._udf)} returned {type(results).__name__}; it must be a generator "
                "function: `yield UDF_Return(...)` rather than return"
            )
        iterator = self._guarded(item, lambda: iter(results))
        try:
            while (result := self._guarded(item, lambda: next(iterator, _END))) is not _END:
                yield result
        finally:
            if hasattr(iterator, "close"):
                self._guarded(item, iterator.close)

    def _guarded(self, item: Item, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except BaseException as error:  # whatever the user's code raises; Control-C never comes to this process
            told, trace = _error_told(error)
            raise BulkImportError(
                f"{self._what(item)}: {name_of(self._udf)} raised {told}. Nothing was imported", item.number, trace
            ) from error

    def _checked(self, result: Any, item: Item) -> ItemSample:
        if not isinstance(result, UDF_Return):
            raise UdfError(
                f"{self._what(item)}: {name_of(self._udf)} must yield UDF_Return(column=..., key=..., data=...), not "
                f"{type(result).__name__}"
            )
        entry = self._columns.get(result.column) if isinstance(result.column, str) else None
        if entry is None:
            raise InvalidSampleError(
                f"{self._what(item)}: {name_of(self._udf)} yields a sample of column {result.column!r}, which is not "
                f"in column_names: {', '.join(self._columns)}"
            )
        try:
            key = _row_key(result.column, entry.schema.column_layout, result.key)
            payload = entry.schema.encode(result.data, f"column {result.column!r}, sample {result.key!r}")
        except HangarError as error:
            raise type(error)(f"{self._what(item)}: {error}") from None
        return ItemSample(result.column, key, payload, item.number)

    def _what(self, item: Item) -> str:
        return describe_item(item.number, _loaded(item.kwargs, f"udf_kwargs[{item.number}]"))


_END: Final = object()
_Seen = tuple[str, RowKey, bytes]


def _seen(sample: ItemSample) -> _Seen:
    payload = sample.payload
    return sample.column, sample.key, sample_identity(payload.prefix, payload.data, payload.shape)


def _told(seen: _Seen | None) -> str:
    return "nothing" if seen is None else f"column {seen[0]!r}, key {seen[1]!r}, contents {seen[2][1:5].hex()}"


def _error_told(error: BaseException) -> tuple[str, str]:
    """An error in a line, and its traceback; also one that cannot be made text, is endless, or is no Unicode."""
    try:
        told = f"{type(error).__name__}: {error}"
    except Exception as another:  # noqa: BLE001 - a mistake in the user's class
        told = f"{type(error).__name__} (and {type(another).__name__} when it was asked what it says)"
    trace = "".join(traceback.format_exception(type(error), error, _users(error.__traceback__)))
    if len(trace) > _MOST_TRACE:
        trace = f"{trace[: _MOST_TRACE // 2]}\n[…]\n{trace[-_MOST_TRACE // 2 :]}"
    return _printable(told[:1000]), _printable(trace)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _users(trace: Any) -> Any:
    """A traceback from where the user's code begins."""
    return trace.tb_next.tb_next if trace is not None and trace.tb_next is not None else trace


def _row_key(column: str, layout: str, key: Any) -> RowKey:
    """The key as records have it. Raises InvalidNameError."""
    where = f"column {column!r}"
    if layout == "flat":
        return checked_key(key, where)
    if not isinstance(key, (tuple, list)) or len(key) != 2:
        raise InvalidNameError(f"{where} is nested: its keys are pairs (sample, subsample); {key!r} is not suitable")
    return checked_key(key[0], where), checked_key(key[1], f"{where}, sample {key[0]!r}, subsample")


def _loaded(pickled: bytes, what: str) -> Any:
    """What the calling process has pickled. Raises UdfError."""
    import pickle

    try:
        return pickle.loads(pickled)  # noqa: S301 - from the process that started this one, over a pipe
    except Exception as error:  # loading runs code of the user's modules
        raise UdfError(
            f"{what} cannot be loaded in another process ({type(error).__name__}: {error}). What it refers to must be "
            "in modules that can be imported there, or be defined beside it"
        ) from error
