"""The one module that speaks to TileDB: writing an array into a folder, and reading boxes of it.

TileDB keeps threads, so nothing of it survives a fork: each process has a context of its own.
"""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.array_format import ArrayFiles, ArrayHead
from hangar_cloud.backends.array_options import Filter
from hangar_cloud.backends.errors import CorruptDataError, StoreError

_WRITTEN_AT: Final = 1
_UNTIL: Final = 2**63 - 1
_DATA: Final = "a0.tdb"
_METADATA: Final = "__fragment_metadata.tdb"
_open: Final[weakref.WeakSet[OpenArray]] = weakref.WeakSet()

Elements = npt.NDArray[Any]


def element_type(width: int) -> np.dtype[Any]:
    """What TileDB is told an element of so many bytes is."""
    return np.dtype(f"<u{min(width, 8)}")


def as_elements(raw: bytes | memoryview, shape: Sequence[int], width: int) -> Elements:
    """Raw bytes as unsigned integers of a shape; elements of more than 8 bytes have one more dimension."""
    return np.frombuffer(raw, element_type(width)).reshape(*shape, *_parts(width))


def write_array(
    folder: Path, elements: Elements, tile: Sequence[int], filters: Sequence[Filter] | ArrayHead
) -> tuple[ArrayFiles, bytes]:
    """Write samples as one dense array, in one write, and take it apart.

    Args:
        folder: an empty folder.
        elements: of shape ``(samples, *shape)``, and one more dimension where an element has more than 8 bytes.
        tile: of one sample, in elements.
        filters: names and levels; or the array whose filters are taken, which lies in `folder`.

    Returns:
        the files that TileDB keeps beside the data, and the data.

    Raises:
        StoreError: TileDB could not write it.
    """
    import tiledb

    place = folder / "new"
    with _told_writing(folder):
        sides = [1, *tile, *elements.shape[len(tile) + 1 :]]
        dimensions = [
            tiledb.Dim(name=f"d{i}", domain=(0, size - 1), tile=side, dtype=np.uint64, ctx=_context())
            for i, (size, side) in enumerate(zip(elements.shape, sides, strict=True))
        ]
        chain = _as_tiledb(filters) if not isinstance(filters, ArrayHead) else _filters_in(folder)
        schema = tiledb.ArraySchema(
            domain=tiledb.Domain(*dimensions, ctx=_context()),
            attrs=[tiledb.Attr(dtype=elements.dtype, filters=chain, ctx=_context())],
            cell_order="row-major",
            tile_order="row-major",
            ctx=_context(),
        )
        tiledb.Array.create(str(place), schema, ctx=_context())
        # A time of its own would be in the future for a reader whose clock is behind.
        with tiledb.open(str(place), "w", timestamp=_WRITTEN_AT, ctx=_context()) as array:
            array[:] = elements
        (schema_file,) = (path for path in (place / "__schema").iterdir() if path.is_file())
        (fragment,) = (place / "__fragments").iterdir()
        files = ArrayFiles(
            schema_file.name, schema_file.read_bytes(), fragment.name, (fragment / _METADATA).read_bytes()
        )
        return files, (fragment / _DATA).read_bytes()


def lay_out(folder: Path, head: ArrayHead) -> Path:
    """Make the files of an array in an empty folder, as TileDB wants them; gives that of the data, which is a hole."""
    files = head.files
    fragment = folder / "__fragments" / files.fragment_name
    for made in (folder / "__schema", folder / "__commits", fragment):
        made.mkdir(parents=True)
    (folder / "__schema" / files.schema_name).write_bytes(files.schema)
    (folder / "__commits" / f"{files.fragment_name}.wrt").touch()
    (fragment / _METADATA).write_bytes(files.fragment)
    with (fragment / _DATA).open("wb") as data:
        data.truncate(head.lead.data_length)
    return fragment / _DATA


class OpenArray:
    """An array in a folder, open for reading.

    Args:
        folder: laid out by `lay_out`.
        head: what its extent says of it.

    Raises:
        CorruptDataError: TileDB finds another array there.
    """

    def __init__(self, folder: Path, head: ArrayHead) -> None:
        import tiledb

        self._head = head
        with _told_reading():
            self._array = tiledb.open(str(folder), "r", timestamp=(0, _UNTIL), ctx=_context())
        _open.add(self)
        try:
            with _told_reading():
                self._refuse_another()
        except BaseException:
            self.close()
            raise

    def read(self, lows: Sequence[int], highs: Sequence[int], samples: slice) -> Elements:
        """A box of some samples; `lows` and `highs` bound it in each dimension.

        Returns:
            unsigned integers, of shape ``(samples, *box)`` and, of elements of more than 8 bytes, one more dimension.

        Raises:
            CorruptDataError: the tiles do not decode.
        """
        rest = [slice(0, n) for n in _parts(self._head.lead.width)]
        box = tuple(slice(low, high) for low, high in zip(lows, highs, strict=True))
        with _told_reading():
            return np.asarray(self._array[(samples, *box, *rest)])

    def close(self) -> None:
        """Close it."""
        self._array.close()

    def _refuse_another(self) -> None:
        """What TileDB decodes, and in how much memory, is what its own files say: they must say what the head does."""
        head, schema = self._head, self._array.schema
        parts = _parts(head.lead.width)
        shape, tile = (head.lead.samples, *head.shape, *parts), (1, *head.tile, *parts)
        dimensions = [schema.domain.dim(i) for i in range(schema.domain.ndim)]
        found = [(*map(int, one.domain), int(one.tile)) for one in dimensions if one.dtype == np.uint64]
        if (
            schema.sparse
            or schema.nattr != 1
            or schema.attr(0).dtype != element_type(head.lead.width)
            or schema.attr(0).isnullable
            or (schema.cell_order, schema.tile_order) != ("row-major", "row-major")
            or found != [(0, n - 1, t) for n, t in zip(shape, tile, strict=True)]
        ):
            raise CorruptDataError("the files of an array are not those that its head describes")


def _parts(width: int) -> tuple[int, ...]:
    return (width // 8,) if width > 8 else ()


def _as_tiledb(filters: Sequence[Filter]) -> Any:
    import tiledb

    made = {
        "zstd": tiledb.ZstdFilter,
        "gzip": tiledb.GzipFilter,
        "bzip2": tiledb.Bzip2Filter,
        "lz4": tiledb.LZ4Filter,
        "rle": tiledb.RleFilter,
        "byteshuffle": tiledb.ByteShuffleFilter,
        "bitshuffle": tiledb.BitShuffleFilter,
    }
    levels = [{} if level is None else {"level": level} for _, level in filters]
    chain = [made[name](ctx=_context(), **more) for (name, _), more in zip(filters, levels, strict=True)]
    return tiledb.FilterList(chain, ctx=_context())


def _filters_in(folder: Path) -> Any:
    import tiledb

    return tiledb.ArraySchema.load(str(folder), ctx=_context()).attr(0).filters


def open_vfs(settings: Mapping[str, str]) -> Any:
    """TileDB's file system with settings of its own, for `backends/store/vfs.py`."""
    import tiledb

    return tiledb.VFS(config=tiledb.Config(dict(settings)), ctx=_context())


def _context() -> Any:
    return _context_of(os.getpid())


@functools.cache
def _context_of(process: int) -> Any:
    import tiledb

    fork = getattr(os, "fork", None)
    # Its own handling of signals would take Control-C from Python.
    context = tiledb.Ctx(tiledb.Config({"sm.enable_signal_handlers": "false"}))
    if fork is not None:
        # TileDB puts something in the place of `os.fork` that warns of its threads. Workers that are forked use none of
        # them, since they get a context of their own here, and would warn whoever reads a column in them.
        os.fork = fork
        os.register_at_fork(after_in_child=functools.partial(_keep_for_ever, context))
    return context


def _keep_for_ever(context: Any) -> None:
    """In a forked child, what the parent had must not be destroyed, not even at the child's end.

    It would wait for threads that are not there: what Python holds, when Python ends; and what the library holds, when
    the process does, for which reason that then ends at once.
    """
    for kept in (context, *(array._array for array in list(_open))):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):
        library.on_exit(ctypes.cast(library._exit, ctypes.c_void_p), None)


@contextmanager
def _told_writing(folder: Path) -> Iterator[None]:
    import tiledb

    try:
        yield
    except (tiledb.TileDBError, OSError) as error:
        raise StoreError(
            f"an array cannot be written in {folder}: {error}. If the disk is full, free some space or set TMPDIR to "
            "another folder, and write the samples again; nothing was stored"
        ) from error


@contextmanager
def _told_reading() -> Iterator[None]:
    import tiledb

    try:
        yield
    except (tiledb.TileDBError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, CorruptDataError):
            raise
        raise CorruptDataError(f"TileDB cannot read an array: {error}") from error
