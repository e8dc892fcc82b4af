"""WebDataset tars: what lies in them, under which names.

A sample is the members of one stem, the path up to the first dot of its last part; what follows the dot says which
field of the sample a member is. Ours are called ``<column>.<ending>``, those of subsamples
``<column>@<subsample>.<ending>``.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from hangar_cloud.backends.errors import redact_url
from hangar_cloud.errors import HangarError, ObjectNotFoundError, UnreadableFileError
from hangar_cloud.external.file_errors import file_errors, open_source

# The webdataset library passes over members with such names.
NOTE: Final = "__hangar__"
SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
MAX_MEMBER_BYTES: Final = 2**31


class _StrictInfo(tarfile.TarInfo):
    """`tarfile` takes a head that is damaged or cut off for the end of the tar, and all behind it would be missed."""

    @classmethod
    def fromtarfile(cls, tarfile_: Any) -> Any:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":
                raise
            raise tarfile.ReadError(f"it is damaged or cut off at byte {tarfile_.offset:,}: {error}") from error


class Member(NamedTuple):
    """A file in a tar; its bytes are read when they are asked for, before the next member is.

    Attributes:
        stem: which sample it is of.
        field: which field of it.
        size: in bytes.
        where: what messages call it.
    """

    stem: str
    field: str
    size: int
    where: str
    tar: Any
    info: Any

    def read(self) -> bytes:
        """Its bytes. Raises UnreadableFileError where it is cut off or too large."""
        if self.size > MAX_MEMBER_BYTES or self.info.issparse():
            raise UnreadableFileError(f"{self.where}: {self.size:,} bytes, the most is {MAX_MEMBER_BYTES:,}")
        try:
            data: bytes = self.tar.extractfile(self.info).read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise UnreadableFileError(f"{self.where}: the tar is damaged: {error}") from error
        if len(data) != self.size:
            raise UnreadableFileError(f"{self.where}: the tar is cut off")
        return data


def find_tars(path: str) -> list[str]:
    """The tars of a dataset: `path` itself, or those in the folder, in the order of their names."""
    if "://" in path or os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise ObjectNotFoundError(f"there is no file or folder {path}")
    names = sorted(name for name in os.listdir(path) if name.endswith(SUFFIXES) and not name.startswith("."))
    if not names:
        raise UnreadableFileError(f"there are no .tar files in {path}")
    return [os.path.join(path, name) for name in names]


def members_of(path: str, storage_options: Mapping[str, Any] | None = None) -> Generator[Member, None, None]:
    """The files in a tar, in order; the note of an export of ours has an empty field."""
    said = redact_url(path)
    try:
        with file_errors(f"cannot read {said}"), _opened(path, storage_options) as tar:
            for info in tar:
                if info.isreg():
                    yield _member(tar, info, said)
    except HangarError:
        raise
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UnreadableFileError(
            f"{said}: this is no whole tar: {str(error).splitlines()[0].rstrip(':- ')}"
        ) from error


def _member(tar: Any, info: Any, said: str) -> Member:
    name = info.name.removeprefix("./")
    folder, slash, last = name.rpartition("/")
    stem, _, field = last.partition(".")
    return Member(folder + slash + stem, field, info.size, f"{said}, {info.name}", tar, info)


@contextmanager
def _opened(path: str, storage_options: Mapping[str, Any] | None) -> Iterator[Any]:
    if "://" not in path:
        with tarfile.open(path, "r:*", tarinfo=_StrictInfo) as tar:
            yield tar
        return
    # As a stream: a bucket is read once, from its beginning to its end.
    with open_source(path, storage_options) as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictInfo) as tar:
        yield tar
