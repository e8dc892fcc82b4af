"""What a plugin is: how files of some formats become samples, and samples such files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from hangar_cloud.errors import InvalidArgumentError, PluginError

METHODS: Final = ("load", "save", "show", "board_show")


class ArrayFacts(NamedTuple):
    """What can be told of a sample before it is decoded.

    Attributes:
        dtype: numpy dtype with its byte order.
        shape: exactly that of the array that `load` would give.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class BasePlugin:
    """The base of all plugins.

    A plugin is a class that is made without arguments and is named as an entry point in the group
    ``hangar_cloud.external.plugins`` (or Hangar's, ``hangar.external.plugins``). The name of the entry point is the
    plugin's.

    Args:
        provides: which of "load", "save", "show" and "board_show" it has.
        accepts: the endings of files that it is for, without the dot: ``["jpg", "png"]``.

    Raises:
        ValueError: one of the two is empty, or names something else.
    """

    def __init__(self, provides: Iterable[str], accepts: Iterable[str]) -> None:
        if isinstance(provides, str) or isinstance(accepts, str):
            raise InvalidArgumentError("a plugin's `provides` and `accepts` are lists of text, not one text")
        self._provides = tuple(provides)
        self._accepts = tuple(accepts)
        unknown = sorted(set(self._provides) - set(METHODS))
        if not self._provides or unknown:
            raise InvalidArgumentError(
                f"a plugin's `provides` names what it can do, out of {', '.join(METHODS)}; not {list(self._provides)}"
            )
        if not self._accepts:
            raise InvalidArgumentError("a plugin's `accepts` names the endings of files that it is for; it is empty")

    @property
    def provides(self) -> tuple[str, ...]:
        """Which methods it has."""
        return self._provides

    @property
    def accepts(self) -> tuple[str, ...]:
        """The endings of files that it is for."""
        return self._accepts

    def load(self, fpath: Any, *args: Any, **kwargs: Any) -> tuple[Any, str] | Iterator[tuple[Any, str]]:
        """Read a file: a pair (array, sample name), or an iterator of such pairs where it holds several samples."""
        raise self._cannot("load")

    def save(self, arr: Any, outdir: Any, sample_detail: str, extension: str, *args: Any, **kwargs: Any) -> Any:
        """Write a sample into the folder `outdir`, which exists.

        Args:
            arr: the sample.
            outdir: the folder.
            sample_detail: the sample's key with its type: ``str:cat/001``, ``int:7``.
            extension: of the file to write.
        """
        raise self._cannot("save")

    def show(self, arr: Any, *args: Any, **kwargs: Any) -> Any:
        """Show a sample to the person at this machine."""
        raise self._cannot("show")

    def board_show(self, arr: Any, *args: Any, **kwargs: Any) -> Any:
        """A form of the sample for a web page."""
        raise self._cannot("board_show")

    def describe(self, fpath: Any, *args: Any, **kwargs: Any) -> ArrayFacts | None:
        """dtype and shape of the sample in a file without decoding it; None where that cannot be told.

        `hangar import` asks for it before it makes a column. Where a plugin does not have it, each file is decoded
        twice then.
        """
        return None

    @staticmethod
    def sample_name(fpath: str | os.PathLike[str]) -> str:
        """The name of a file without folders and ending: ``myfile`` for ``/path/to/myfile.ext``."""
        return os.path.splitext(os.path.basename(os.fspath(fpath)))[0]

    def _cannot(self, what: str) -> PluginError:
        return PluginError(f"the plugin {type(self).__name__} does not have {what!r}; it has {list(self._provides)}")
