"""The columns of a checkout, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from hangar_cloud.alive import Alive
from hangar_cloud.catalog.keys import KeyType
from hangar_cloud.catalog.near_names import did_you_mean
from hangar_cloud.column import ColumnReader
from hangar_cloud.errors import ClosedError, ColumnNotFoundError, ReadOnlyError
from hangar_cloud.notebook import columns_table, facts_table

if TYPE_CHECKING:
    from hangar_cloud.schema_change import ColumnChanges

_RAISE: Final = object()
Remover = Callable[[str], str]


class Columns:
    """A mapping from column names to columns.

    Args:
        names: gives the names there are now, in order.
        open_column: gives the column of a name that exists.
        alive: refuses once the checkout is closed.
        remove: removes a column; None in a reader.
        changes: alters and renames columns; None in a reader.
        checkout: gives the checkout, for pickling; None in a writer.
    """

    def __init__(
        self,
        names: Callable[[], Collection[str]],
        open_column: Callable[[str], ColumnReader],
        alive: Alive,
        remove: Remover | None = None,
        changes: ColumnChanges | None = None,
        checkout: Callable[[], Any] | None = None,
    ) -> None:
        self._names = names
        self._open = open_column
        self._alive = alive
        self._remove = remove
        self._changes = changes
        self._checkout = checkout

    def __getitem__(self, key: str) -> Any:
        """The column of that name. Raises KeyError where there is none; it names those there are."""
        self._alive()
        if key not in self:
            known = f"{', '.join(self._names()) or 'none'}{did_you_mean(key, self._names())}"
            raise ColumnNotFoundError(f"there is no column {key!r}; there is: {known}")
        return self._open(key)

    def get(self, name: str, default: Any = _RAISE) -> Any:
        """The column of that name, as by ``columns[name]``: KeyError where there is none, unless `default` is given.

        `Checkout.get` is the one that gives None for a column that is not there.
        """
        return self[name] if default is _RAISE or name in self else default

    def __contains__(self, key: object) -> bool:
        """True if there is a column of that name."""
        self._alive()
        return isinstance(key, str) and key in self._names()

    def __len__(self) -> int:
        """Number of columns."""
        self._alive()
        return len(self._names())

    def __iter__(self) -> Iterator[str]:
        self._alive()
        return iter(list(self._names()))

    def keys(self) -> list[str]:
        """Names of the columns."""
        self._alive()
        return list(self._names())

    def values(self) -> Iterator[Any]:
        """The columns."""
        return (self[name] for name in self.keys())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and columns."""
        return ((name, self[name]) for name in self.keys())

    def __delitem__(self, key: str) -> None:
        self.delete(key)

    def delete(self, column: str) -> str:
        """Remove a column and all its samples from what will be committed; returns its name.

        Raises:
            KeyError: no such column.
            PermissionError: inside a ``with`` block, or in a reader.
        """
        self._alive()
        if self._remove is None:
            raise ReadOnlyError("columns of a read-only checkout cannot be removed; use checkout(write=True)")
        return self._remove(column)

    def alter(self, name: str, dtype: Any = None, shape: Any = None, variable_shape: bool | None = None) -> Any:
        """Give a column of arrays another dtype, shape (or maximum) or kind of shape; what is None stays.

        Every value is checked, staged ones too: it must be the same number, bit for bit once cast back, and of a
        shape that fits. With another dtype all values are written anew; a change of shapes rewrites no value.

        Returns:
            the column; handles that were taken before stay valid.

        Raises:
            ValueError: some value would lose something; the first is named, and nothing was changed.
            KeyError: no such column.
            PermissionError: inside a ``with`` block, or in a reader.
        """
        self._changer("altered").alter(name, dtype, shape, variable_shape)
        return self._open(name)

    def rename(self, name: str, new_name: str) -> Any:
        """Give a column another name, with all its samples; no data is moved.

        Returns:
            the column under its new name; handles that were taken before refuse.

        Raises:
            ValueError: the name cannot be one.
            LookupError: there is a column of the new name, or (KeyError) none of the old.
            PermissionError: inside a ``with`` block, or in a reader.
        """
        self._changer("renamed").rename(name, new_name)
        return self._open(new_name)

    def _changer(self, what: str) -> ColumnChanges:
        self._alive()
        if self._changes is None:
            raise ReadOnlyError(f"columns of a read-only checkout cannot be {what}; use checkout(write=True)")
        return self._changes

    @property
    def iswriteable(self) -> bool:
        """True in a checkout for writing."""
        self._alive()
        return self._remove is not None

    @property
    def contains_remote_references(self) -> Mapping[str, bool]:
        """For each column, whether any of its values is not on this machine."""
        return {name: column.contains_remote_references for name, column in self.items()}

    @property
    def remote_sample_keys(self) -> Mapping[str, Iterable[KeyType]]:
        """For each column, the keys whose values are not on this machine."""
        return {name: column.remote_reference_keys for name, column in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        self._alive()
        if self._checkout is None:
            raise ClosedError(
                "the columns of a checkout for writing cannot be pickled; pickle those of a reader checkout"
            )
        return _columns_of, (self._checkout(),)

    def _ipython_key_completions_(self) -> list[str]:
        return self.keys()

    def _repr_html_(self) -> str:
        """The table that notebooks show; nothing is fetched for it."""
        self._alive()
        facts = [("Writeable", self.iswriteable), ("Number of Columns", len(self))]
        return facts_table("Hangar Columns", facts) + columns_table(self.values())

    def __repr__(self) -> str:
        self._alive()
        rows = [f"\n      - {name} / {column.contains_remote_references}" for name, column in self.items()]
        return (
            "Hangar Columns"
            f"\n    Writeable         : {self.iswriteable}"
            f"\n    Number of Columns : {len(self)}"
            "\n    Column Names / Partial Remote References:" + ("".join(rows) or "\n      -")
        )


def _columns_of(checkout: Any) -> Columns:
    """The columns of a checkout, from a pickle."""
    columns: Columns = checkout.columns
    return columns
