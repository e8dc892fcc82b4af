"""The metadata of a checkout: a versioned mapping from text to text, about the dataset as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hangar_cloud.catalog.errors import InvalidNameError
from hangar_cloud.catalog.keys import KeyType, check_key
from hangar_cloud.catalog.receipts import RESERVED_PREFIX, is_reserved
from hangar_cloud.column_reader import FlatSampleReader
from hangar_cloud.column_writer import MISSING
from hangar_cloud.errors import InvalidArgumentError, SampleNotFoundError
from hangar_cloud.given_keys import pairs_of


class MetadataReader:
    """The dataset's card: description, licence, homepage, or whatever is put there. Read-only.

    Args:
        column: gives the str column that holds it, None while there is none.
        check: raises once the checkout is closed.
    """

    def __init__(self, column: Callable[[], FlatSampleReader | None], check: Callable[[], None]) -> None:
        self._column = column
        self._check = check

    def __getitem__(self, key: KeyType) -> str:
        """The text of a key. Raises KeyError where there is none."""
        self._check()
        column = self._column()
        if column is None or is_reserved(key) or key not in column:
            raise SampleNotFoundError(f"the metadata has no key {key!r}")
        return str(column[key])

    def get(self, key: KeyType, default: Any = None) -> Any:
        """The text of a key, or `default`."""
        self._check()
        column = self._column()
        return default if column is None or is_reserved(key) else column.get(key, default)

    def __contains__(self, key: object) -> bool:
        self._check()
        column = self._column()
        return column is not None and not is_reserved(key) and key in column

    def __len__(self) -> int:
        self._check()
        column = self._column()
        return 0 if column is None else sum(not is_reserved(key) for key in column)

    def __iter__(self) -> Iterator[KeyType]:
        return self.keys()

    def keys(self) -> Iterator[KeyType]:
        """Keys in order."""
        self._check()
        column = self._column()
        return iter(()) if column is None else (key for key in column if not is_reserved(key))

    def values(self) -> Iterator[str]:
        """Texts in key order."""
        return (value for _, value in self.items())

    def items(self) -> Iterator[tuple[KeyType, str]]:
        """Keys and texts in key order."""
        self._check()
        column = self._column()
        return iter(()) if column is None else ((key, column[key]) for key in self.keys())

    @property
    def iswriteable(self) -> bool:
        """True in a checkout for writing."""
        self._check()
        return False

    def __enter__(self) -> Any:
        self._check()
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __repr__(self) -> str:
        self._check()
        return f"Hangar Metadata\n    Writeable: {self.iswriteable}\n    Number of Keys: {len(self)}"


class MetadataWriter(MetadataReader):
    """The same in a checkout for writing.

    Args:
        column: as above.
        check: as above.
        make: makes the str column that holds it, at the first write.
    """

    def __init__(
        self, column: Callable[[], FlatSampleReader | None], check: Callable[[], None], make: Callable[[], Any]
    ) -> None:
        super().__init__(column, check)
        self._make = make
        self._open: list[Any] = []

    def __setitem__(self, key: KeyType, value: str) -> None:
        """Store a text. Raises ValueError where key or value is not suitable."""
        self._check()
        _check_item(key, value)
        self._writer()[key] = value

    def update(self, other: Mapping[KeyType, str] | Iterable[tuple[KeyType, str]] | None = None, **kwargs: str) -> None:
        """Store many texts; all are checked before any is written."""
        self._check()
        items = list(pairs_of(other, kwargs, "metadata"))
        for key, value in items:
            _check_item(key, value)
        if items:
            self._writer().update(items)

    def __delitem__(self, key: KeyType) -> None:
        """Remove a key. Raises KeyError where there is none."""
        self._check()
        if key not in self:
            raise SampleNotFoundError(f"the metadata has no key {key!r} to remove")
        del self._writer()[key]

    def pop(self, key: KeyType, default: Any = MISSING) -> Any:
        """Remove a key and return its text, or `default` if given and there is none; else raises KeyError."""
        if default is not MISSING and key not in self:
            return default
        value = self[key]
        del self[key]
        return value

    @property
    def iswriteable(self) -> bool:
        """True."""
        self._check()
        return True

    def __enter__(self) -> Any:
        self._check()
        column = self._column()
        if column is not None:
            self._open.append(column.__enter__())
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._open.pop().__exit__(None, None, None)

    def _writer(self) -> Any:
        column = self._column()
        return self._make() if column is None else column


def _check_item(key: object, value: object) -> None:
    try:
        check_key(key)
    except InvalidNameError as error:
        raise InvalidNameError(f"metadata: {error}") from None
    if is_reserved(key):
        raise InvalidNameError(
            f"metadata key {key!r} is not suitable: keys that begin with {RESERVED_PREFIX!r} are ours"
        )
    if not isinstance(value, str):
        raise InvalidArgumentError(f"metadata {key!r}: the value must be str, not {type(value).__name__}")
